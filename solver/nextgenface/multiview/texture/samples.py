"""Pixels as rows of a sparse matrix over the texels of all levels of a texture.

Only texels that some pixel touches are unknowns, so the memory follows the pictures, not the texture's size.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Level:
    """One level of the pyramid: its side, and which texels (row*size + column, sorted) are unknowns."""

    size: int
    texels: NDArray[np.int64]


def bilinear(uv: NDArray[np.floating[Any]], size: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """uv (N, 2), origin bottom left -> (N, 4) texel numbers of a size x size texture, (N, 4) weights.

    Texel (row, column) has its centre at u = (column + 1/2)/size, v = 1 - (row + 1/2)/size; beyond the outer
    centres the border is repeated.
    """
    x = np.asarray(uv[:, 0], np.float64) * size - 0.5
    y = (1.0 - np.asarray(uv[:, 1], np.float64)) * size - 0.5
    x, y = np.clip(x, 0, size - 1), np.clip(y, 0, size - 1)
    left, top = (
        np.minimum(x.astype(np.int64), max(size - 2, 0)),
        np.minimum(y.astype(np.int64), max(size - 2, 0)),
    )
    fx, fy = (x - left).astype(np.float32), (y - top).astype(np.float32)
    right, below = np.minimum(left + 1, size - 1), np.minimum(top + 1, size - 1)
    texels = np.stack([top * size + left, top * size + right, below * size + left, below * size + right], 1)
    weights = np.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy], 1)
    return texels, weights


def level_matrix(uv: NDArray[np.floating[Any]], size: int) -> tuple[Level, sp.csr_matrix]:
    """(the level with the texels that uv (N, 2) touch, the matrix (N, number of them))."""
    texels, weights = bilinear(uv, size)
    used, columns = np.unique(texels, return_inverse=True)
    rows = np.arange(0, 4 * len(uv) + 1, 4, dtype=np.int32)
    matrix = sp.csr_matrix(
        (weights.ravel(), columns.reshape(-1).astype(np.int32), rows), shape=(len(uv), len(used))
    )
    return Level(size, used), matrix


class _Product(torch.autograd.Function):
    """matrix @ values with the transposed matrix at hand for the gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        ctx.transposed = transposed
        return matrix @ values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.transposed @ gradient, None, None


class Pyramid:
    """The unknowns of all levels stacked, (A, 3), and what the pixels see of them.

    `levels` from coarse to fine; `starts` their first rows.
    """

    def __init__(
        self, uv: NDArray[np.floating[Any]], sizes: list[int], device: torch.device | str = "cpu"
    ) -> None:
        parts = [level_matrix(uv, size) for size in sizes]
        self.levels = [level for level, _ in parts]
        self.matrices = [matrix for _, matrix in parts]
        self.starts = np.cumsum([0, *(len(level.texels) for level in self.levels)])
        whole = sp.hstack(self.matrices, format="csr")
        self._matrix = _csr(whole, device)
        self._transposed = _csr(whole.T.tocsr(), device)

    @property
    def count(self) -> int:
        """Number of unknown texels of all levels."""
        return int(self.starts[-1])

    def seen(self, values: Tensor) -> Tensor:
        """(A, 3) texels -> (N, 3) what the pixels see, differentiable."""
        return _Product.apply(values, self._matrix, self._transposed)


def _csr(matrix: sp.csr_matrix, device: torch.device | str) -> Tensor:
    rows, columns, values = (torch.from_numpy(a) for a in (matrix.indptr, matrix.indices, matrix.data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch calls this kind of tensor beta, once a process
        return torch.sparse_csr_tensor(
            rows.int(), columns.int(), values.float(), matrix.shape, device=device, check_invariants=False
        )
