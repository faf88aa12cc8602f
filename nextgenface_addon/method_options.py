"""The options of the methods for many views that matter most. No bpy in here."""

from __future__ import annotations

from .option_types import Group
from .solver_options import group, option

METHOD_GROUPS: tuple[Group, ...] = (
    group(
        "texture",
        "texture",
        "Texture",
        option(
            "tex_dim",
            "Map Resolution",
            "Side of the texture in pixels. Raise it for close-ups; it helps as far as the pictures have "
            "that detail",
        ),
        option(
            "image_scale",
            "Reduce Pictures",
            "Reduce the pictures this many times. Raise it when time or memory is short",
        ),
        option(
            "specularRobust",
            "No Highlights",
            "Leave highlights, which move from view to view, out of the texture. For skin in hard light",
        ),
        option(
            "exposure",
            "Even Exposure",
            "Find how bright each picture is compared with the others. For pictures with automatic exposure",
        ),
        closed=False,
    ),
    group(
        "texture",
        "texture_more",
        "Steps and Layout",
        option("niter", "Steps", "Steps at the full learning rate. Raise them when detail is missing"),
        option(
            "niter_decay",
            "Further Steps",
            "Steps while the learning rate falls. Raise them when the texture is noisy",
        ),
        option(
            "lambda_Reg_Tex",
            "Smoothness",
            "Pull of the fine levels towards zero. Raise it for smoother maps, lower it for more detail",
        ),
        option(
            "unwrap",
            "New Layout",
            "When the mesh gets new texture coordinates",
            choices=(
                ("auto", "Where Missing", "Only for a mesh without texture coordinates"),
                ("always", "Always", "Also for a mesh that has them"),
                ("never", "Never", "A mesh without them is an error"),
            ),
        ),
        option(
            "unit",
            "Unit",
            "Unit of the cameras and the mesh. Change it when the result has the wrong size",
            choices=(
                ("mm", "Millimeters", "Lengths are millimeters"),
                ("cm", "Centimeters", "Lengths are centimeters"),
                ("m", "Meters", "Lengths are meters"),
            ),
        ),
        option(
            "up",
            "Up",
            "Axis of the cameras and the mesh that points up. Change it when the result lies on its back",
            choices=(("y", "Y", "The y axis points up"), ("z", "Z", "The z axis points up")),
        ),
    ),
    group(
        "mesh",
        "mesh",
        "Mesh",
        option(
            "iterations",
            "Steps",
            "Optimization steps. Raise them when the surface is still too smooth",
        ),
        option(
            "image_scale",
            "Reduce Pictures",
            "Work at this fraction of the pictures' resolution: 2 is a half. Raise it when memory is short",
        ),
        option(
            "max_faces",
            "Most Triangles",
            "The mesh is never made finer than this. Raise it for more detail, lower it for less noise",
        ),
        option(
            "texture_size",
            "Texture",
            "Side of the baked texture in pixels; 0 bakes none",
        ),
        closed=False,
    ),
    group(
        "mesh",
        "mesh_more",
        "Weights and Start",
        option(
            "initial_mesh",
            "Start",
            "vh and a number: the hull of the silhouettes on so many cells; sphere and a number; face: a "
            "head fitted to the views",
        ),
        option(
            "weight_mask",
            "Silhouettes",
            "Weight of the silhouettes. Lower it when the masks are rough",
        ),
        option(
            "weight_laplacian",
            "Smoothness",
            "Weight of smoothness. Raise it when the surface is bumpy",
        ),
        option(
            "weight_normal",
            "Even Normals",
            "Weight of even normals. Raise it when triangles stand out",
        ),
        option("seed", "Seed", "The same seed gives the same result"),
    ),
    group(
        "gaussians",
        "gaussians",
        "Gaussians",
        option(
            "steps",
            "Steps",
            "Optimization steps, one picture each. Raise them for many pictures and fine detail",
        ),
        option(
            "resolution",
            "Picture Resolution",
            "Longest side of the pictures learned from, in pixels. Raise it for finer hair and skin",
        ),
        option(
            "maxPoints",
            "Most Gaussians",
            "Raise it for finer detail, where time and memory allow it",
        ),
        option(
            "shDegree",
            "View Dependence",
            "How much a color may change with the direction. Raise it for gloss seen from many sides; lower "
            "it when few photos make colors flicker",
        ),
        closed=False,
    ),
    group(
        "gaussians",
        "gaussians_more",
        "Start and Cameras",
        option(
            "initialPoints",
            "First Gaussians",
            "Gaussians at the start; more are added where they are needed",
        ),
        option(
            "learnCameras",
            "Refine Cameras",
            "Whether cameras are moved so that the pictures fit better",
            choices=(
                ("auto", "For Photos", "Refine cameras that were estimated, keep those that were measured"),
                ("yes", "Always", "Refine all cameras"),
                ("no", "Never", "Keep all cameras"),
            ),
        ),
        option(
            "randomBackground",
            "Random Background",
            "Put random colors behind pictures with masks, so that nothing grows outside the head",
        ),
        option("seed", "Seed", "The same seed gives the same result"),
    ),
)
