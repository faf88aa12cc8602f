"""The optimisation: Adam on the levels of the pyramid against all pixels of all views at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...colour import linear_to_srgb
from ..datasets.neural_texgen import UvView
from ..losses import ssim_loss
from .options import TextureOptions
from .perceptual import Vgg
from .samples import Pyramid, bilinear
from .start import residual_levels, splat

RANGE = 2.0
"""NeuralTexGen's colours go from -1 to 1, ours from 0 to 1; its weights are for differences in its range."""

REGULARISER = (8.0, 2.0, 1.0, 0.0)
"""Weights of the mean squares of the levels, from the finest; coarser ones are free."""

DETAIL = 0.02
"""Detail of a texel, in code values 0..1, that is taken for noise. Larger detail is hardly pulled at all:
the plain square of the reference, strong enough for noise, washed edges out (7 dB on a pattern of dots)."""

HIGHLIGHT = 0.06
"""Excess of a pixel over its texel's average, in code values, at which it begins to look like a highlight."""

HIGHLIGHT_ROUNDS = 5


@dataclass(frozen=True)
class Pixels:
    """All pixels that count, view after view, row after row.

    `uv` (N, 2), `colour` (N, 3) sRGB code values at the common exposure, `weight` (N,) with mean 1, `first`
    (n + 1,) where each view begins, `place` (N,) row*width + column in its view.
    """

    uv: NDArray[np.float32]
    colour: NDArray[np.float32]
    weight: NDArray[np.float32]
    first: NDArray[np.int64]
    place: NDArray[np.int64]
    shapes: tuple[tuple[int, int], ...]

    @staticmethod
    def of(views: Sequence[UvView], gains: NDArray[np.float64]) -> Pixels:
        """The pixels of views, each divided by its gain (n, 3)."""
        uv, colour, weight, place, first = [], [], [], [], [0]
        for view, gain in zip(views, gains, strict=True):
            whole = view.valid.astype(np.float32) if view.weight is None else view.weight
            chosen = np.flatnonzero(whole.ravel() > 0)
            linear = view.image.reshape(-1, 3)[chosen] / gain.astype(np.float32)
            uv.append(view.uv.reshape(-1, 2)[chosen])
            colour.append(linear_to_srgb(linear.clip(0, 1)))
            weight.append(whole.ravel()[chosen])
            place.append(chosen)
            first.append(first[-1] + len(chosen))
        weights = np.concatenate(weight)
        return Pixels(
            np.concatenate(uv),
            np.concatenate(colour),
            weights / max(float(weights.mean()), 1e-12),
            np.array(first),
            np.concatenate(place),
            tuple(view.valid.shape for view in views),  # type: ignore[misc]
        )

    def without_highlights(self, size: int) -> Pixels:
        """The same with little weight on pixels that are brighter than other views of the same place.

        A robust average on a texture of `size`: highlights move from view to view, and only ever add light.
        """
        texels, shares = bilinear(self.uv, size)
        weight = self.weight
        for _ in range(HIGHLIGHT_ROUNDS):
            average, _ = splat(self.uv, self.colour, weight, size)
            expected = np.einsum("nk,nkc->nc", shares, average.reshape(-1, 3)[texels])
            excess = (self.colour - expected).mean(1).clip(0)
            weight = self.weight / (1 + (excess / HIGHLIGHT) ** 2)
        return replace(self, weight=(weight / weight.mean()).astype(np.float32))

    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers of the pixels that are each other's right or lower neighbours in one view."""
        one, other = [], []
        for k, (height, width) in enumerate(self.shapes):
            number = np.full(height * width, -1, np.int64)
            number[self.place[self.first[k] : self.first[k + 1]]] = np.arange(
                self.first[k], self.first[k + 1]
            )
            number = number.reshape(height, width)
            for a, b in ((number[:, 1:], number[:, :-1]), (number[1:], number[:-1])):
                both = (a >= 0) & (b >= 0)
                one.append(a[both])
                other.append(b[both])
        return np.concatenate(one), np.concatenate(other)


class TextureProblem:
    """Unknowns, loss and step; handed to the loop by `method`."""

    def __init__(
        self, pixels: Pixels, sizes: list[int], options: TextureOptions, device: str = "cpu"
    ) -> None:
        if options.specularRobust:
            pixels = pixels.without_highlights(sizes[min(1, len(sizes) - 1)])
        self.pixels, self.options, self.device = pixels, options, device
        # The coarsest level starts as the average, with every hole filled; the unknowns correct it.
        self.base, self.base_weight = splat(pixels.uv, pixels.colour, pixels.weight, sizes[0])
        texels, shares = bilinear(pixels.uv, sizes[0])
        base = np.einsum("nk,nkc->nc", shares, self.base.reshape(-1, 3)[texels])
        self.pyramid = Pyramid(pixels.uv, sizes, device)
        residual = (pixels.colour - base).astype(np.float32)
        start = residual_levels(self.pyramid.matrices, residual, pixels.weight)
        del self.pyramid.matrices  # the stacked one is enough from here on
        self.values = torch.tensor(np.concatenate(start), device=device, requires_grad=True)
        self.target = torch.from_numpy(residual).to(device)
        self.weight = torch.from_numpy(pixels.weight).to(device)
        self._base = torch.from_numpy(base.astype(np.float32)).to(device)
        self._pull = self._regulariser().to(device)
        self._pairs = None
        if options.lambda_L1_Diff > 0:
            one, other = (torch.from_numpy(p).to(device) for p in pixels.pairs())
            lesser = torch.minimum(self.weight[one], self.weight[other])
            self._pairs = (one, other, lesser / lesser.sum().clamp(min=1e-12))
        self.network = Vgg.load(Path(options.vggWeights), device) if options.lambda_VGG > 0 else None
        self.optimiser = torch.optim.Adam([self.values], lr=options.lr / RANGE, betas=(options.beta1, 0.999))
        self.total = options.niter + options.niter_decay
        self._best = math.inf
        self._waited = 0
        self._slowed = 1.0

    def _regulariser(self) -> Tensor:
        """(A, 1) weight of every unknown's square: means over whole levels, as the reference has them."""
        parts = []
        for number, level in enumerate(reversed(self.pyramid.levels)):
            weight = REGULARISER[number] if number < len(REGULARISER) else 0.0
            parts.append(torch.full((len(level.texels), 1), weight / (3 * level.size**2)))
        return torch.cat(parts[::-1])

    def loss(self) -> Tensor:
        """The weighted sum of all terms, in the range and with the weights of NeuralTexGen.

        Means are taken over the pixels that show the mesh, once.
        """
        options = self.options
        seen = self.pyramid.seen(self.values)
        error = seen - self.target
        share = (self.weight / (3 * self.weight.sum()))[:, None]
        detail = DETAIL**2 * torch.log1p(self.values.square() / DETAIL**2)
        total = options.lambda_Reg_Tex * RANGE**2 * (self._pull * detail).sum()
        if options.lambda_L1 > 0:
            total = total + options.lambda_L1 * RANGE * (share * error.abs()).sum()
        if options.lambda_L2 > 0:
            total = total + options.lambda_L2 * RANGE**2 * (share * error.square()).sum()
        if self._pairs is not None:
            one, other, lesser = self._pairs
            step = (error.index_select(0, one) - error.index_select(0, other)).abs()
            total = total + options.lambda_L1_Diff * RANGE * (lesser[:, None] * step).sum() / 3
        if options.lambda_SSIM > 0 or self.network is not None:
            total = total + self._picture_losses(seen + self._base)
        return total

    def colours(self) -> Tensor:
        """(N, 3) what the pixels see now, sRGB code values."""
        return self.pyramid.seen(self.values) + self._base

    def _picture_losses(self, seen: Tensor) -> Tensor:
        """Terms of whole pictures: pixels that do not count have the photo's value (grey beyond it)."""
        total = seen.new_zeros(())
        pixels, options, count = self.pixels, self.options, len(self.pixels.shapes)
        wanted = self.target + self._base
        for k, (height, width) in enumerate(pixels.shapes):
            rows = slice(int(pixels.first[k]), int(pixels.first[k + 1]))
            place = torch.from_numpy(pixels.place[rows]).to(seen.device)
            empty = torch.full((height * width, 3), 0.5, device=seen.device)
            target = empty.index_copy(0, place, wanted[rows]).view(height, width, 3)
            picture = empty.index_copy(0, place, seen[rows]).view(height, width, 3)
            weight = torch.zeros(height * width, device=seen.device).index_fill(0, place, 1.0)
            if options.lambda_SSIM > 0:
                part = ssim_loss(picture, target, weight.view(height, width))
                total = total + options.lambda_SSIM / count * part
            if self.network is not None:
                total = total + options.lambda_VGG / count * self.network.loss(picture, target)
        return total

    def rate(self, step: int, loss: float) -> float:
        """Factor on the learning rate before step `step`."""
        options = self.options
        if options.lr_policy == "step":
            return 0.1 ** (step // options.lr_decay_iters)
        if options.lr_policy == "cosine":
            return 0.5 * (1 + math.cos(math.pi * step / max(self.total, 1)))
        if options.lr_policy == "plateau":
            self._waited = 0 if loss < 0.99 * self._best else self._waited + 1
            self._best = min(self._best, loss)
            if self._waited > 5:
                self._slowed, self._waited = 0.2 * self._slowed, 0
            return self._slowed
        return 1.0 - max(0, step + 1 - options.niter) / (options.niter_decay + 1)

    def step(self, number: int) -> float:
        """One step of Adam on all pixels; returns the loss before it."""
        self.optimiser.zero_grad()
        loss = self.loss()
        loss.backward()
        value = float(loss.detach())
        for group in self.optimiser.param_groups:
            group["lr"] = self.options.lr / RANGE * self.rate(number, value)
        self.optimiser.step()
        return value

    def snapshot(self) -> NDArray[np.float32]:
        """The unknowns."""
        return self.values.detach().cpu().numpy().copy()

    def restore(self, values: NDArray[Any]) -> None:
        """Put unknowns back. ValueError when they are those of another problem."""
        if values.shape != tuple(self.values.shape):
            raise ValueError(f"{values.shape} unknowns instead of {tuple(self.values.shape)}")
        with torch.no_grad():
            self.values.copy_(torch.from_numpy(np.asarray(values, np.float32)))
