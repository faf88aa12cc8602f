"""The picture of docs/rendering.md: one head of our own model, drawn by the path tracer and by both engines.

    python benchmarks/engine_pictures.py [--size 320] [--out docs/images/engines.jpg]

Above: the path tracer; rays at 8 and at 256 samples per pixel; the deferred engine; the same without traced
visibility. Below: four times the difference from the path tracer, about grey. Prints sRGB PSNR inside the
face as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from nextgenface.cli.common import share_cores

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str] | None = None) -> int:
    """Draw, write and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=int, default=320, help="side of each picture")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "engines.jpg")
    options = parser.parse_args(arguments)
    share_cores()  # as the commands do, before torch starts its threads
    from nextgenface.colour import linear_to_srgb
    from PIL import Image

    pictures, coverage = draw(options.size)
    codes = {name: linear_to_srgb(np.clip(picture, 0, 1)) for name, picture in pictures.items()}
    truth = codes["path tracer"]
    inside = coverage > 0.99
    differences = [np.clip(0.5 + 4 * (code - truth) * inside[..., None], 0, 1) for code in codes.values()]
    sheet = np.concatenate([np.concatenate(list(codes.values()), 1), np.concatenate(differences, 1)], 0)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((sheet * 255).round().astype(np.uint8)).save(options.out, quality=88)
    psnr = {
        name: round(float(-10 * np.log10(np.mean((code[inside] - truth[inside]) ** 2))), 1)
        for name, code in codes.items()
        if name != "path tracer"
    }
    print(json.dumps(psnr, indent=1))
    return 0


def draw(size: int) -> tuple[dict[str, Any], Any]:
    """Linear pictures (S, S, 3) by name, and the path tracer's coverage (S, S)."""
    import torch
    from nextgenface.config import Config
    from nextgenface.facemodel.registry import load_model
    from nextgenface.fitting.morphable import MorphableModel
    from nextgenface.rendering.deferred import (
        Pose,
        draw_vertices,
        shade_vertices,
        trace_transfer,
        vertex_normals,
    )
    from nextgenface.rendering.light import lobe_centres, lobes_to_map
    from nextgenface.rendering.llvm import activate, select_variant
    from nextgenface.rendering.mitsuba_scene import (
        CAMERA_FROM_LIGHT,
        Environment,
        Geometry,
        SceneCamera,
        Textures,
    )
    from nextgenface.rendering.pathtracer import render_final
    from nextgenface.rendering.raytraced import Frame, RayTracer
    from scipy.spatial.transform import Rotation

    mi = activate(select_variant("cpu"))
    mi.set_log_level(mi.LogLevel.Error)  # its messages would go to stdout, between the JSON
    config = Config()
    model = load_model(config)
    morphable = MorphableModel(model, 512, "cpu")
    shape, albedo, level = (x[0] for x in morphable.sample(1, seed=11))
    level, faces = level.mean(-1), morphable.faces
    towards = torch.nn.functional.normalize(torch.tensor([0.85, 0.45, 0.45]), dim=0)
    light = (0.22 + 7.0 * torch.exp(30 * (lobe_centres() @ towards - 1)))[:, None].expand(-1, 3).contiguous()
    turn = np.diag([1.0, -1, -1]) @ Rotation.from_euler("yx", [-12, -4], degrees=True).as_matrix()
    away, focal, centre = np.array([0.0, 0, 700]), 2.9 * size, size / 2
    pose = Pose(
        torch.tensor(turn).float(), torch.tensor(away).float(), torch.tensor(focal),
        torch.tensor([centre, centre]),
    )  # fmt: skip
    skin = (albedo, level[:, None], morphable.roughness[:, None])
    maps = [morphable.generateTextureFromAlbedo(values[None])[0] for values in skin]
    K = np.array([[focal, 0, centre], [0, focal, centre], [0, 0, 1]])
    truth = render_final(
        Geometry(shape.numpy(), model.faces, model.uv), Textures(*(m.numpy() for m in maps)),
        SceneCamera(K, turn, away, size, size),
        Environment(lobes_to_map(light, 64).numpy(), turn.T @ CAMERA_FROM_LIGHT),
        max_samples=400, noise_level=0.0,
    )  # fmt: skip
    pictures: dict[str, Any] = {"path tracer": truth.rgb}
    camera = pose.camera_space(shape)
    frame = Frame(camera, vertex_normals(camera, faces), torch.cat(maps, -1), light, pose)
    tracer = RayTracer(faces, morphable.uvMap, bounces=3)
    for samples in (8, 256):
        drawn = tracer.picture(frame, (size, size), samples=samples, seed=0)
        pictures[f"rays, {samples} spp"] = drawn[..., :3].numpy()
    for name, shadows in (("deferred", True), ("deferred, no visibility", False)):
        transfer = trace_transfer(shape, faces, pose, shadows=shadows)
        shading = shade_vertices(camera, faces, light, albedo, morphable.roughness, transfer)
        drawing = draw_vertices(
            camera, faces, pose.screen(camera), (size, size), shading, albedo, level, morphable.roughness
        )
        pictures[name] = drawing.fragments.picture(drawing.radiance).numpy()
    return pictures, truth.alpha


if __name__ == "__main__":
    sys.exit(main())
