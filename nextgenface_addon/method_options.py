"""The options of the methods for many views that matter most, with the solver's defaults. No bpy in here."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

from .methods import method_named, method_source
from .option_types import Group, Option, Value


def solver_defaults(source: Path) -> dict[str, Value]:
    """Name and default of each option in the solver's own list, read from its source without running it.

    The list is a dataclass with fields `name: type = option(default, …)`. Empty when the file is not there.
    """
    try:
        tree = ast.parse(source.read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return {}
    found: dict[str, Value] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            call = node.value
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "option" and call.args:
                found[node.target.id] = ast.literal_eval(call.args[0])
    return found


def _of(method: str, name: str, label: str, *options: Option, closed: bool) -> Group:
    """A group with the solver's own defaults; options that this solver does not have are left out."""
    defaults = solver_defaults(method_source(method_named(method)))
    known = (replace(o, method=method, default=defaults[o.name]) for o in options if o.name in defaults)
    return Group(name, label, tuple(known), closed)


def _option(name: str, label: str, tip: str, **more: Any) -> Option:
    return Option(name, label, "", tip, **more)  # the default is the solver's


METHOD_GROUPS: tuple[Group, ...] = (
    _of(
        "texture",
        "texture",
        "Texture",
        _option(
            "tex_dim",
            "Map Resolution",
            "Side of the texture in pixels. Raise it for close-ups; it helps as far as the pictures have "
            "that detail",
            low=16,
            high=8192,
        ),
        _option(
            "image_scale",
            "Reduce Pictures",
            "Reduce the pictures this many times. Raise it when time or memory is short",
            low=1,
            high=64,
        ),
        _option(
            "specularRobust",
            "No Highlights",
            "Leave highlights, which move from view to view, out of the texture. For skin in hard light",
        ),
        _option(
            "exposure",
            "Even Exposure",
            "Find how bright each picture is compared with the others. For pictures with automatic exposure",
        ),
        closed=False,
    ),
    _of(
        "texture",
        "texture_more",
        "Steps and Layout",
        _option(
            "niter", "Steps", "Steps at the full learning rate. Raise them when detail is missing", low=0
        ),
        _option(
            "niter_decay",
            "Further Steps",
            "Steps while the learning rate falls. Raise them when the texture is noisy",
            low=0,
        ),
        _option(
            "lambda_Reg_Tex",
            "Smoothness",
            "Pull of the fine levels towards zero. Raise it for smoother maps, lower it for more detail",
            low=0.0,
        ),
        _option(
            "unwrap",
            "New Layout",
            "When the mesh gets new texture coordinates",
            choices=(
                ("auto", "Where Missing", "Only for a mesh without texture coordinates"),
                ("always", "Always", "Also for a mesh that has them"),
                ("never", "Never", "A mesh without them is an error"),
            ),
        ),
        _option(
            "unit",
            "Unit",
            "Unit of the cameras and the mesh. Change it when the result has the wrong size",
            choices=(
                ("mm", "Millimeters", "Lengths are millimeters"),
                ("cm", "Centimeters", "Lengths are centimeters"),
                ("m", "Meters", "Lengths are meters"),
            ),
        ),
        _option(
            "up",
            "Up",
            "Axis of the cameras and the mesh that points up. Change it when the result lies on its back",
            choices=(("y", "Y", "The y axis points up"), ("z", "Z", "The z axis points up")),
        ),
        closed=True,
    ),
    _of(
        "mesh",
        "mesh",
        "Mesh",
        _option(
            "iterations",
            "Steps",
            "Optimization steps. Raise them when the surface is still too smooth",
            low=1,
        ),
        _option(
            "image_scale",
            "Reduce Pictures",
            "Work at this fraction of the pictures' resolution: 2 is a half. Raise it when memory is short",
            low=1,
            high=64,
        ),
        _option(
            "max_faces",
            "Most Triangles",
            "The mesh is never made finer than this. Raise it for more detail, lower it for less noise",
            low=100,
        ),
        _option(
            "texture_size",
            "Texture",
            "Side of the baked texture in pixels; 0 bakes none",
            low=0,
            high=8192,
        ),
        closed=False,
    ),
    _of(
        "mesh",
        "mesh_more",
        "Weights and Start",
        _option(
            "initial_mesh",
            "Start",
            "vh and a number: the hull of the silhouettes on so many cells; sphere and a number; face: a "
            "head fitted to the views",
        ),
        _option(
            "weight_mask",
            "Silhouettes",
            "Weight of the silhouettes. Lower it when the masks are rough",
            low=0.0,
        ),
        _option(
            "weight_laplacian",
            "Smoothness",
            "Weight of smoothness. Raise it when the surface is bumpy",
            low=0.0,
        ),
        _option(
            "weight_normal",
            "Even Normals",
            "Weight of even normals. Raise it when triangles stand out",
            low=0.0,
        ),
        _option("seed", "Seed", "The same seed gives the same result", low=0),
        closed=True,
    ),
    _of(
        "gaussians",
        "gaussians",
        "Gaussians",
        _option(
            "steps",
            "Steps",
            "Optimization steps, one picture each. Raise them for many pictures and fine detail",
            low=1,
            high=1_000_000,
        ),
        _option(
            "resolution",
            "Picture Resolution",
            "Longest side of the pictures learned from, in pixels. Raise it for finer hair and skin",
            low=16,
            high=8192,
        ),
        _option(
            "maxPoints",
            "Most Gaussians",
            "Raise it for finer detail, where time and memory allow it",
            low=1,
            high=10_000_000,
        ),
        _option(
            "shDegree",
            "View Dependence",
            "How much a color may change with the direction. Raise it for gloss seen from many sides; lower "
            "it when few photos make colors flicker",
            low=0,
            high=3,
        ),
        closed=False,
    ),
    _of(
        "gaussians",
        "gaussians_more",
        "Start and Cameras",
        _option(
            "initialPoints",
            "First Gaussians",
            "Gaussians at the start; more are added where they are needed",
            low=1,
            high=10_000_000,
        ),
        _option(
            "learnCameras",
            "Refine Cameras",
            "Whether cameras are moved so that the pictures fit better",
            choices=(
                ("auto", "For Photos", "Refine cameras that were estimated, keep those that were measured"),
                ("yes", "Always", "Refine all cameras"),
                ("no", "Never", "Keep all cameras"),
            ),
        ),
        _option(
            "randomBackground",
            "Random Background",
            "Put random colors behind pictures with masks, so that nothing grows outside the head",
        ),
        _option("seed", "Seed", "The same seed gives the same result", low=0, high=2**31 - 1),
        closed=True,
    ),
)
