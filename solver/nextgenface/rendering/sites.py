"""Where light is gathered on a dense mesh: at some of its vertices, from which the others take it.

Light changes over millimetres, however fine a mesh is. On a mesh of more than `MOST` vertices no two sites
are joined by an edge shorter than `REACH`; every other vertex has one beside it, and takes the smooth mixture
of the sites around it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

MOST = 16_000  # vertices up to which each is a site
REACH = 1.5  # mm
NEAREST = 6  # sites that a vertex takes its light from
ROUNDS = 2  # of averaging over neighbours, which makes the mixture smooth


@dataclass(frozen=True)
class Sites:
    """`of` (V, k) the sites that a vertex takes its light from, `share` (V, k) how much, sums are one."""

    of: Tensor
    share: Tensor

    def chosen(self) -> Tensor:
        """(V,) bool: which vertices are sites."""
        return self.of[:, 0] == torch.arange(len(self.of), device=self.of.device)

    def among(self, vertices: Tensor) -> Sites:
        """The same with the shares of other sites than `vertices` given to those that are left."""
        known = torch.zeros(len(self.of), dtype=self.share.dtype, device=self.of.device)
        known[vertices] = 1.0
        share = self.share * known.index_select(0, self.of.view(-1)).view(self.of.shape)
        return Sites(self.of, share / share.sum(1, keepdim=True).clamp(min=1e-6))


def light_sites(vertices: Tensor, faces: Tensor) -> Sites | None:
    """The sites of a mesh: vertices (V, 3) mm, faces (F, 3). None where every vertex is one."""
    count = len(vertices)
    if count <= MOST:
        return None
    corners, points = faces.cpu().numpy(), vertices.detach().cpu().numpy().astype(np.float64)
    sides = np.sort(np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]]), 1)
    first, second = np.divmod(np.unique(sides[:, 0].astype(np.int64) * count + sides[:, 1]), count)
    length = np.linalg.norm(points[first] - points[second], axis=1)
    short = length < REACH
    chosen = _apart(np.r_[first[short], second[short]], np.r_[second[short], first[short]], count)
    close = 1 / np.maximum(length, 0.1)
    nearness = sp.coo_matrix(
        (np.r_[close, close], (np.r_[first, second], np.r_[second, first])), (count, count)
    ).tocsr()
    at_sites = sp.diags(chosen.astype(float)).tocsr()
    elsewhere = sp.diags((~chosen).astype(float)).tocsr()
    mixture = at_sites
    for _ in range(1 + ROUNDS):
        mixture = elsewhere @ _rows_sum_to_one(nearness @ mixture) + at_sites
    return _largest(mixture.tocsr(), vertices)


def _apart(start: np.ndarray, end: np.ndarray, count: int) -> np.ndarray:
    """(V,) bool: as many vertices as can be without two of them joined by an edge (Luby's algorithm)."""
    rank = np.random.default_rng(0).permutation(count) + 1
    chosen, open_ = np.zeros(count, bool), np.ones(count, bool)
    while open_.any():
        highest = np.zeros(count, np.int64)
        np.maximum.at(highest, start, np.where(open_[end], rank[end], 0))
        new = open_ & (rank > highest)
        chosen |= new
        open_ &= ~new
        open_[end[new[start]]] = False
    return chosen


def _rows_sum_to_one(matrix: sp.csr_matrix) -> sp.csr_matrix:
    total = np.asarray(matrix.sum(1)).ravel()
    return sp.diags(1 / np.maximum(total, 1e-12)) @ matrix


def _largest(mixture: sp.csr_matrix, like: Tensor) -> Sites:
    """The `NEAREST` largest entries of each row."""
    count = mixture.shape[0]
    row = np.repeat(np.arange(count), np.diff(mixture.indptr))
    order = np.lexsort((-mixture.data, row))
    place = np.arange(len(order)) - np.repeat(mixture.indptr[:-1], np.diff(mixture.indptr))
    kept = place < NEAREST
    of, share = np.zeros((count, NEAREST), np.int64), np.zeros((count, NEAREST))
    of[row[order][kept], place[kept]] = mixture.indices[order][kept]
    share[row[order][kept], place[kept]] = mixture.data[order][kept]
    of = np.where(share > 0, of, of[:, :1])
    share /= np.maximum(share.sum(1, keepdims=True), 1e-12)
    return Sites(torch.from_numpy(of).to(like.device), torch.from_numpy(share).to(like))
