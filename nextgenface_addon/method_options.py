"""The options of the methods for many views. No bpy in here."""

from __future__ import annotations

from dataclasses import replace

from .option_types import Group, Option


def _of(method: str, name: str, label: str, *options: Option, closed: bool) -> Group:
    return Group(name, label, tuple(replace(option, method=method) for option in options), closed)


METHOD_GROUPS: tuple[Group, ...] = (
    _of(
        "mesh",
        "mesh",
        "Mesh",
        Option(
            "iterations",
            "Steps",
            2000,
            "Optimization steps. Raise them when the surface is still too smooth",
            low=1,
        ),
        Option(
            "image_scale",
            "Reduce Pictures",
            1,
            "Work at this fraction of the pictures' resolution: 2 is a half. Raise it when memory is short",
            low=1,
            high=64,
        ),
        Option(
            "max_faces",
            "Most Triangles",
            40000,
            "The mesh is never made finer than this. Raise it for more detail, lower it for less noise",
            low=100,
        ),
        Option(
            "texture_size",
            "Texture",
            1024,
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
        Option(
            "initial_mesh",
            "Start",
            "vh32",
            "vh and a number: the hull of the silhouettes on so many cells; sphere and a number; face: a "
            "head fitted to the views",
        ),
        Option(
            "weight_mask",
            "Silhouettes",
            2.0,
            "Weight of the silhouettes. Lower it when the masks are rough",
            low=0.0,
        ),
        Option(
            "weight_laplacian",
            "Smoothness",
            40.0,
            "Weight of smoothness. Raise it when the surface is bumpy",
            low=0.0,
        ),
        Option(
            "weight_normal",
            "Even Normals",
            0.1,
            "Weight of even normals. Raise it when triangles stand out",
            low=0.0,
        ),
        Option("seed", "Seed", 0, "The same seed gives the same result", low=0),
        closed=True,
    ),
    _of(
        "gaussians",
        "gaussians",
        "Gaussians",
        Option(
            "steps",
            "Steps",
            2000,
            "Optimization steps, one picture each. Raise them for many pictures and fine detail",
            low=1,
            high=1_000_000,
        ),
        Option(
            "resolution",
            "Picture Resolution",
            256,
            "Longest side of the pictures learned from, in pixels. Raise it for finer hair and skin",
            low=16,
            high=8192,
        ),
        Option(
            "maxPoints",
            "Most Gaussians",
            12_000,
            "Raise it for finer detail, where time and memory allow it",
            low=1,
            high=10_000_000,
        ),
        Option(
            "shDegree",
            "View Dependence",
            1,
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
        Option(
            "initialPoints",
            "First Gaussians",
            3000,
            "Gaussians at the start; more are added where they are needed",
            low=1,
            high=10_000_000,
        ),
        Option(
            "learnCameras",
            "Refine Cameras",
            "auto",
            "Whether cameras are moved so that the pictures fit better",
            choices=(
                ("auto", "For Photos", "Refine cameras that were estimated, keep those that were measured"),
                ("yes", "Always", "Refine all cameras"),
                ("no", "Never", "Keep all cameras"),
            ),
        ),
        Option(
            "randomBackground",
            "Random Background",
            True,
            "Put random colors behind pictures with masks, so that nothing grows outside the head",
        ),
        Option("seed", "Seed", 0, "The same seed gives the same result", low=0, high=2**31 - 1),
        closed=True,
    ),
)
