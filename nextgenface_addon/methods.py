"""The ways to reconstruct that the panel and the commands offer. No bpy in here.

A new method is one entry in EVERY_METHOD: its name in job.json, what it needs as input, its stages as the
solver names them, and the groups of options (see `options`) that mean something to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .solver_python import package_root

Input = Literal["photos", "dataset", "either"]
"""`photos`: the panel's list. `dataset`: one folder with pictures and their cameras. `either`: the folder
when one is named, else the list.
"""


@dataclass(frozen=True)
class Method:
    """One way to reconstruct.

    `stages`: (name in the events, title for people), in order. `stage_checkpoints`: its stages 1, 2, 3 leave
    `checkpoints/stageN_output.pickle` behind; other methods find their own way on with `resume` in job.json.
    `takes_mesh`: the panel asks for a mesh to start from. `source`: the solver's file with its options;
    a method for many views is not offered without it.
    """

    name: str
    label: str
    description: str
    input: Input
    stages: tuple[tuple[str, str], ...]
    option_groups: tuple[str, ...]
    source: str
    stage_checkpoints: bool = False
    takes_mesh: bool = False


EVERY_METHOD: tuple[Method, ...] = (
    Method(
        name="face",
        label="Face from Photos",
        description="A head with skin maps, expression and light from one photo or several of one person",
        input="photos",
        stages=(
            ("pose", "Pose"),
            ("photometric", "Shape and light"),
            ("textures", "Textures"),
            ("render", "Final pictures"),
        ),
        option_groups=(
            "detail",
            "camera",
            "several",
            "skin",
            "steps",
            "model",
            "landmarks",
            "light",
            "computing",
        ),
        stage_checkpoints=True,
        source="config.py",
    ),
    Method(
        name="texture",
        label="Texture from Many Views",
        description="A texture for a mesh from pictures with known cameras; the mesh stays as it is",
        input="dataset",
        stages=(("views", "Views"), ("texture", "Texture"), ("render", "Final pictures")),
        option_groups=("texture", "texture_more"),
        takes_mesh=True,
        source="multiview/texture/options.py",
    ),
    Method(
        name="mesh",
        label="Mesh from Many Views",
        description="A surface with colors from pictures from all sides with known cameras",
        input="dataset",
        stages=(("mesh", "Mesh"), ("colors", "Colors")),
        option_groups=("mesh", "mesh_more"),
        takes_mesh=True,
        source="multiview/neural_shading/options.py",
    ),
    Method(
        name="gaussians",
        label="Gaussian Head",
        description="Gaussian splats from photos of one person, or from pictures with known cameras",
        input="either",
        stages=(("pose", "Pose"), ("photometric", "Shape and light"), ("gaussians", "Gaussians")),
        option_groups=("gaussians", "gaussians_more"),
        source="multiview/gaussians/options.py",
    ),
)


def method_source(method: Method) -> Path:
    """The solver's file with a method's options."""
    return package_root() / "solver" / "nextgenface" / method.source


METHODS = tuple(m for m in EVERY_METHOD if m.input == "photos" or method_source(m).is_file())
"""Those that this copy of the solver has."""


def method_named(name: str) -> Method:
    """The method of that name; the first one for a name that is not known (a file of a newer version)."""
    return next((method for method in METHODS if method.name == name), METHODS[0])
