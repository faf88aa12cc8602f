"""Skin colour: the tone from priors, the rest of the coefficients from the photo."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from nextgenface.fitting import reflectance
from nextgenface.fitting.reflectance import ReflectanceSamples, SkinColour, ToneCurve
from nextgenface.fitting.scleras import ScleraCue
from nextgenface.fitting.targets import encode
from nextgenface.fitting.whitened import WhitenedModel, whiten

from tests.solver.small_face import small_model

pytestmark = pytest.mark.usefixtures("one_thread")


@lru_cache(maxsize=1)
def _white() -> WhitenedModel:
    return whiten(small_model(), "cpu")


def _samples(
    z: torch.Tensor, *, specular: float = 0.02, gain: torch.Tensor | None = None, weight: float = 50.0
) -> ReflectanceSamples:
    """What a photo of skin with z-scores `z` shows at every vertex, under light that varies a little.

    The light is taken for a usual one; the true one is exp(`gain`) (3,) times as strong.
    """
    w = _white()
    count = len(w.neutral)
    g = torch.Generator().manual_seed(0)
    diffuse = 0.75 + 0.5 * torch.rand(count, 1, generator=g).expand(count, 3)
    gloss = specular * torch.rand(count, 1, generator=g).expand(count, 3)
    photo = (w.colour(z) * diffuse + gloss) * (1.0 if gain is None else gain.exp())
    return ReflectanceSamples(
        mean=w.diffuse_mean,
        basis=w.diffuse.view(len(z), count, 3).permute(1, 2, 0),
        diffuse=diffuse,
        specular=gloss,
        encoded=encode(photo),
        weight=torch.full((count,), weight),
        bare=torch.full((count,), weight),
        log_level=torch.full((3,), reflectance.EXPOSURE_MEAN),
    )


def test_a_tone_multiplies_the_mean_skin() -> None:
    w = _white()
    curve = ToneCurve(w)
    assert curve(torch.zeros(3)).abs().max() < 1e-5
    darker, redder = torch.tensor([-0.4, -0.45, -0.5]), torch.tensor([0.0, -0.15, -0.12])
    for tone in (darker, redder):
        change = (w.colour(curve(tone)) / w.diffuse_mean.clamp(min=1e-3)).log().median(0).values
        assert torch.allclose(change, tone, atol=0.1)
    assert (torch.linalg.eigvalsh(curve.precision) > 0).all()
    assert curve.rest_precision.min() >= 1 - 1e-5  # tones take up variance, they add none


def _tone(*photos: ReflectanceSamples) -> tuple[torch.Tensor, torch.Tensor]:
    """Tone (3,) and light gains (n, 3) for photos, from the mean skin."""
    count = len(_white().diffuse_sd)
    start = SkinColour(torch.zeros(3), torch.zeros(count))
    colour, _, gains = reflectance.solve_tone(list(photos), start, ToneCurve(_white()), 1.0, torch.zeros(()))
    assert gains.shape == (len(photos), 3) and colour.rest.shape == (count,)
    return colour.tone, gains


def test_the_tone_obeys_the_priors() -> None:
    """Photos fix tone times light: the split follows pigments, exposure and white balance."""
    zero = torch.zeros(len(_white().diffuse_sd))
    # mean skin in the usual light needs no change
    tone, gains = _tone(_samples(zero, specular=0.0))
    assert tone.abs().max() < 0.02 and gains.abs().max() < 0.02
    # a dark picture is partly dark skin, partly dim light
    dim = torch.full((3,), -0.6)
    tone, gains = _tone(_samples(zero, specular=0.0, gain=dim))
    assert (tone < 0).all() and (tone > -0.6).all() and (gains < 0).all()
    assert (tone + gains[0]).mean().item() == pytest.approx(-0.6, abs=0.1)
    # several photos, each dark, are more likely dark skin than always dim light
    several, _ = _tone(*[_samples(zero, specular=0.0, gain=dim)] * 4)
    assert several.mean() < tone.mean()
    # no pigment makes skin blue: a blue cast is light
    tone, gains = _tone(_samples(zero, specular=0.0, gain=torch.tensor([-0.2, 0.0, 0.2])))
    assert gains[0, 2] - gains[0, 0] > 0.15
    # melanin is browner than a grey change of light
    brown, _ = _tone(_samples(ToneCurve(_white())(torch.tensor([-0.5, -0.6, -0.65])), specular=0.0))
    assert brown[0] > brown[2] and brown.mean() < -0.15


def test_the_split_is_the_most_probable_one() -> None:
    """With the product p known for sure: argmin over t of t'Pt + |J (p - t)|^2, J the prior on the light.

    The skin here has one colour and tones are all it varies in, so a photo says the product and no more.
    """
    w = _white()
    count, sd = len(w.neutral), 0.01
    colour = torch.tensor([0.5, 0.36, 0.29]).expand(count, 3)
    channels = torch.eye(3)[:, None].expand(3, count, 3) / count**0.5
    plain = replace(
        w, diffuse_mean=colour, diffuse=(channels * sd).reshape(3, -1), diffuse_sd=torch.full((3,), sd)
    )
    curve = ToneCurve(plain)
    product = torch.tensor([-0.55, -0.65, -0.7])
    photo = replace(
        _samples(torch.zeros(len(w.diffuse_sd)), specular=0.0, weight=500.0),
        mean=colour,
        basis=plain.diffuse.view(3, count, 3).permute(1, 2, 0),
        diffuse=torch.ones(count, 3),
        encoded=encode(colour * product.exp()),
    )
    start = SkinColour(torch.zeros(3), torch.zeros(3))
    found, _, gains = reflectance.solve_tone([photo], start, curve, 1.0, torch.zeros(()))
    mean = torch.full((3, 3), 1 / 3)
    rows = torch.cat([mean[:1] / reflectance.EXPOSURE_SD, (torch.eye(3) - mean) / reflectance.CAST_SD])
    light = rows.T @ rows
    expected = torch.linalg.solve(curve.precision + light, light @ product)
    assert (found.tone - expected).abs().max() < 0.01, (found.tone, expected)
    assert (found.tone + gains[0] - product).abs().max() < 0.01


def test_tone_and_light_minimise_what_they_are_said_to() -> None:
    """A general minimiser finds the same tone and light for the written-out sum of data and priors."""
    w = _white()
    curve = ToneCurve(w)
    count = len(w.diffuse_sd)
    photo = _samples(torch.zeros(count), gain=torch.tensor([-0.55, -0.65, -0.7]))
    x = torch.zeros(count + 7, requires_grad=True)
    curve_precision, rest_precision = curve.precision, curve.rest_precision

    def objective() -> torch.Tensor:
        rest, tone, gloss, gain = x[:count], x[count : count + 3], x[count + 3], x[count + 4 :]
        colour = w.colour(curve(tone) + rest)
        gap = encode((colour * photo.diffuse + photo.specular * gloss.exp()) * gain.exp()) - photo.encoded
        data = reflectance.TONE_TRUST * (photo.bare[:, None] * gap**2).sum()
        level = photo.log_level + gain
        exposure = ((level.mean() - reflectance.EXPOSURE_MEAN) / reflectance.EXPOSURE_SD) ** 2
        cast = (((level - level.mean()) / reflectance.CAST_SD) ** 2).sum()
        skin = tone @ curve_precision @ tone + (rest_precision * rest**2).sum()
        return data + exposure + cast + skin + (gloss / reflectance.GLOSS_SD) ** 2

    search = torch.optim.LBFGS([x], max_iter=200, line_search_fn="strong_wolfe", tolerance_change=1e-9)

    def closure() -> torch.Tensor:
        search.zero_grad()
        value = objective()
        value.backward()
        return value

    search.step(closure)
    tone, gains = _tone(photo)
    found = x.detach()
    assert tone.abs().max() > 0.1
    assert (tone - found[count : count + 3]).abs().max() < 0.02, (tone, found[count : count + 3])
    assert (gains[0] - found[count + 4 :]).abs().max() < 0.02


def test_photos_without_bare_skin_say_nothing_about_tone() -> None:
    zero = torch.zeros(len(_white().diffuse_sd))
    photo = _samples(zero, gain=torch.full((3,), -0.6))
    fields = {**photo.__dict__, "bare": torch.zeros_like(photo.bare), "log_level": photo.log_level - 0.3}
    tone, gains = _tone(ReflectanceSamples(**fields))
    assert tone.abs().max() < 1e-4
    assert torch.allclose(gains, torch.full((1, 3), 0.3), atol=1e-3)  # then the usual light is assumed


@pytest.mark.parametrize("photos", [1, 2])
def test_the_rest_recovers_the_coefficients(photos: int) -> None:
    count = len(_white().diffuse_sd)
    truth = torch.randn(count, generator=torch.Generator().manual_seed(3)) * 0.8
    samples = [_samples(truth) for _ in range(photos)]
    curve = ToneCurve(_white())
    start = SkinColour(torch.zeros(3), torch.zeros(count))
    found = reflectance.solve_rest(samples, start, curve, 1e-3)
    assert (found.z(curve) - truth).abs().max() < 0.1
    assert torch.equal(found.tone, start.tone)
    shy = reflectance.solve_rest(samples, start, curve, 1e5)
    assert shy.rest.norm() < 0.2 * found.rest.norm()  # the prior's weight matters


def test_a_given_tone_is_not_paid_for_twice() -> None:
    """With the true tone known the rest is small, and their sum is the truth."""
    count = len(_white().diffuse_sd)
    curve = ToneCurve(_white())
    tone = torch.tensor([-0.4, -0.45, -0.5])
    found = reflectance.solve_rest([_samples(curve(tone))], SkinColour(tone, torch.zeros(count)), curve, 1.0)
    assert found.rest.abs().max() < 0.05
    assert torch.allclose(found.z(curve), curve(tone), atol=0.05)


def test_samples_without_weight_do_not_count() -> None:
    count = len(_white().diffuse_sd)
    curve = ToneCurve(_white())
    start = SkinColour(torch.zeros(3), torch.zeros(count))
    found = reflectance.solve_rest([_samples(torch.full((count,), 0.5), weight=0.0)], start, curve, 1.0)
    assert found.rest.abs().max() < 1e-6


def _gloss(photo: ReflectanceSamples, log_gloss: float = 0.0) -> float:
    """Gloss factor for a photo of mean skin that was drawn with exp(`log_gloss`)."""
    start = SkinColour(torch.zeros(3), torch.zeros(len(_white().diffuse_sd)))
    found = reflectance.solve_tone([photo], start, ToneCurve(_white()), 1.0, torch.tensor(log_gloss))
    return found[1].exp().item()


def test_gloss_grows_when_the_photo_shines_more_and_stays_when_it_fits() -> None:
    right = _samples(torch.zeros(len(_white().diffuse_sd)), specular=0.1, weight=500.0)
    right = replace(right, sclera=ScleraCue(torch.zeros(3), 50.0))  # the light is known
    assert _gloss(right) == pytest.approx(1.0, abs=0.01)
    for factor in (0.7, 1.4):
        shown = right.mean * right.diffuse + factor * right.specular
        photo = replace(right, encoded=encode(shown))
        assert _gloss(photo) == pytest.approx(factor, rel=0.1)
    # nothing known: back to the prior, a factor of 1 on the model's level
    silent = replace(right, bare=torch.zeros(len(right.bare)))
    assert _gloss(silent, 0.3) == pytest.approx(1.0, rel=1e-3)


def test_strong_light_is_not_taken_for_gloss() -> None:
    """Dark skin in strong light: highlights alone do not tell it, and the whites of the eyes do."""
    gain = torch.full((3,), 0.9)
    tone = torch.tensor([-0.8, -0.92, -0.98])
    photo = _samples(ToneCurve(_white())(tone), gain=gain)
    without, _ = _tone(photo)
    with_whites, gains = _tone(replace(photo, sclera=ScleraCue(gain, 1.0)))
    assert with_whites.mean() < without.mean() - 0.08, (with_whites, without)
    assert gains.mean() > 0.6
