"""What traced visibility is worth where the shape is right: true heads, light solved for, skin left over.

    python benchmarks/true_shape.py --data DATA [--subjects NAME …]

{name: {"visibility and bounce": {"albedo_rmse_si", "albedo_detail"}, "visibility": …, "none": …}}

The deferred engine lights the true mesh, the light is solved for with one skin colour and gloss everywhere,
and what the photo is by that light the skin's. The error is that of `score.py`: root mean square after the
best common scale, and the correlation of log detail. It says what the engine could do; `engines.py` says
what it does with the shape that the fit has found.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accuracy import subjects_of
from nextgenface.errors import NextGenFaceError
from nextgenface.fitting.lightsolve import LinearPicture, solve_light
from nextgenface.fitting.photodata import spread_rows
from nextgenface.fitting.photoset import LIGHT_SAMPLES, ROBUST_SCALE
from nextgenface.fitting.targets import encode, encode_slope
from nextgenface.geometry.ply import read_ply
from nextgenface.images import read_exr, read_image
from nextgenface.rendering.deferred import (
    CAMERA_TO_LIGHT,
    LOWEST_COSINE,
    Pose,
    Transfer,
    diffuse_factors,
    glossy_factors,
    specular_reflectance,
    trace_transfer,
    vertex_normals,
)
from nextgenface.rendering.light import frontal_environment
from nextgenface.rendering.raster import Fragments, rasterize
from torch import Tensor

LEVEL, ROUGHNESS = 0.4, 0.45  # of skin, about
SUBJECTS = ("subject_00", "subject_03", "subject_04")  # window and hard light


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the subjects")
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS), metavar="NAME")
    options = parser.parse_args(arguments)
    try:
        names = subjects_of(options.data, options.subjects)
        print(json.dumps({name: measure(options.data / name) for name in names}, indent=1))
    except NextGenFaceError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    return 0


def measure(truth: Path) -> dict[str, dict[str, float]]:
    """The three ways to light one true head."""
    camera = json.loads((truth / "camera.json").read_text("utf-8"))
    tensor = lambda a: torch.as_tensor(np.array(a), dtype=torch.float32)  # noqa: E731
    K = tensor(camera["K"])
    pose = Pose(tensor(camera["R"]), tensor(camera["t"]), K[0, 0], K[:2, 2])
    mesh = read_ply(truth / "mesh.ply")
    assert mesh.faces is not None
    vertices, faces = tensor(mesh.vertices), torch.as_tensor(mesh.faces.astype(np.int64))
    in_camera = pose.camera_space(vertices)
    size = (int(camera["height"]), int(camera["width"]))
    fragments = rasterize(pose.screen(in_camera), in_camera[:, 2], faces, *size)
    mask = read_image(truth / "mask_skin.png")
    skin = tensor(mask if mask.ndim == 2 else mask[..., 0]).reshape(-1) > 0.5
    fragments = fragments.subset(torch.nonzero(skin[fragments.pixel])[:, 0])
    photo = tensor(read_exr(truth / "photo_linear.exr")[..., :3]).reshape(-1, 3)[fragments.pixel]
    albedo = tensor(read_exr(truth / "albedo.exr")[..., :3]).reshape(-1, 3)[fragments.pixel]
    traced = trace_transfer(vertices, faces, pose)
    ways = {
        "visibility and bounce": traced,
        "visibility": replace(traced, bounce=None),
        "none": trace_transfer(vertices, faces, pose, shadows=False),
    }
    return {
        name: compare(skin_left_over(transfer, in_camera, faces, fragments, photo, albedo.mean(0)), albedo)
        for name, transfer in ways.items()
    }


def skin_left_over(
    transfer: Transfer, in_camera: Tensor, faces: Tensor, fragments: Fragments, photo: Tensor, skin: Tensor
) -> Tensor:
    """Base colour (N, 3) of the fragments' pixels by the light that explains `photo` (N, 3) best if all skin
    has the colour `skin` (3,)."""
    in_light = in_camera * torch.tensor(CAMERA_TO_LIGHT)
    normals = vertex_normals(in_light, faces)
    n = normals[transfer.used]
    view = torch.nn.functional.normalize(-in_light[transfer.used], dim=1)
    rough = torch.full((len(n),), ROUGHNESS)
    cos_view = (n * view).sum(1).clamp(min=LOWEST_COSINE)
    gloss = specular_reflectance(torch.full_like(rough, LEVEL), rough, cos_view)[:, None]
    direct = diffuse_factors(n, transfer.visible, transfer) @ transfer.lobes * (1 - gloss)
    indirect = torch.zeros_like(direct)
    if transfer.bounce is not None:
        patches = transfer.bounce.patches
        arriving = diffuse_factors(normals[patches], transfer.bounce.visible, transfer) @ transfer.lobes
        grey = torch.full((len(patches), 1), float(skin.mean()))
        indirect = transfer.bounce.gathered(arriving, grey) * (1 - gloss)
    glossy = glossy_factors(n, view, rough, transfer) @ transfer.lobes * gloss
    lobes = direct.shape[1]
    everywhere = torch.zeros(len(in_camera), 3 * lobes)
    everywhere[transfer.used] = torch.cat([direct, indirect, glossy], 1)

    def factors(part: Fragments) -> tuple[Tensor, ...]:
        return part.interpolate(everywhere).split(lobes, 1)

    rows = spread_rows(len(photo), LIGHT_SAMPLES)
    sky, by_skin, mirrored = factors(fragments.subset(rows))
    seen = photo[rows]
    picture = LinearPicture(
        skin.expand(len(rows), 3), sky, mirrored, seen, torch.ones_like(seen), by_skin, skin / skin.mean()
    )
    light = frontal_environment()
    for _ in range(3):
        radiance = torch.stack([picture.of_channel(c) @ light[:, c] for c in range(3)], 1)
        off = ((encode(radiance) - encode(seen)) ** 2).mean(1, keepdim=True)
        weight = encode_slope(seen) / (1 + off / ROBUST_SCALE**2)
        light = solve_light(replace(picture, weight=weight), light)
    sky, by_skin, mirrored = factors(fragments)
    arriving = sky @ light + picture.tint * (by_skin @ light)
    return ((photo - mirrored @ light) / arriving.clamp(min=3e-3)).clamp(0, 1)


def compare(found: Tensor, truth: Tensor) -> dict[str, float]:
    """Scale-invariant error and correlation of log detail of base colours (N, 3)."""
    scale = (found * truth).sum() / (found * found).sum()
    p, g = (x.clamp(min=1e-4).log() for x in (found, truth))
    p, g = p - p.mean(0), g - g.mean(0)
    return {
        "albedo_rmse_si": round(float(((scale * found - truth) ** 2).mean().sqrt()), 4),
        "albedo_detail": round(float((p * g).sum() / (p.norm() * g.norm())), 3),
    }


if __name__ == "__main__":
    sys.exit(main())
