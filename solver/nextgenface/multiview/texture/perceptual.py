"""VGG16's content and style losses, for users who have its weights (they are not ours to ship)."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d, mse_loss

from ...errors import NextGenFaceError

LAYERS = (0, 2, "pool", 5, 7, "pool", 10, 12, 14, "pool", 17, 19, 21)
"""Convolutions (their number in torchvision's `features`, each followed by a ReLU) up to relu4_3."""

STYLE = (2, 7, 14, 21)
"""relu1_2, relu2_2, relu3_3, relu4_3."""

CONTENT = 7


class WeightsError(NextGenFaceError):
    """The file with the network's weights cannot be used."""


class Vgg:
    """The network. Pictures are (H, W, 3) code values 0..1, not normalised, as NeuralTexGen has it."""

    def __init__(self, weights: dict[int, tuple[Tensor, Tensor]]) -> None:
        self.weights = weights

    @staticmethod
    def load(path: Path, device: torch.device | str = "cpu") -> Vgg:
        """Weights by torchvision's names (`features.0.weight`, or without `features.`), from .pth or .npz.

        Raises WeightsError.
        """
        stored = _read(path)
        weights: dict[int, tuple[Tensor, Tensor]] = {}
        channels = 3
        for layer in LAYERS:
            if isinstance(layer, str):
                continue
            pair = []
            for part in ("weight", "bias"):
                value = stored.get(f"features.{layer}.{part}", stored.get(f"{layer}.{part}"))
                if value is None:
                    raise WeightsError(f"{path} has no features.{layer}.{part}: it is no VGG16.")
                pair.append(value.float().to(device))
            kernel, bias = pair
            if kernel.ndim != 4 or kernel.shape[1] != channels or bias.shape != kernel.shape[:1]:
                raise WeightsError(f"{path}: layer {layer} has the shape {tuple(kernel.shape)}: no VGG16.")
            channels = kernel.shape[0]
            weights[layer] = (kernel, bias)
        return Vgg(weights)

    def features(self, picture: Tensor) -> dict[int, Tensor]:
        """(C, H, W) activations by the number of their convolution."""
        values, found = picture.permute(2, 0, 1)[None], {}
        for layer in LAYERS:
            if isinstance(layer, str):
                values = max_pool2d(values, 2)
            else:
                kernel, bias = self.weights[layer]
                values = conv2d(values, kernel, bias, padding=kernel.shape[-1] // 2).relu()
                found[layer] = values[0]
        return found

    def loss(self, picture: Tensor, target: Tensor) -> Tensor:
        """Mean squared difference of the content layer and of the Gram matrices of the style layers."""
        seen = self.features(picture)
        with torch.no_grad():
            wanted = self.features(target)
        total = mse_loss(seen[CONTENT], wanted[CONTENT])
        for layer in STYLE:
            total = total + mse_loss(_gram(seen[layer]), _gram(wanted[layer]))
        return total


def _gram(values: Tensor) -> Tensor:
    flat = values.reshape(values.shape[0], -1)
    return flat @ flat.T / flat.numel()


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                return {name: torch.from_numpy(np.asarray(stored[name])) for name in stored.files}
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"There is no {path}: vggWeights must name a file with VGG16's weights.") from None
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile) as problem:
        raise WeightsError(f"{path} cannot be read as weights ({problem}).") from problem
    except Exception as problem:  # the unpickler refuses whatever is not a tensor with errors of its own
        raise WeightsError(f"{path} holds something else than tensors ({problem}).") from problem
    if not isinstance(loaded, dict):
        raise WeightsError(f"{path} holds no table of weights.")
    return {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
