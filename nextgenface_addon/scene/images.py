"""Image datablocks with the right colour space, packed into the .blend or linked."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import bpy
import numpy as np

from .owned import Owner
from .results_folder import ResultsError

ColourSpace = Literal["sRGB", "Non-Color", "Linear Rec.709"]


def load_image(
    owner: Owner, role: str, path: Path, colour_space: ColourSpace, *, name: str, pack: bool
) -> bpy.types.Image:
    """Load or reload the image with this role. The file on disk wins over what was packed earlier.

    `colour_space`: sRGB for the diffuse map and the photo, Non-Color for specular and roughness,
    Linear Rec.709 for the environment. The file has passed `check_readable`.
    """
    image = owner.find(bpy.data.images, role)
    if image is None:
        image = bpy.data.images.load(str(path), check_existing=False)
        image.name = name
        owner.tag(image, role)
    else:
        if image.packed_file is not None:
            image.unpack(method="REMOVE")
        image.filepath = str(path)
        image.reload()
    image.colorspace_settings.name = colour_space
    image.alpha_mode = "STRAIGHT" if path.suffix.lower() != ".exr" else "PREMUL"
    if pack:
        image.pack()
    return image


def check_readable(path: Path) -> None:
    """Raise ResultsError when Blender cannot decode an image, so that an import can stop before it begins."""
    try:
        image = bpy.data.images.load(str(path), check_existing=False)
    except RuntimeError as error:
        raise ResultsError(f"Blender cannot read {path}. Run the reconstruction again.") from error
    size = tuple(image.size)  # `load` only notes the name; reading the size reads the file
    bpy.data.images.remove(image)
    if 0 in size:
        raise ResultsError(f"{path} is damaged or not an image. Run the reconstruction again.")


def is_grey(image: bpy.types.Image) -> bool:
    """Whether the three colour channels are equal in every pixel."""
    if image.channels < 3:
        return True
    pixels = np.empty(image.size[0] * image.size[1] * image.channels, dtype=np.float32)
    image.pixels.foreach_get(pixels)
    colour = pixels.reshape(-1, image.channels)[:, :3]
    return bool(np.array_equal(colour[:, 0], colour[:, 1]) and np.array_equal(colour[:, 0], colour[:, 2]))
