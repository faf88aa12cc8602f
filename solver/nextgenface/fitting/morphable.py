"""The guide's `MorphableModel`: a face model as torch functions with the guide's names."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..facemodel.model import FaceModel
from ..geometry.normals import vertex_normals
from .bake import bake_vertices


class MorphableModel:
    """Differentiable evaluation of a `FaceModel`: un-whitened coefficients, vertices in mm, model space.

    V vertices, F triangles, K shape, E expression, A albedo components, T texture side.
    """

    def __init__(self, model: FaceModel, textureResolution: int, device: str) -> None:
        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(device)

        self.model = model
        self.device = device
        self.textureResolution = int(textureResolution)
        self.shapeMean = tensor(model.shape_mean + model.expression_mean)  # (V, 3)
        self.shapePca = tensor(model.shape_basis)  # (K, V, 3)
        self.shapePcaVar = tensor(model.shape_variance)  # (K,)
        self.expressionPca = tensor(model.expression_basis)  # (E, V, 3)
        self.expressionPcaVar = tensor(model.expression_variance)  # (E,)
        self.diffuseAlbedoMean = tensor(model.diffuse_mean)  # (V, 3)
        self.diffuseAlbedoPca = tensor(model.diffuse_basis)  # (A, V, 3)
        self.diffuseAlbedoPcaVar = tensor(model.diffuse_variance)  # (A,)
        self.specularAlbedoMean = tensor(model.specular_mean)  # (V, 3)
        self.specularAlbedoPca = tensor(model.specular_basis)  # (A, V, 3)
        self.roughness = tensor(model.roughness_mean)  # (V,)
        self.faces = torch.from_numpy(np.ascontiguousarray(model.faces, np.int64)).to(device)  # (F, 3)
        self.uvMap = tensor(model.uv)  # (V, 2), origin bottom left
        self.shapeBasisSize = int(model.shape_basis.shape[0])
        self.expBasisSize = int(model.expression_basis.shape[0])
        self.albedoBasisSize = int(model.diffuse_basis.shape[0])

    def computeShape(self, shapeCoff: Tensor, expCoff: Tensor) -> Tensor:
        """Vertices (n, V, 3) of shape (n or 1, K) and expression (n, E) coefficients."""
        shape = torch.einsum("nk,kvc->nvc", shapeCoff, self.shapePca)
        return self.shapeMean + shape + torch.einsum("ne,evc->nvc", expCoff, self.expressionPca)

    def computeNormals(self, vertices: Tensor) -> Tensor:
        """Unit vertex normals (n, V, 3) of vertices (n, V, 3) in any frame, area-weighted, outwards."""
        return vertex_normals(vertices, self.faces)

    def computeDiffuseAlbedo(self, diffAlbedoCoeff: Tensor) -> Tensor:
        """Linear base colour per vertex (n, V, 3) of albedo coefficients (n, A)."""
        return self.diffuseAlbedoMean + torch.einsum("na,avc->nvc", diffAlbedoCoeff, self.diffuseAlbedoPca)

    def computeSpecularAlbedo(self, specAlbedoCoeff: Tensor) -> Tensor:
        """Principled specular level per vertex (n, V, 3) of albedo coefficients (n, A)."""
        return self.specularAlbedoMean + torch.einsum("na,avc->nvc", specAlbedoCoeff, self.specularAlbedoPca)

    def computeShapeAlbedo(
        self, shapeCoff: Tensor, expCoff: Tensor, albedoCoeff: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Vertices, base colour and specular level, each (n, V, 3)."""
        return (
            self.computeShape(shapeCoff, expCoff),
            self.computeDiffuseAlbedo(albedoCoeff),
            self.computeSpecularAlbedo(albedoCoeff),
        )

    def generateTextureFromAlbedo(self, albedo: Tensor) -> Tensor:
        """Textures (n, T, T, C), top row first, of vertex values (n, V, C); borders are filled outwards."""
        return torch.stack([bake_vertices(self.model, one, self.textureResolution) for one in albedo])

    def getTextureResolution(self) -> int:
        """Side T of the textures in texels."""
        return self.textureResolution

    def sample(self, shapeNumber: int = 1, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Random neutral faces of the model: vertices, base colour, specular level, each (n, V, 3)."""
        generator = torch.Generator().manual_seed(seed)

        def draw(variance: Tensor) -> Tensor:
            z = torch.randn(shapeNumber, len(variance), generator=generator)
            return z.to(variance) * variance.sqrt()

        shape, albedo = draw(self.shapePcaVar), draw(self.diffuseAlbedoPcaVar)
        neutral = torch.zeros(shapeNumber, self.expBasisSize, device=self.device)
        return self.computeShapeAlbedo(shape, neutral, albedo)
