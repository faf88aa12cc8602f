"""Light gathered in blocks: the same sums and gradients as written out plainly."""

from __future__ import annotations

import pytest
import torch
from nextgenface.rendering import prefilter
from torch.nn import functional as tf


def plain(
    normals: torch.Tensor,
    mirror: torch.Tensor,
    sharpness: torch.Tensor,
    radiance: torch.Tensor,
    directions: torch.Tensor,
    visible: torch.Tensor,
    solid_angle: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    cosine = (normals @ directions.T).clamp(min=0)
    lobe = torch.softmax(sharpness[:, None] * (mirror @ directions.T), 1) * cosine
    glossy = (lobe * visible) @ radiance / lobe.sum(1, keepdim=True).clamp(min=1e-6)
    return (visible * cosine * (solid_angle / torch.pi)) @ radiance, glossy


@pytest.mark.parametrize("block", [7, 4096])
def test_blocks_and_closed_gradients_equal_the_plain_sums(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefilter, "BLOCK", block)
    g = torch.Generator().manual_seed(0)
    count, samples = 40, 60

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=g, dtype=torch.float64)

    directions = tf.normalize(draw(samples, 3) - 0.5, dim=1)
    normals = tf.normalize(draw(count, 3) - 0.5, dim=1)
    mirror = normals + 0.8 * (draw(count, 3) - 0.5)  # above the horizon, where lobes are
    start = [normals, mirror, 1 + 20 * draw(count), draw(samples, 3)]
    visible, upstream = draw(count, samples), [draw(count, 3), draw(count, 3)]
    results = []
    for function in (plain, prefilter.gather):
        leaves = [t.clone().requires_grad_(True) for t in start]
        values = function(
            tf.normalize(leaves[0], dim=1), tf.normalize(leaves[1], dim=1), leaves[2], leaves[3],
            directions, visible, 0.04,
        )  # fmt: skip
        sum((v * u).sum() for v, u in zip(values, upstream, strict=True)).backward()  # type: ignore[union-attr]
        results.append([*(v.detach() for v in values), *(leaf.grad for leaf in leaves)])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
