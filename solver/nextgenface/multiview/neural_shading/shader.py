"""The neural shader: a small network from a surface point, its normal and the view direction to a colour.

A first part sees the encoded position only, a second one adds normal and view direction (Worchel et al. 2022,
section 4.2). Colours are display code values (sRGB), as the pictures it learns from.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...errors import CheckpointError, NextGenFaceError
from ...files import atomic_path

FORMAT = 2
FREQUENCIES = 128  # of the Gaussian Fourier features
SINE_OMEGA = 30.0  # first frequency of sine layers (Sitzmann et al. 2020)
HEAD_WIDTH = 128  # of the part that sees normal and view

Encoding = Literal["none", "gfft", "positional"]
Activation = Literal["relu", "sine"]


@dataclass(frozen=True)
class ShaderConfig:
    """Sizes of a shader: `hidden_layers` of `hidden_size` after the first; `fft_scale` for `gfft` only."""

    hidden_layers: int = 3
    hidden_size: int = 256
    fourier_features: Encoding = "positional"
    activation: Activation = "relu"
    fft_scale: float = 4.0
    octaves: int = 4

    def __post_init__(self) -> None:
        if self.hidden_layers < 0 or self.hidden_size < 1:
            raise NextGenFaceError(
                "The shader needs hidden_features_layers >= 0 and hidden_features_size >= 1."
            )
        if self.fourier_features not in ("none", "gfft", "positional"):
            raise NextGenFaceError(
                f"fourier_features cannot be {self.fourier_features!r}: choose none, gfft or positional."
            )
        if self.activation not in ("relu", "sine"):
            raise NextGenFaceError(f"activation cannot be {self.activation!r}: choose relu or sine.")


class Sine(nn.Module):
    """sin(omega x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return torch.sin(SINE_OMEGA * x)


class NeuralShader(nn.Module):
    """colour (N, 3) in 0..1 = shader(position (N, 3) normalised, normal (N, 3), view (N, 3)).

    `view` is the unit direction from the surface to the camera. Weights are drawn from `seed`.
    """

    frequencies: Tensor

    def __init__(self, config: ShaderConfig | None = None, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config = config or ShaderConfig()
        generator = torch.Generator().manual_seed(seed)
        if config.fourier_features == "gfft":
            drawn = torch.randn(3, FREQUENCIES, generator=generator) * config.fft_scale
        else:
            drawn = torch.zeros(3, 0)
        self.register_buffer("frequencies", drawn)
        width = {"none": 3, "gfft": 2 * FREQUENCIES, "positional": 3 + 6 * config.octaves}[
            config.fourier_features
        ]
        size = config.hidden_size
        body: list[nn.Module] = []
        for i in range(config.hidden_layers + 1):
            body += [nn.Linear(width if i == 0 else size, size), self._activation()]
        body.append(nn.Linear(size, size))
        self.body = nn.Sequential(*body)
        self.head = nn.Sequential(
            nn.Linear(size + 6, HEAD_WIDTH),
            self._activation(),
            nn.Linear(HEAD_WIDTH, HEAD_WIDTH),
            self._activation(),
            nn.Linear(HEAD_WIDTH, 3),
            nn.Sigmoid(),
        )
        self._initialise(generator)

    def _activation(self) -> nn.Module:
        return nn.ReLU() if self.config.activation == "relu" else Sine()

    def _initialise(self, generator: torch.Generator) -> None:
        layers = [layer for layer in (*self.body, *self.head) if isinstance(layer, nn.Linear)]
        for i, layer in enumerate(layers):
            fan_in = layer.weight.shape[1]
            with torch.no_grad():
                if self.config.activation == "sine":
                    # Sitzmann et al. 2020: keeps the distribution of activations through the layers.
                    bound = 1 / fan_in if i == 0 else math.sqrt(6 / fan_in) / SINE_OMEGA
                    layer.weight.uniform_(-bound, bound, generator=generator)
                else:
                    layer.weight.normal_(0, math.sqrt(2 / fan_in), generator=generator)
                layer.bias.zero_()

    def encode(self, position: Tensor) -> Tensor:
        """Features of positions (N, 3)."""
        kind = self.config.fourier_features
        if kind == "none":
            return position
        if kind == "gfft":
            angle = 2 * math.pi * position @ self.frequencies
            return torch.cat([angle.sin(), angle.cos()], 1)
        octaves = 2.0 ** torch.arange(self.config.octaves, device=position.device)
        angle = (position[:, None] * octaves[:, None]).reshape(len(position), -1)
        return torch.cat([position, angle.sin(), angle.cos()], 1)

    def forward(self, position: Tensor, normal: Tensor, view: Tensor) -> Tensor:
        """Colours (N, 3), display code values."""
        return self.colour(self.features(position), normal, view)

    def features(self, position: Tensor) -> Tensor:
        """What the part before normal and view says (N, hidden_size)."""
        out: Tensor = self.body(self.encode(position))
        return out

    def colour(self, features: Tensor, normal: Tensor, view: Tensor) -> Tensor:
        """Colours (N, 3) from `features` of the same points."""
        out: Tensor = self.head(torch.cat([features, normal, view], 1))
        return out


def save_shader(path: Path, shader: NeuralShader, space: dict[str, Any]) -> None:
    """Write {version, config, state_dict, space}; plain values and tensors only. Raises OutputError.

    `space` says what its positions mean: {"centre": [3], "scale": number}, position = (x - centre) * scale.
    """
    content = {
        "version": FORMAT,
        "config": asdict(shader.config),
        "state_dict": {k: v.detach().cpu() for k, v in shader.state_dict().items()},
        "space": space,
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_shader(path: Path) -> tuple[NeuralShader, dict[str, Any]]:
    """The shader of a file, and the space of its positions. Raises CheckpointError."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["version"] != FORMAT:
            raise CheckpointError(f"{path} is a shader of version {content['version']}, not {FORMAT}.")
        shader = NeuralShader(replace(ShaderConfig(), **content["config"]))
        shader.load_state_dict(content["state_dict"])
        return shader, dict(content["space"])
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f"There is no shader file {path}.") from None
    except Exception as problem:  # torch.load has no error type of its own
        raise CheckpointError(f"{path} is not a neural shader of this program ({problem}).") from problem
