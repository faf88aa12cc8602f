"""What keeps the surface smooth: uniform Laplacian and normal consistency."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as tf

from .topology import Faces, edges_of


@dataclass(frozen=True)
class Connectivity:
    """Index tensors of a mesh: `faces` (F, 3), `ends` (E, 2) edges, `pairs` (P, 2) faces at an edge,
    `degree` (V,)."""

    faces: Tensor
    ends: Tensor
    pairs: Tensor
    degree: Tensor

    @staticmethod
    def of(faces: Faces, vertex_count: int, device: str | torch.device) -> Connectivity:
        """The connectivity of faces (F, 3) over `vertex_count` vertices."""
        edges = edges_of(faces)
        ends = torch.as_tensor(edges.ends, device=device)
        degree = torch.bincount(ends.reshape(-1), minlength=vertex_count).clamp(min=1)
        return Connectivity(
            torch.as_tensor(faces, device=device),
            ends,
            torch.as_tensor(edges.pairs, device=device),
            degree.to(torch.float32),
        )


def differential(vertices: Tensor, connectivity: Connectivity) -> Tensor:
    """Differential coordinates (V, 3): mean of the neighbours minus the vertex (uniform Laplacian)."""
    a, b = connectivity.ends.unbind(1)
    total = torch.zeros_like(vertices).index_add(0, a, vertices.index_select(0, b))
    total = total.index_add(0, b, vertices.index_select(0, a))
    return total / connectivity.degree[:, None] - vertices


def laplacian_loss(vertices: Tensor, connectivity: Connectivity) -> Tensor:
    """Mean squared length of the differential coordinates."""
    return (differential(vertices, connectivity) ** 2).sum(1).mean()


def face_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals (F, 3)."""
    corner = vertices.index_select(0, faces.reshape(-1)).view(-1, 3, 3)
    return tf.normalize(torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), dim=1)


def normal_loss(normals: Tensor, connectivity: Connectivity) -> Tensor:
    """Mean of (1 - cos)^2 over neighbouring faces; `normals` (F, 3) unit."""
    a, b = connectivity.pairs.unbind(1)
    cosine = (normals.index_select(0, a) * normals.index_select(0, b)).sum(1)
    return ((1 - cosine) ** 2).mean()
