"""Skin colour and light intensity: the tone with the light's gain, then the rest of the albedo.

One photo hardly tells dark skin in strong light from light skin in weak light: along that valley decide
weak cues (the whites of the eyes, the strength of highlights, light between skin and skin) and priors (the
pigments of skin, a camera's exposure and white balance), and per-parameter steps get lost in it. So the
tone and the light's gains are solved jointly, on bare skin only - the contrast of brows and lips says more
about brows and lips than about tone - and the remaining albedo coefficients then follow on all of the skin.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .scleras import ScleraCue
from .targets import encode, encode_slope
from .whitened import WhitenedModel, soft_range, soft_range_slope

EXPOSURE_MEAN, EXPOSURE_SD = math.log(0.9), 0.35  # log irradiance/pi: brighter would clip white things
CAST_SD = 0.10  # log colour cast of the light as a whole: cameras balance white
TONE_TRUST = 0.05  # of the data when it speaks about tone: what the model cannot draw passes for dark skin
GLOSS_SD = 0.25  # log factor between people, and between the assumed and the true light level
_ROUNDS = 4
_RIDGE = 1e-6  # of the modes' mean square: modes that skin does not show stay where they are
_MAX_Z = 3.5
# Log absorption per channel of the two skin pigments and how far people differ in them: melanin rises gently
# towards blue, haemoglobin absorbs green and blue (shapes after Anderson & Parrish 1981).
_MELANIN = (1.0, 1.14, 1.22)
_HAEMOGLOBIN = (0.06, 1.0, 0.80)
_MELANIN_SD, _HAEMOGLOBIN_SD, _OTHER_SD = 0.55, 0.15, 0.08


class ToneCurve:
    """Skin tones as the model's albedo coefficients.

    Pigment multiplies light, so tones lie on a curve in a linear albedo model: z(t) is what comes nearest to
    the mean albedo with its skin multiplied by exp(t), t (3,) per channel. Nearness is asked for on skin, and
    of eyes and teeth, which keep their colour. A fit is z = z(t) + r; the prior on t is that of the pigments,
    r keeps the variance that tones leave over.
    """

    def __init__(self, white: WhitenedModel) -> None:
        basis = white.diffuse.view(len(white.diffuse), -1, 3)
        weight = torch.maximum(white.skin, white.inner)[None, :, None]
        normal = (basis * weight).flatten(1) @ basis.flatten(1).T
        normal += torch.eye(len(normal)).to(normal) * (_RIDGE * normal.diagonal().mean())
        skin = (white.diffuse_mean * (1 - white.inner)[:, None])[None] * weight
        right = (basis * skin).sum(1)  # (A, 3)
        solved = torch.linalg.solve(normal.double(), right.double())
        self._directions = solved.T.to(normal).contiguous()  # (3, A)
        melanin, blood = torch.tensor(_MELANIN), torch.tensor(_HAEMOGLOBIN)
        covariance = (
            _MELANIN_SD**2 * torch.outer(melanin, melanin)
            + _HAEMOGLOBIN_SD**2 * torch.outer(blood, blood)
            + _OTHER_SD**2 * torch.eye(3)
        )
        self.covariance = covariance.to(white.diffuse)
        self.precision = torch.linalg.inv(covariance).to(white.diffuse)

    def __call__(self, tone: Tensor) -> Tensor:
        """z-scores (A,) of a tone (3,)."""
        return tone.expm1() @ self._directions

    def slope(self, tone: Tensor) -> Tensor:
        """Derivative of the z-scores with respect to the tone, (A, 3)."""
        return (tone.exp()[:, None] * self._directions).T

    def precision_beside(self, tone: Tensor) -> Tensor:
        """Prior precision (A,) of r beside a tone (3,): pigments multiply, so dark skin varies less."""
        return self.rest_precision * (-2 * tone.mean()).exp()

    @cached_property
    def rest_precision(self) -> Tensor:
        """Prior precision (A,) of r beside the mean tone: what tones leave over of unit variance."""
        factor = torch.linalg.cholesky(self.covariance.cpu().double())
        grid = torch.tensor([-1.2, 0.0, 1.2], dtype=torch.float64)
        tones = torch.cartesian_prod(grid, grid, grid) @ factor.T
        spread = torch.stack([self(t.to(self._directions)) for t in tones]).var(0)
        return 1 / (1 - spread).clamp(min=0.06)


@dataclass(frozen=True)
class ReflectanceSamples:
    """Samples of one photo (P): radiance = colour(z) * diffuse + specular."""

    mean: Tensor  # (P, 3) mean base colour
    basis: Tensor  # (P, 3, A) per z-score
    diffuse: Tensor  # (P, 3) irradiance / pi
    specular: Tensor  # (P, 3)
    encoded: Tensor  # (P, 3) the photo, code values
    weight: Tensor  # (P,) so that the weighted squared code-value error is the data term
    bare: Tensor  # (P,) the same on bare skin only
    log_level: Tensor  # (3,) log irradiance/pi of the light on a surface that faces the camera
    sclera: ScleraCue | None = None  # what the whites of the eyes say about the light

    def radiance(self, z: Tensor, gain: Tensor, gloss: Tensor) -> tuple[Tensor, Tensor]:
        """Radiance (P, 3) and raw colour (P, 3), the specular part being exp(gloss) of what it is now."""
        raw = self.mean + self.basis @ z
        return (soft_range(raw, 0.004, 0.96) * self.diffuse + self.specular * gloss.exp()) * gain.exp(), raw

    def light_rows(self, gain: Tensor) -> tuple[Tensor, Tensor]:
        """What is known of the light but for the skin, as least-squares rows in the gain: Jacobian (R, 3),
        residual (R,)."""
        log = self.log_level + gain
        mean = torch.full((3, 3), 1 / 3).to(log)
        jacobian = torch.cat([mean[:1] / EXPOSURE_SD, (torch.eye(3).to(log) - mean) / CAST_SD])
        residual = torch.cat([(log.mean() - EXPOSURE_MEAN)[None] / EXPOSURE_SD, (log - log.mean()) / CAST_SD])
        if self.sclera is None:
            return jacobian, residual
        rows, gaps = self.sclera.rows(gain)
        return torch.cat([jacobian, rows]), torch.cat([residual, gaps])


@dataclass(frozen=True)
class SkinColour:
    """What is known of an identity's colour: tone (3,), rest (A,), and their z-scores together."""

    tone: Tensor
    rest: Tensor

    def z(self, curve: ToneCurve) -> Tensor:
        """Albedo z-scores (A,)."""
        return (curve(self.tone) + self.rest).clamp(-_MAX_Z * 2, _MAX_Z * 2)


@torch.no_grad()
def solve_tone(
    photos: list[ReflectanceSamples],
    start: SkinColour,
    curve: ToneCurve,
    prior_weight: float,
    log_gloss: Tensor,
) -> tuple[SkinColour, Tensor, Tensor]:
    """Best skin colour, log gloss () and log light gains (n, 3) for the samples of n photos.

    Starts at `start`, the `log_gloss` that the samples were drawn with, and gains of 0. Gloss is solved for
    together with the light: alone it would take up what the light lacks. Levenberg-Marquardt with almost no
    damping: the valley is flat, and the priors are weak beside the data.
    """
    count = len(start.rest)
    shared = count + 4  # rest, tone, gloss
    x = torch.cat([start.rest, start.tone, log_gloss[None], torch.zeros(3 * len(photos)).to(start.rest)])
    prior = torch.zeros(len(x), len(x)).to(x)
    prior[:count, :count] = torch.diag(curve.precision_beside(start.tone))
    prior[count : count + 3, count : count + 3] = curve.precision
    prior *= prior_weight
    prior[count + 3, count + 3] = 1 / GLOSS_SD**2

    def parts(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return x[:count], x[count : count + 3], x[count + 3] - log_gloss, x[shared:].view(-1, 3)

    def cost(x: Tensor) -> float:
        rest, tone, gloss, gains = parts(x)
        total = float(x @ prior @ x)
        for photo, gain in zip(photos, gains, strict=True):
            radiance, _ = photo.radiance(curve(tone) + rest, gain, gloss)
            total += float((TONE_TRUST * photo.bare[:, None] * (encode(radiance) - photo.encoded) ** 2).sum())
            total += float((photo.light_rows(gain)[1] ** 2).sum())
        return total

    def linearised(x: Tensor) -> tuple[Tensor, Tensor]:
        rest, tone, gloss, gains = parts(x)
        hessian, right = prior.clone(), -prior @ x
        tone_slope = curve.slope(tone)
        for k, (photo, gain) in enumerate(zip(photos, gains, strict=True)):
            radiance, raw = photo.radiance(curve(tone) + rest, gain, gloss)
            root = (TONE_TRUST * photo.bare).sqrt()[:, None]
            slope = encode_slope(radiance) * root
            error = ((photo.encoded - encode(radiance)) * root).reshape(-1)
            by_colour = soft_range_slope(raw, 0.004, 0.96) * photo.diffuse * gain.exp() * slope
            span = slice(shared + 3 * k, shared + 3 * k + 3)
            by_rest = photo.basis * by_colour[:, :, None]
            by_gloss = (photo.specular * (gloss + gain).exp() * slope)[:, :, None]
            by_gain = torch.diag_embed(radiance * slope)
            flat = torch.cat([by_rest, by_rest @ tone_slope, by_gloss, by_gain], 2).view(-1, shared + 3)
            own = torch.cat([torch.arange(shared), torch.arange(span.start, span.stop)]).to(x.device)
            hessian[own[:, None], own] += flat.T @ flat
            right[own] += flat.T @ error
            rows, residual = photo.light_rows(gain)
            hessian[span, span] += rows.T @ rows
            right[span] -= rows.T @ residual
        return hessian, right

    x = _descend(x, cost, linearised, count)
    rest, tone, gloss, gains = parts(x)
    return SkinColour(tone, rest), gloss + log_gloss, gains


@torch.no_grad()
def solve_rest(
    photos: list[ReflectanceSamples], start: SkinColour, curve: ToneCurve, prior_weight: float
) -> SkinColour:
    """The albedo coefficients beyond the tone that fit the samples best."""
    base = curve(start.tone)
    prior = curve.precision_beside(start.tone) * prior_weight
    still, same = torch.zeros(3).to(base), torch.zeros(()).to(base)

    def cost(rest: Tensor) -> float:
        total = float((prior * rest**2).sum())
        for photo in photos:
            radiance, _ = photo.radiance(base + rest, still, same)
            total += float((photo.weight[:, None] * (encode(radiance) - photo.encoded) ** 2).sum())
        return total

    def linearised(rest: Tensor) -> tuple[Tensor, Tensor]:
        hessian, right = torch.diag(prior), -prior * rest
        for photo in photos:
            radiance, raw = photo.radiance(base + rest, still, same)
            slope = encode_slope(radiance) * photo.weight.sqrt()[:, None]
            error = ((photo.encoded - encode(radiance)) * photo.weight.sqrt()[:, None]).reshape(-1)
            by_colour = soft_range_slope(raw, 0.004, 0.96) * photo.diffuse * slope
            jacobian = (photo.basis * by_colour[:, :, None]).view(-1, len(rest))
            hessian = hessian + jacobian.T @ jacobian
            right = right + jacobian.T @ error
        return hessian, right

    return SkinColour(start.tone, _descend(start.rest, cost, linearised, len(start.rest)))


def _descend(
    x: Tensor,
    cost: Callable[[Tensor], float],
    linearised: Callable[[Tensor], tuple[Tensor, Tensor]],
    bounded: int,
) -> Tensor:
    """Damped Gauss-Newton on half of `cost`; the first `bounded` unknowns stay within +-`_MAX_Z`."""
    damping, current = 1e-7, cost(x)
    for _ in range(_ROUNDS):
        hessian, right = linearised(x)
        for _ in range(8):
            new = x + torch.linalg.solve(hessian + damping * torch.diag(hessian.diagonal()), right)
            new[:bounded] = new[:bounded].clamp(-_MAX_Z, _MAX_Z)
            value = cost(new)
            if value < current:
                break
            damping = max(damping, 1e-5) * 8
        else:
            break
        done = current - value < 1e-4 * current
        x, current, damping = new, value, damping * 0.1
        if done:
            break
    return x
