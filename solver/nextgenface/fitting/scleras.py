"""How strong the light is and of which colour, by the whites of the eyes.

The sclera is nearly as bright and as neutral in everybody, so beside the skin it is the one surface in a
portrait whose reflectance is known: it tells dark skin in strong light from light skin in weak light. What
goes wrong there - lids and lashes, a shadow that falls otherwise than in the model, closed eyes, sunglasses
- makes it darker, hardly ever brighter. So the brighter eye is believed, and a white that is far too dark
has little say.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..rendering.raster import Fragments

SCLERA = (0.62, 0.57, 0.53)  # linear base colour of clean sclera
LEVEL_SD = 0.25  # log factor between its brightness in a photo and in a drawing, measured on rendered heads
CAST_SD = 0.12  # the same of its colour
LEAST_PIXELS = 10  # of one eye's sclera
IRIS_REACH = 1.2  # of the iris's radius: what the iris's rim may cover
DEPTH_SLACK = 0.8  # mm that a vertex may lie behind what is seen at its pixel
DRAWN_DARK = 0.15  # log factor by which drawn eyes lie deeper in the shadow of lids and brows than real ones
DARK_SCALE = 1.2  # log factor too dark at which a white counts a quarter


@dataclass(frozen=True)
class ScleraCue:
    """`log_gain` (3,): by how much the light should grow for the whites of the eyes; `weight` 0..1."""

    log_gain: Tensor
    weight: float

    def rows(self, gain: Tensor) -> tuple[Tensor, Tensor]:
        """Least-squares rows in a log gain of the light (3,): Jacobian (4, 3), residual (4,)."""
        mean = torch.full((3, 3), 1 / 3).to(gain)
        jacobian = torch.cat([mean[:1] / LEVEL_SD, (torch.eye(3).to(gain) - mean) / CAST_SD])
        jacobian = jacobian * self.weight**0.5
        return jacobian, jacobian @ (gain - self.log_gain)


def unhidden(fragments: Fragments, screen: Tensor, depth: Tensor) -> Tensor:
    """Which of the covered pixels (N,) lie on faces whose three corners are seen.

    `screen` (V, 2) pixels and `depth` (V,) mm of the mesh that `fragments` is the whole picture of. Light is
    worked out at vertices: between a seen and a hidden one, as at the edge of a lid, it is too dark.
    """
    nearest = torch.full((fragments.height * fragments.width,), torch.inf).to(depth)
    nearest[fragments.pixel] = fragments.interpolate(depth[:, None])[:, 0]
    column = screen[:, 0].floor().long().clamp(0, fragments.width - 1)
    row = screen[:, 1].floor().long().clamp(0, fragments.height - 1)
    seen = depth <= nearest[row * fragments.width + column] + DEPTH_SLACK
    return seen[fragments.corners].all(1)


def outside_irises(pixel: Tensor, width: int, irises: Tensor) -> Tensor:
    """Which pixels (N,), row * width + column, lie outside both irises (10, 2) of `Landmarks`, in pixels."""
    clear = torch.ones(len(pixel), dtype=torch.bool, device=pixel.device)
    place = torch.stack([pixel % width, pixel // width], 1).to(irises) + 0.5
    for eye in irises.view(2, 5, 2):
        radius = (eye[1:] - eye[0]).norm(dim=1).mean()
        clear &= (place - eye[0]).norm(dim=1) > IRIS_REACH * radius
    return clear


def sclera_cue(photo: Tensor, diffuse: Tensor, specular: Tensor, left: Tensor) -> ScleraCue | None:
    """What the sclera's pixels say about the light; None where too few are seen.

    `photo` (N, 3) linear, `diffuse` (N, 3) irradiance / pi and `specular` (N, 3) radiance of the drawing,
    `left` (N,) bool, whether a pixel is of the left eye.
    """
    drawn = torch.tensor(SCLERA).to(diffuse) * diffuse + specular
    ratio = (photo.clamp(min=1e-4) / drawn.clamp(min=1e-4)).log()
    level = ratio.mean(1)
    eyes = [eye for eye in (left, ~left) if int(eye.sum()) >= LEAST_PIXELS]
    if not eyes:
        return None
    brighter = max(eyes, key=lambda eye: float(level[eye].median()))
    middle = float(level[brighter].median())
    colour = ratio[brighter & (level >= middle)].mean(0)
    says = middle - DRAWN_DARK
    return ScleraCue(colour - colour.mean() + says, 1 / (1 + (min(says, 0.0) / DARK_SCALE) ** 2) ** 2)
