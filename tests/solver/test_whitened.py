"""The face model as whitened tensors: border rings keep to the skin beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from nextgenface.fitting.reflectance import ToneCurve
from nextgenface.fitting.whitened import whiten

from tests.solver.tiny import tiny_model


def test_border_rings_change_colour_with_the_nearest_skin_and_have_no_say_in_tones() -> None:
    model = tiny_model()
    x = model.shape_mean[:, 0]
    border = (np.abs(x) > 60).astype(np.float32)
    ringed = replace(model, regions={**model.regions, "border": border, "skin": 1 - border})
    white = whiten(ringed, "cpu")
    z = torch.linspace(-0.4, 0.4, len(white.diffuse))
    change = (z @ white.diffuse).view(-1, 3) / white.diffuse_mean
    rim = np.flatnonzero(border > 0)
    inside = np.flatnonzero(border == 0)
    for vertex in rim:
        gap = np.linalg.norm(model.shape_mean[inside] - model.shape_mean[vertex], axis=1)
        assert torch.allclose(change[vertex], change[inside[gap.argmin()]], atol=1e-4)
    # the skin's own modes are what they were, and a tone is fitted on them alone
    plain = whiten(replace(ringed, regions={"skin": 1 - border}), "cpu")
    own = white.diffuse.view(len(z), -1, 3)[:, inside]
    assert torch.equal(own, plain.diffuse.view(len(z), -1, 3)[:, inside])
    tone = torch.tensor([-0.3, -0.2, -0.25])
    assert torch.allclose(ToneCurve(white)(tone), ToneCurve(plain)(tone), atol=1e-5)
