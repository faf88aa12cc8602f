"""Gaussians as files: the PLY of the original implementation, and `.splat` for web viewers.

Lengths stay as they are (mm); axes are those that programs expect of such files: x right, y down, z forward,
which is model space after half a turn about x. Reading turns back.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import NextGenFaceError
from ...files import write_bytes
from . import harmonics
from .splats import Splats

REST = 45
"""Colour coefficients beyond the constant one; always written, as some importers insist on them."""
_NAMES = [
    "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *(f"f_rest_{i}" for i in range(REST)),
    "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
]  # fmt: skip
_NEEDED = [name for name in _NAMES if name[0] not in "n" and not name.startswith("f_rest")]
_TYPES = {"float": "f4", "float32": "f4", "double": "f8", "float64": "f8", "uchar": "u1", "uint8": "u1",
          "char": "i1", "int8": "i1", "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
          "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4"}  # fmt: skip
_LONGEST_HEADER = 65536

PathLike = str | os.PathLike[str]


class SplatFileError(NextGenFaceError):
    """A file of Gaussians cannot be read."""


def turned_over(splats: Splats) -> Splats:
    """The Gaussians turned by half a turn about x: model space to the files' axes, and back."""
    flip = splats.positions.new_tensor((1.0, -1.0, -1.0))
    w, x, y, z = splats.rotations.unbind(-1)
    return Splats(
        positions=splats.positions * flip,
        log_scales=splats.log_scales,
        rotations=torch.stack([-x, w, -z, y], -1),
        opacity_logits=splats.opacity_logits,
        base=splats.base,
        bands=splats.bands * _parities(splats.degree).to(splats.bands)[1:, None],
    )


def _parities(degree: int) -> Tensor:
    """How each basis function changes sign under (x, -y, -z)."""
    somewhere = torch.tensor([[0.48, 0.6, 0.64]])
    flipped = somewhere * torch.tensor((1.0, -1.0, -1.0))
    return torch.sign(harmonics.basis(flipped, degree)[0] * harmonics.basis(somewhere, degree)[0])


def write_ply(path: PathLike, splats: Splats) -> None:
    """Write the PLY of Kerbl et al. 2023, which importers and viewers take. Raises OutputError.

    Opacity as logit, scales as natural logarithms of mm, quaternions w x y z, colours as coefficients.
    """
    turned = turned_over(splats.detached())
    count = len(turned)
    rest = np.zeros((count, 3, REST // 3), dtype=np.float32)
    rest[:, :, : turned.bands.shape[1]] = turned.bands.cpu().numpy().transpose(0, 2, 1)
    rotations = torch.nn.functional.normalize(turned.rotations, dim=-1)
    columns = [
        turned.positions,
        torch.zeros(count, 3),
        turned.base,
        torch.from_numpy(rest.reshape(count, REST)),
        turned.opacity_logits[:, None],
        turned.log_scales,
        rotations,
    ]
    rows = torch.cat([column.float().cpu() for column in columns], 1).numpy().astype("<f4")
    header = ["ply", "format binary_little_endian 1.0"]
    header += ["comment axes: x right, y down, z forward", f"element vertex {count}"]
    header += [f"property float {name}" for name in _NAMES]
    write_bytes(Path(path), ("\n".join([*header, "end_header"]) + "\n").encode("ascii") + rows.tobytes())


def read_ply(path: PathLike) -> Splats:
    """Read such a PLY, of this program or another, into model space. Raises SplatFileError."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SplatFileError(f"Cannot read {path}: {error.strerror or error}.") from error
    head, mark, body = data[:_LONGEST_HEADER].partition(b"end_header\n")
    if not mark or not head.startswith(b"ply"):
        raise SplatFileError(f"{path} is not a PLY file. Give the .ply of a Gaussian-splat scene.")
    row, count = _row_type(head.decode("ascii", "replace").replace("\r", ""), path)
    missing = [name for name in _NEEDED if name not in (row.names or ())]
    if missing:
        raise SplatFileError(
            f"{path} is a PLY without {', '.join(missing)}: not a Gaussian-splat scene, perhaps a mesh."
        )
    body = data[len(head) + len(mark) :]
    if len(body) < count * row.itemsize:
        raise SplatFileError(f"{path} is cut off: {len(body)} bytes, not {count * row.itemsize}.")
    rows = np.frombuffer(body, row, count)
    rest = [name for name in (row.names or ()) if name.startswith("f_rest_")]
    bands = len(rest) // 3
    if len(rest) != 3 * bands or bands + 1 not in (1, 4, 9, 16):
        raise SplatFileError(f"{path} has {len(rest)} f_rest properties; 0, 9, 24 or 45 are possible.")

    def columns(*names: str) -> Tensor:
        values = np.stack([rows[name] for name in names], 1).astype(np.float32)
        if not np.isfinite(values).all():
            raise SplatFileError(f"{path} holds values of {names[0]} that are not finite numbers.")
        return torch.from_numpy(values)

    coefficients = torch.zeros(count, 0, 3)
    if bands:
        ordered = columns(*(f"f_rest_{i}" for i in range(3 * bands)))
        coefficients = ordered.view(count, 3, bands).transpose(1, 2).contiguous()
    rotations = columns("rot_0", "rot_1", "rot_2", "rot_3")
    rotations[rotations.norm(dim=-1) < 1e-9] = torch.tensor((1.0, 0, 0, 0))
    return turned_over(
        Splats(
            positions=columns("x", "y", "z"),
            log_scales=columns("scale_0", "scale_1", "scale_2"),
            rotations=rotations,
            opacity_logits=columns("opacity")[:, 0],
            base=columns("f_dc_0", "f_dc_1", "f_dc_2"),
            bands=coefficients,
        )
    )


def _row_type(head: str, path: PathLike) -> tuple[np.dtype[Any], int]:
    """The numpy row of the vertices and their number; they must be the first element."""
    order, count, fields = "", -1, []
    for line in head.split("\n"):
        words = line.split()
        if words[:1] == ["format"]:
            order = {"binary_little_endian": "<", "binary_big_endian": ">"}.get(words[1], "")
        elif words[:1] == ["element"]:
            if count >= 0:
                break
            if words[1] != "vertex":
                raise SplatFileError(f"{path} begins with {words[1]}, not with points.")
            count = int(words[2]) if words[2].isdigit() else -1
        elif words[:1] == ["property"]:
            if words[1] not in _TYPES:
                raise SplatFileError(f"{path} has a property of type {words[1]}, which points do not have.")
            fields.append((words[-1], order + _TYPES[words[1]]))
    if not order:
        raise SplatFileError(f"{path} is a text PLY; save it as binary.")
    if count < 0:
        raise SplatFileError(f"{path} says nothing about its points.")
    return np.dtype(fields), count


def write_splat(path: PathLike, splats: Splats) -> None:
    """Write `.splat`: 32 bytes a Gaussian, the most important first, colour without direction.

    Position and standard deviations as float32, colour and opacity as 8 bit, quaternion w x y z as
    128 + 128 q. Raises OutputError.
    """
    turned = turned_over(splats.detached())
    order = torch.argsort(turned.opacities.log() + turned.log_scales.sum(-1), descending=True).cpu()
    rows = np.zeros(
        len(turned),
        [("position", "<f4", 3), ("scale", "<f4", 3), ("colour", "u1", 4), ("rotation", "u1", 4)],
    )
    colour = torch.cat([turned.base * harmonics.BAND0 + 0.5, turned.opacities[:, None]], 1)
    rotations = torch.nn.functional.normalize(turned.rotations, dim=-1)
    rows["position"] = turned.positions.cpu()[order]
    rows["scale"] = turned.scales.cpu()[order]
    rows["colour"] = _bytes(colour.cpu()[order] * 255)
    rows["rotation"] = _bytes(rotations.cpu()[order] * 128 + 128)
    write_bytes(Path(path), rows.tobytes())


def _bytes(values: Tensor) -> NDArray[np.uint8]:
    return np.asarray(values.round().clamp(0, 255).byte().numpy())
