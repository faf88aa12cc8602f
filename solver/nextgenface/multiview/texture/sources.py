"""What the method starts from: views and a mesh, or UV maps alone, checked and brought together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...errors import NextGenFaceError
from ...events import Listener
from ...views import ViewSet
from ..datasets import Frame, check, neural_texgen, read_views, with_person_masks
from ..datasets.neural_texgen import UvView
from ..meshes import Mesh, MeshError, read_mesh, unwrap
from ..method import Request
from .options import TextureOptions
from .uvmaps import Surface, footprint, outside_share, overlap, uv_view

BYTES_PER_PIXEL = 1200
"""Memory of one pixel in pictures and sparse matrices while they are built (measured: 1100, four levels)."""

BYTES_PER_TEXEL = 8
"""Memory of one texel of the finished picture while it is put together."""

FINEST_STEP = 0.7
"""Texels of the coarsest level between neighbouring pixels: closer, and every texel of it is hit."""

OVERLAP = 0.01


@dataclass(frozen=True)
class Sources:
    """`learned` views, the same as UV maps, `held_out` views; the mesh and its tensors, if there is one."""

    learned: ViewSet
    maps: list[UvView]
    held_out: ViewSet
    mesh: Mesh | None = None
    surface: Surface | None = None


def gather(request: Request, options: TextureOptions, device: str, listener: Listener) -> Sources:
    """Read and check everything. Raises DataSetError, MeshError, NextGenFaceError."""
    if len(request.inputs) != 1:
        raise NextGenFaceError("The method texture takes one data set: a folder with pictures and cameras.")
    folder = request.inputs[0].expanduser()
    frame = Frame(options.unit, options.up)
    if neural_texgen.is_one(folder):
        return _uv_maps(folder, request, frame, options, device, listener)
    views = read_views(folder, format=options.format, image_scale=options.image_scale, frame=frame)
    mesh = read_layout(request.mesh or _own_mesh(folder), frame, options, listener)
    if request.mesh is None and len(views) > 1:
        listener.warning("the mesh has the expression of the first photo; photos with another fit it less")
    unseeing = check(views, mesh.vertices)
    if unseeing:
        listener.warning(f"these views do not see the mesh and are left out: {', '.join(unseeing)}")
        views = ViewSet(tuple(view for view in views if view.name not in unseeing), views.bounds)
    views = _masked(views, options, listener)
    learned, held_out = views.split([name for name in request.held_out if name not in unseeing])
    if len(learned) == 0:
        raise NextGenFaceError("All views are held out, so there is nothing to learn from.")
    learned = _within_memory(learned, options, listener)
    surface = Surface.of(mesh, device).turned_outward(learned.cameras)
    maps = [uv_view(surface, view, power=options.anglePower) for view in learned]
    _report_unseen(maps, listener)
    return Sources(learned, maps, held_out, mesh, surface)


def pyramid_sizes(maps: Sequence[UvView], options: TextureOptions) -> list[int]:
    """Sides of the levels, coarse to fine, so coarse that every texel the pictures show is hit by a pixel."""
    sizes = [options.tex_dim]
    step = max((footprint(view) for view in maps), default=0.0)
    while sizes[0] > 16 and (len(sizes) < options.levels or sizes[0] * step > FINEST_STEP):
        sizes.insert(0, max(sizes[0] // 2, 8))
    return sizes


def _uv_maps(
    folder: Path, request: Request, frame: Frame, options: TextureOptions, device: str, listener: Listener
) -> Sources:
    """A NeuralTexGen data set; a mesh, when there is one, only says where the layout is."""
    if request.held_out:
        raise NextGenFaceError(
            "Views of a data set of UV maps cannot be held out: their cameras are not known."
        )
    maps, notes = neural_texgen.read(folder)
    for note in notes:
        listener.warning(note)
    _report_unseen(maps, listener)
    mesh = None
    if request.mesh is not None:
        mesh = read_layout(request.mesh, frame, replace(options, unwrap="never"), listener)
    surface = None if mesh is None else Surface.of(mesh, device)
    return Sources(ViewSet(()), maps, ViewSet(()), mesh, surface)


def _own_mesh(folder: Path) -> Path:
    """The mesh of a results folder of a fitted face. Raises MeshError for other folders."""
    place = folder if folder.is_dir() else folder.parent
    if (place / "geometry.npz").is_file():
        return place
    raise MeshError("The method texture needs a mesh: give one with --mesh (.obj, .ply, .off).")


def read_layout(path: Path, frame: Frame, options: TextureOptions, listener: Listener) -> Mesh:
    """A mesh in model space with a usable layout, unwrapped as the options say. Raises MeshError."""
    mesh = read_mesh(path)
    mesh = replace(mesh, vertices=frame.points(mesh.vertices))
    if options.unwrap == "always" or (mesh.uv is None and options.unwrap == "auto"):
        if mesh.uv is None:
            listener.warning(
                f"{path.name} has no texture coordinates: xatlas makes a layout (mesh.obj has it)"
            )
        mesh = unwrap(mesh, options.tex_dim, padding=max(2, options.tex_dim // 256))
    if mesh.uv is None:
        raise MeshError(f"{path} has no texture coordinates. Unwrap it, or let xatlas do it (unwrap auto).")
    outside = outside_share(mesh)
    if outside > 0:
        raise MeshError(
            f"{path}: {outside:.1%} of the faces have texture coordinates outside 0 to 1. Pack the layout "
            "into the square, or have a new one made with unwrap=always."
        )
    doubled = overlap(Surface.of(mesh))
    if doubled > OVERLAP:
        listener.warning(
            f"{doubled:.0%} of the layout lies on top of other parts of it: they share texels and get the "
            "mean of what is seen there. unwrap=always makes a layout without overlaps."
        )
    return mesh


def _masked(views: ViewSet, options: TextureOptions, listener: Listener) -> ViewSet:
    missing = [view.name for view in views if view.mask is None]
    if not missing or options.masks == "none" or (options.masks == "auto" and len(missing) == len(views)):
        # Without any mask the mesh's own outline is all there is to go by.
        return views
    done, made = with_person_masks(views)
    if made:
        listener.warning(f"masks found by person segmentation for {', '.join(made)}")
    lost = [view.name for view in done if view.mask is None]
    if lost:
        listener.warning(f"no mask, so the whole picture counts where the mesh is: {', '.join(lost)}")
    return ViewSet(tuple(done), views.bounds)


def _within_memory(views: ViewSet, options: TextureOptions, listener: Listener) -> ViewSet:
    """The views, reduced where their pixels would not fit into memory. Raises NextGenFaceError."""
    budget = 1e6 * (options.memory_mb or 0.5 * free_memory_mb())
    texture = BYTES_PER_TEXEL * options.tex_dim**2
    if texture > budget:
        fitting = 2 ** int(np.log2(max(budget / BYTES_PER_TEXEL, 1) ** 0.5))
        raise NextGenFaceError(
            f"A texture of {options.tex_dim} texels needs {texture / 1e6:.0f} MB, {budget / 1e6:.0f} MB may "
            f"be taken. Choose tex_dim {fitting} or less, or raise memory_mb."
        )
    pixels = sum(
        float((view.mask > 0).sum()) if view.mask is not None else view.camera.width * view.camera.height
        for view in views
    )
    allowed = (budget - texture) / BYTES_PER_PIXEL
    if pixels <= allowed:
        return views
    factor = (allowed / pixels) ** 0.5
    listener.warning(
        f"{pixels / 1e6:.1f} million pixels do not fit into {budget / 1e6:.0f} MB: the pictures are used at "
        f"{factor:.0%} of their resolution. Raise memory_mb for more."
    )
    return views.scaled(factor)


def free_memory_mb() -> float:
    """Memory that is free now, 10^6 bytes; 4000 where nothing tells."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) / 1e3
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, ValueError, AttributeError):
        return 4000.0


def _report_unseen(maps: list[UvView], listener: Listener) -> None:
    useful = [view.name for view in maps if (view.valid if view.weight is None else view.weight > 0).any()]
    if not useful:
        raise NextGenFaceError(
            "No view shows the mesh: it lies outside every picture or mask, or is seen from behind only. "
            "Check that cameras, masks and mesh belong together."
        )
    if len(useful) < len(maps):
        useless = [view.name for view in maps if view.name not in useful]
        listener.warning(f"nothing of the mesh is seen well in {', '.join(useless)}")
    if len(useful) == 1:
        listener.warning("there is one view only: what it does not show is filled from its surroundings")
