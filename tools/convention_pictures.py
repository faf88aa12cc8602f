"""Draws docs/images/conventions_*.png, the pictures of docs/conventions.md, with the solver's own code.

.venv/solver/bin/python tools/convention_pictures.py [FOLDER]
"""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "solver"))

import matplotlib  # noqa: E402

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from nextgenface.colour import encode_8bit  # noqa: E402
from nextgenface.config import Config  # noqa: E402
from nextgenface.facemodel.model import FaceModel  # noqa: E402
from nextgenface.facemodel.registry import load_model  # noqa: E402
from nextgenface.fitting.bake import bake_vertices, texel_table  # noqa: E402
from nextgenface.fitting.whitened import whiten  # noqa: E402
from nextgenface.rendering import deferred  # noqa: E402
from nextgenface.rendering.light import lobe_centres, lobe_weights, lobes_to_map  # noqa: E402
from nextgenface.rendering.sh import equirect_directions, sh_basis  # noqa: E402
from PIL import Image  # noqa: E402

RED, GREEN, BLUE = "#d62728", "#2ca02c", "#1f5fd0"
SIZE, FOCAL, DISTANCE = 360, 1080.0, 900.0
LAMP = (0.75, 0.45, 0.5)


def pose_of(angles: tuple[float, float, float]) -> deferred.Pose:
    """A camera in front of the head, which is turned by Euler angles (degrees)."""
    euler = torch.tensor([math.radians(a) for a in angles])
    centre = torch.tensor([SIZE / 2, SIZE / 2])
    return deferred.Pose.from_euler(euler, torch.tensor([0.0, 0.0, DISTANCE]), torch.tensor(FOCAL), centre)


def lamp() -> torch.Tensor:
    """One soft lamp at the right, above, in front: (D, 3) in the light frame."""
    towards = torch.nn.functional.normalize(torch.tensor(LAMP), dim=0)
    return (0.4 + 6.0 * torch.exp(8 * (lobe_centres() @ towards - 1)))[:, None].expand(-1, 3).contiguous()


def portrait(model: FaceModel, pose: deferred.Pose) -> np.ndarray:
    """The mean face under the lamp, (SIZE, SIZE, 3) uint8 on white."""
    w = whiten(model, "cpu")
    with torch.no_grad():
        camera = pose.camera_space(w.neutral)
        transfer = deferred.trace_transfer(w.neutral, w.faces, pose)
        zero = torch.zeros(len(w.diffuse_sd))
        colour, level = w.colour(zero), w.level(zero)
        shading = deferred.shade_vertices(camera, w.faces, lamp(), colour, w.roughness, transfer)
        drawing = deferred.draw_vertices(
            camera, w.faces, pose.screen(camera), (SIZE, SIZE), shading, colour, level, w.roughness
        )
        return encode_8bit(drawing.fragments.picture(drawing.radiance, 1.0).numpy())


def arrow(axes: plt.Axes, start: np.ndarray, end: np.ndarray, colour: str, text: str) -> None:
    """An arrow with its name at the tip."""
    style = {"arrowstyle": "-|>", "color": colour, "lw": 2.2, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=end, xytext=start, arrowprops=style)
    away = (end - start) / max(np.linalg.norm(end - start), 1e-6)
    axes.text(*(end + away * 14), text, color=colour, fontsize=10, ha="center", va="center", weight="bold")


def model_axes(axes: plt.Axes, model: FaceModel, angles: tuple[float, float, float]) -> None:
    """The head with the axes of model space."""
    pose = pose_of(angles)
    axes.imshow(portrait(model, pose))
    tips = torch.tensor([[0.0, 0, 0], [115, 0, 0], [0, 125, 0], [0, 0, 150]])
    screen = pose.screen(pose.camera_space(tips)).numpy()
    for tip, colour, text in zip(screen[1:], (RED, GREEN, BLUE), ("x", "y", "z"), strict=True):
        if np.linalg.norm(tip - screen[0]) > 20:
            arrow(axes, screen[0], tip, colour, text)
    axes.set_axis_off()


def save(figure: plt.Figure, path: Path) -> None:
    """Write a figure with 128 colours: small files, and no more are needed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=80, facecolor="white", bbox_inches="tight", pad_inches=0.08)
    plt.close(figure)
    picture = Image.open(buffer).convert("RGB").quantize(128)
    picture.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def draw_frames(model: FaceModel, path: Path) -> None:
    """Model space, the camera's picture, Blender's world."""
    figure, panels = plt.subplots(1, 3, figsize=(13, 4.6))
    model_axes(panels[0], model, (180 + 12, 32, 0))
    panels[0].set_title("model space, mm\nx to the subject's left, y up, z out of the face", fontsize=10)
    pose = pose_of((180, 0, 0))
    panels[1].imshow(portrait(model, pose))
    arrow(panels[1], np.array([12.0, 12.0]), np.array([110.0, 12.0]), RED, "x")
    arrow(panels[1], np.array([12.0, 12.0]), np.array([12.0, 110.0]), GREEN, "y")
    panels[1].plot(30, 30, marker="x", color=BLUE, ms=9, mew=2)
    panels[1].plot(30, 30, marker="o", mfc="none", color=BLUE, ms=15, mew=1.5)
    panels[1].text(44, 34, "z, into the picture", color=BLUE, fontsize=10, weight="bold", va="center")
    panels[1].set_title(
        "camera (OpenCV): x right, y down, z forward\nX_cam = R X + t, frontal R = diag(1, −1, −1)",
        fontsize=10,
    )
    panels[1].set_axis_off()
    pose = pose_of((180 + 12, 32, 0))
    panels[2].imshow(portrait(model, pose))
    blender = torch.tensor([[0.0, 0, 0], [115, 0, 0], [0, 0, 150], [0, 125, 0]])
    screen = pose.screen(pose.camera_space(blender)).numpy()
    for tip, colour, text in zip(screen[1:], (RED, GREEN, BLUE), ("X", "−Y", "Z"), strict=True):
        arrow(panels[2], screen[0], tip, colour, text)
    panels[2].set_title("Blender's world, metres: (x, −z, y) · 0.001\nthe face looks along −Y", fontsize=10)
    panels[2].set_axis_off()
    save(figure, path)


def draw_pixels(path: Path) -> None:
    """Pixel centres, and the crop that is fitted."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    for k in range(6):
        left.plot([k, k], [0, 4], color="#999", lw=1)
    for k in range(5):
        left.plot([0, 5], [k, k], color="#999", lw=1)
    x, y = np.meshgrid(np.arange(5) + 0.5, np.arange(4) + 0.5)
    left.plot(x, y, ".", color="#444")
    left.plot(0.5, 0.5, "o", color=RED)
    left.text(0.62, 0.3, "(0.5, 0.5)", color=RED, fontsize=10)
    left.plot(0, 0, "o", color=BLUE)
    left.text(-0.08, -0.14, "(0, 0)", color=BLUE, fontsize=10, ha="right")
    left.set(xlim=(-1.1, 5.3), ylim=(4.3, -0.5), aspect="equal")
    left.set_title("pixel centres lie at +0.5, rows go down", fontsize=10)
    left.set_axis_off()
    right.add_patch(plt.Rectangle((0, 0), 12, 8, fill=False, lw=1.5, color="#444"))
    right.add_patch(plt.Rectangle((6.5, 1.0), 4, 4, fill=True, alpha=0.25, color=BLUE))
    right.plot(6, 4, "+", color=RED, ms=12, mew=2)
    right.text(5.8, 4.5, "principal point", color=RED, fontsize=9, ha="right")
    right.text(6.4, 0.75, "(x0, y0)", color=BLUE, fontsize=10, ha="center")
    right.text(8.5, 3.1, "fitted\npicture", color=BLUE, fontsize=10, ha="center", va="center")
    right.text(0.2, 7.6, "photo", fontsize=10)
    right.set(xlim=(-0.5, 12.5), ylim=(8.4, -0.4), aspect="equal")
    right.set_title("pixel_fit = (pixel_photo − (x0, y0)) · scale", fontsize=10)
    right.set_axis_off()
    save(figure, path)


def draw_uv(model: FaceModel, path: Path) -> None:
    """The texture layout, and which way is up."""
    resolution = 256
    w = whiten(model, "cpu")
    baked = bake_vertices(model, w.diffuse_mean, resolution).numpy()
    on_face = texel_table(model, resolution).on_face.numpy()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.4))
    left.imshow(encode_8bit(np.where(on_face[..., None], baked, 0.9)), extent=(0, 1, 0, 1))
    left.set(xlabel="u", ylabel="v", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    left.set_title("uv: origin at the bottom left\n(image row 0 is v = 1)", fontsize=10)
    for name, index in (("subject's right", 50), ("subject's left", 280)):
        left.annotate(
            name,
            model.uv[index],
            xytext=(0, -46),
            textcoords="offset points",
            fontsize=9,
            ha="center",
            arrowprops={"arrowstyle": "-|>", "color": "#222"},
        )
    right.imshow(encode_8bit(baked), extent=(0, 1, 0, 1))
    right.set(xticks=[], yticks=[])
    right.set_title("as it is written: borders filled outwards,\nsampled at texel centres", fontsize=10)
    save(figure, path)


def draw_light(model: FaceModel, path: Path) -> None:
    """The light frame, the solver's map, and Blender's map of the same lamp."""
    figure = plt.figure(figsize=(13, 4.2))
    grid = figure.add_gridspec(1, 3, width_ratios=[1, 1.7, 1.7])
    first = figure.add_subplot(grid[0])
    pose = pose_of((180, 0, 0))
    first.imshow(portrait(model, pose))
    centre = np.array([SIZE / 2, SIZE / 2 + 10])
    arrow(first, centre, centre + (150, 0), RED, "x")
    arrow(first, centre, centre + (0, -165), GREEN, "y")
    first.text(*(centre + (0, 22)), "z to the viewer", color=BLUE, fontsize=10, ha="center", weight="bold")
    first.set_title("light frame: x right, y up", fontsize=10)
    first.set_axis_off()

    def labels(axes: plt.Axes, marks: dict[str, tuple[float, float]]) -> None:
        for text, (u, v) in marks.items():
            axes.plot(u, v, "+", color="white", ms=9, mew=2)
            axes.text(u, v + 0.05, text, color="white", fontsize=10, ha="center", va="top", weight="bold")
        axes.set(xlabel="u", ylabel="v (rows)", xticks=[0, 0.25, 0.5, 0.75, 1], yticks=[0, 0.5, 1])

    solver = lobes_to_map(lamp(), 96).numpy()
    second = figure.add_subplot(grid[1])
    second.imshow(encode_8bit(solver / solver.max()), extent=(0, 1, 1, 0), aspect=0.5)
    labels(
        second, {"+z": (0.5, 0.5), "+x": (0.25, 0.5), "−x": (0.75, 0.5), "−z": (0.96, 0.5), "+y": (0.5, 0.09)}
    )
    second.set_title("solver's map: centre column +z\n(sin πv sin 2πu, cos πv, −sin πv cos 2πu)", fontsize=10)
    # Blender's world is (x, -z, y) of the light frame when the head is frontal.
    v, u = np.meshgrid((np.arange(96) + 0.5) / 96, (np.arange(192) + 0.5) / 192, indexing="ij")
    around, up = (0.5 - u) * 2 * np.pi, (0.5 - v) * np.pi
    world = np.stack([np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)], -1)
    in_light = torch.tensor(np.stack([world[..., 0], world[..., 2], -world[..., 1]], -1)).float()
    values = (lobe_weights(in_light.view(-1, 3)) @ lamp()).view(96, 192, 3).numpy()
    third = figure.add_subplot(grid[2])
    third.imshow(encode_8bit(values / values.max()), extent=(0, 1, 1, 0), aspect=0.5)
    labels(
        third, {"−Y": (0.75, 0.5), "+X": (0.5, 0.5), "+Y": (0.25, 0.5), "−X": (0.96, 0.5), "+Z": (0.5, 0.09)}
    )
    third.set_title("envMap_i.exr, Blender's world, head frontal:\nu = 0.5 − atan2(y, x)/2π", fontsize=10)
    save(figure, path)


def draw_harmonics(path: Path) -> None:
    """The first nine real spherical harmonics as maps in the light frame."""
    height = 40
    basis = sh_basis(equirect_directions(height, 2 * height).view(-1, 3), 3).view(height, 2 * height, 9)
    figure, panels = plt.subplots(3, 5, figsize=(9, 3.4))
    for panel in panels.ravel():
        panel.set_axis_off()
    for degree in range(3):
        for m in range(-degree, degree + 1):
            panel = panels[degree, 2 + m]
            index = degree * (degree + 1) + m
            panel.imshow(basis[..., index].numpy(), cmap="RdBu_r", vmin=-0.8, vmax=0.8)
            axis = {1: " ~ x", 2: " ~ y", 3: " ~ z"}.get(index, "")
            panel.set_title(f"{index}: l={degree}, m={m}{axis}", fontsize=9)
    save(figure, path)


def main(folder: Path) -> None:
    """Draw all pictures."""
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    model = load_model(Config())
    draw_frames(model, folder / "conventions_frames.png")
    draw_pixels(folder / "conventions_pixels.png")
    draw_uv(model, folder / "conventions_uv.png")
    draw_light(model, folder / "conventions_light.png")
    draw_harmonics(folder / "conventions_harmonics.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")
