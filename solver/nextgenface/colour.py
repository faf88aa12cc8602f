"""The exact sRGB transfer curve (IEC 61966-2-1), for NumPy arrays and torch tensors.

Photos come in through `srgb_to_linear`; everything in between is linear Rec.709; pictures that are
looked at leave through `linear_to_srgb`. The curve is not a power of 2.2: near black it is a line,
and a 2.2 power is off by up to a factor of two there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Values = TypeVar("Values", NDArray[Any], "torch.Tensor")

_ENCODED_KNEE = 0.04045
_LINEAR_KNEE = 0.0031308


def srgb_to_linear(encoded: Values) -> Values:
    """Decode sRGB-encoded values (any shape, 0..1 floats) to linear light.

    Negative values follow the curve mirrored at zero; values above 1 continue it.
    NumPy integer arrays are refused, because 0..255 and 0..1 cannot be told apart.
    """
    if isinstance(encoded, np.ndarray):
        _require_float(encoded)
        magnitude = np.abs(encoded)
        curve = ((np.maximum(magnitude, _ENCODED_KNEE) + 0.055) / 1.055) ** 2.4
        return np.copysign(np.where(magnitude <= _ENCODED_KNEE, magnitude / 12.92, curve), encoded).astype(
            encoded.dtype, copy=False
        )
    import torch

    size = encoded.abs()
    # The clamp keeps the unused branch away from the power's infinite slope at zero: gradients stay finite.
    bent = ((size.clamp_min(_ENCODED_KNEE) + 0.055) / 1.055) ** 2.4
    return torch.where(size <= _ENCODED_KNEE, encoded / 12.92, bent * encoded.sign())


def linear_to_srgb(linear: Values) -> Values:
    """Encode linear light (any shape, 0..1 floats) with the sRGB curve; the inverse of `srgb_to_linear`.

    Nothing is clipped: clip to 0..1 before writing 8 bits.
    """
    if isinstance(linear, np.ndarray):
        _require_float(linear)
        magnitude = np.abs(linear)
        curve = 1.055 * np.maximum(magnitude, _LINEAR_KNEE) ** (1 / 2.4) - 0.055
        return np.copysign(np.where(magnitude <= _LINEAR_KNEE, magnitude * 12.92, curve), linear).astype(
            linear.dtype, copy=False
        )
    import torch

    size = linear.abs()
    bent = 1.055 * size.clamp_min(_LINEAR_KNEE) ** (1 / 2.4) - 0.055
    return torch.where(size <= _LINEAR_KNEE, linear * 12.92, bent * linear.sign())


def decode_table(levels: int) -> NDArray[np.float32]:
    """Table (levels,) float32 from code value to linear light: 256 entries for 8 bits, 65536 for 16."""
    return srgb_to_linear(np.linspace(0.0, 1.0, levels)).astype(np.float32)


def encode_8bit(linear: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Linear light (any shape) to 8-bit sRGB codes, clipped to 0..1 and rounded."""
    encoded = linear_to_srgb(np.clip(np.nan_to_num(linear.astype(np.float32, copy=False)), 0.0, 1.0))
    return np.asarray(encoded * 255.0 + 0.5).astype(np.uint8)


def _require_float(values: NDArray[Any]) -> None:
    if not np.issubdtype(values.dtype, np.floating):
        raise TypeError(f"expected floating-point values in 0..1, got {values.dtype}")
