"""How wrong are gradients of the ray-traced engine because shadows move? Prints one JSON object.

    python benchmarks/shadow_bias.py [--size 96] [--samples 256] [--directions 6]

A head of our own model under one hard lamp (cast shadows of nose and brow) and under soft light. The loss is
the squared code-value difference from the same head with another shape; its derivatives along random
directions in shape space are taken by the engine and by finite differences with the same noise, over the
pixels well inside the outline. `bias` is the root-mean-square gap relative to the root-mean-square
derivative, `slope` what part of the derivative the engine sees (least squares).
"""

from __future__ import annotations

import argparse
import json
import sys

from nextgenface.cli.common import share_cores


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=int, default=96, help="side of the picture")
    parser.add_argument("--samples", type=int, default=256, help="per pixel")
    parser.add_argument("--directions", type=int, default=6, help="in shape space")
    options = parser.parse_args(arguments)
    share_cores()  # as the commands do, before torch starts its threads
    import torch
    from nextgenface.colour import linear_to_srgb
    from nextgenface.config import Config
    from nextgenface.facemodel.registry import load_model
    from nextgenface.fitting.whitened import whiten
    from nextgenface.rendering.deferred import Pose, vertex_normals
    from nextgenface.rendering.light import frontal_environment, lobe_centres
    from nextgenface.rendering.llvm import activate, select_variant
    from nextgenface.rendering.raytraced import Frame, RayTracer
    from torch import Tensor

    mi = activate(select_variant("cpu"))
    mi.set_log_level(mi.LogLevel.Error)  # its messages would go to stdout, between the JSON
    model = load_model(Config())
    w = whiten(model, "cpu")
    size = options.size
    middle = torch.tensor([size / 2.0, size / 2.0])
    pose = Pose(
        torch.diag(torch.tensor([1.0, -1, -1])), torch.tensor([0.0, 0, 700]), torch.tensor(2.9 * size), middle
    )
    lamp = torch.nn.functional.normalize(torch.tensor([0.85, 0.5, 0.45]), dim=0)
    hard = (0.1 + 8.0 * torch.exp(40 * (lobe_centres() @ lamp - 1)))[:, None].expand(-1, 3).contiguous()
    skin = torch.cat([w.diffuse_mean, w.specular_mean[:, None], w.roughness[:, None]], 1)
    tracer = RayTracer(w.faces, torch.tensor(model.uv))
    generator = torch.Generator().manual_seed(3)
    still = torch.zeros(w.expression.shape[0])
    kinds = len(w.shape)
    other = torch.randn(kinds, generator=generator)
    ways = (
        torch.nn.functional.normalize(torch.randn(options.directions, kinds, generator=generator), dim=1) * 3
    )

    def draw(z: Tensor, light: Tensor, seed: int) -> Tensor:
        camera = pose.camera_space(w.vertices(z, still))
        frame = Frame(camera, vertex_normals(camera, w.faces), skin, light, pose)
        return tracer.picture(frame, (size, size), samples=options.samples, seed=seed)

    report = {}
    for name, light in (("hard", hard), ("soft", frontal_environment())):
        zero = torch.zeros(kinds)
        with torch.no_grad():
            goal = draw(other, light, 0)
            inside = (draw(zero, light, 0)[..., 3] > 0.999)[None, None].float()
            inside = -torch.nn.functional.max_pool2d(-inside, 7, 1, 3)[0, 0] * (goal[..., 3] > 0.999)
        wanted = linear_to_srgb(goal[..., :3])

        def loss(
            z: Tensor, light: Tensor = light, wanted: Tensor = wanted, inside: Tensor = inside
        ) -> Tensor:
            gap = linear_to_srgb(draw(z, light, 1)[..., :3].clamp(min=1e-4)) - wanted
            return (gap**2 * inside[..., None]).sum()

        z = zero.clone().requires_grad_()
        loss(z).backward()
        assert z.grad is not None
        ours = ways @ z.grad
        step = 0.1
        with torch.no_grad():
            truth = torch.stack([(loss(step * way) - loss(-step * way)) / (2 * step) for way in ways])
        gap = (ours - truth).square().mean().sqrt() / truth.square().mean().sqrt()
        report[name] = {
            "bias": round(float(gap), 3),
            "slope": round(float((ours @ truth) / (truth @ truth)), 3),
            "cosine": round(float(torch.nn.functional.cosine_similarity(ours, truth, dim=0)), 3),
        }
    print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
