"""Displacements that are smooth by construction: the unknowns are diffused over the mesh.

x = x0 + (I + s L)^-1 u with the combinatorial Laplacian L (Nicolet, Jacobson, Jakob 2021). A gradient at one
vertex moves its neighbourhood, so noise of single steps leaves no bumps and nothing runs away.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.sparse import linalg
from scipy.spatial import cKDTree
from torch import Tensor

from .topology import Faces, Vertices, components, edges_of


class Diffusion:
    """The linear map from unknowns (V, 3) to displacements (V, 3); works on the CPU, differentiable.

    Small pieces of the mesh (eyes, teeth) have no displacement of their own: each follows the mean of the
    part of the largest piece that is around it, so that it keeps its shape and its place.
    """

    def __init__(self, vertices: Vertices, faces: Faces, strength: float) -> None:
        count = len(vertices)
        a, b = edges_of(faces).ends.T
        adjacency = sp.coo_matrix((np.ones(len(a)), (a, b)), shape=(count, count)).tocsr()
        adjacency = adjacency + adjacency.T
        degree = np.asarray(adjacency.sum(1)).ravel()
        system = sp.identity(count) + strength * (sp.diags(degree) - adjacency)
        self._factor = linalg.splu(
            system.tocsc(),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
        self._follow = _follow(np.asarray(vertices, np.float64), faces)

    def __call__(self, unknowns: Tensor) -> Tensor:
        """Displacements (V, 3) of unknowns (V, 3)."""
        moved: Tensor = _Apply.apply(unknowns, self)
        return moved

    def forward(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The map on an array."""
        return np.asarray(self._follow @ self._factor.solve(values))

    def backward(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Its transpose."""
        return np.asarray(self._factor.solve(np.ascontiguousarray(self._follow.T @ values)))


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, unknowns: Tensor, diffusion: Diffusion) -> Tensor:
        context.diffusion = diffusion
        return _like(diffusion.forward(_array(unknowns)), unknowns)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return _like(context.diffusion.backward(_array(gradient)), gradient), None


def _array(values: Tensor) -> NDArray[np.float64]:
    return np.ascontiguousarray(values.detach().cpu().numpy(), dtype=np.float64)


def _like(values: NDArray[np.float64], other: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=other.dtype, device=other.device)


def _follow(vertices: Vertices, faces: Faces) -> sp.csr_matrix:
    """(V, V): one for the largest piece; rows of another piece average the vertices nearest to it."""
    piece_of_face = components(len(vertices), faces)
    piece = np.full(len(vertices), -1)
    piece[faces] = piece_of_face[:, None]
    labels, sizes = np.unique(piece[piece >= 0], return_counts=True)
    main = np.flatnonzero(piece == labels[sizes.argmax()])
    tree = cKDTree(vertices[main])
    rows, columns, values = [main], [main], [np.ones(len(main))]
    for label in np.delete(labels, sizes.argmax()):
        own = np.flatnonzero(piece == label)
        around = main[np.unique(tree.query(vertices[own])[1])]
        rows.append(np.repeat(own, len(around)))
        columns.append(np.tile(around, len(own)))
        values.append(np.full(len(own) * len(around), 1 / len(around)))
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sp.csr_matrix(entries, shape=(len(vertices), len(vertices)))


class UniformAdam(torch.optim.Optimizer):
    """Adam with one step size for all numbers of a parameter: the largest second moment is everybody's.

    Diffused gradients are tiny where no picture speaks; plain Adam would take steps of full size there.
    """

    def __init__(
        self, parameters: list[Tensor], lr: float, betas: tuple[float, float] = (0.9, 0.999)
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step along the gradients."""
        for group in self.param_groups:
            first, second = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros(())
                    state["exp_avg"] = torch.zeros_like(parameter)
                    state["exp_avg_sq"] = torch.zeros((), device=parameter.device)
                state["step"] += 1
                number = float(state["step"])
                state["exp_avg"].lerp_(parameter.grad, 1 - first)
                state["exp_avg_sq"].lerp_(parameter.grad.square().max(), 1 - second)
                scale = (state["exp_avg_sq"] / (1 - second**number)).sqrt().clamp(min=1e-20)
                parameter.sub_(group["lr"] / (1 - first**number) * state["exp_avg"] / scale)
