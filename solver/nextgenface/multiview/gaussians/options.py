"""Settings of the method and their text form."""

from __future__ import annotations

from dataclasses import Field, asdict, dataclass, field, fields
from typing import Any

from ...errors import ConfigError


def _number(default: float, text: str, low: float, high: float) -> Any:
    return field(default=default, metadata={"text": text, "low": low, "high": high})


def _word(default: str, text: str, *choices: str) -> Any:
    return field(default=default, metadata={"text": text, "choices": choices})


@dataclass(frozen=True)
class Options:
    """Settings of a Gaussian head. Rates are Adam's per step and fall to 1 % along a cosine."""

    steps: int = _number(2000, "optimisation steps, one picture each", 1, 1_000_000)
    resolution: int = _number(256, "longest side of the pictures learned from, pixels", 16, 8192)
    initialPoints: int = _number(3000, "Gaussians at the start", 1, 10_000_000)
    maxPoints: int = _number(12_000, "Gaussians at most", 1, 10_000_000)
    shDegree: int = _number(1, "degree of colour by direction, 0 to 3", 0, 3)
    positionRate: float = _number(1.6e-3, "learning rate of positions, per half the scene's size", 0, 1)
    scaleRate: float = _number(0.01, "learning rate of the logarithm of sizes", 0, 1)
    rotationRate: float = _number(0.005, "learning rate of rotations", 0, 1)
    opacityRate: float = _number(0.05, "learning rate of opacity logits", 0, 1)
    colourRate: float = _number(0.02, "learning rate of colours; a tenth of it for higher degrees", 0, 1)
    cameraRate: float = _number(0.001, "learning rate of cameras: radians, and head sizes", 0, 1)
    learnCameras: str = _word("auto", "whether cameras are refined: auto = of photos", "auto", "yes", "no")
    cameraStart: float = _number(0.25, "part of the steps after which cameras are refined", 0, 1)
    l1Weight: float = _number(0.8, "weight of the absolute difference", 0, 1000)
    ssimWeight: float = _number(0.2, "weight of 1 - SSIM", 0, 1000)
    opacityWeight: float = _number(0.0, "pull of opacities towards 0.8", 0, 1000)
    scaleWeight: float = _number(0.01, "penalty on sizes beyond their bounds, in pixels", 0, 1000)
    spatialWeight: float = _number(0.001, "penalty on points far outside, in per cent of size", 0, 1000)
    largestPixels: float = _number(6.0, "largest standard deviation, pixels", 0.3, 1000)
    densifyEvery: int = _number(100, "steps between adding Gaussians", 1, 1_000_000)
    densifyUntil: float = _number(0.65, "part of the steps after which none are added", 0, 1)
    pruneOpacity: float = _number(0.02, "fainter Gaussians are removed", 0, 1)
    opacityReset: int = _number(0, "steps between opacity resets; 0 = never", 0, 1_000_000)
    randomBackground: str = _word("yes", "random colours behind masked pictures", "yes", "no")
    seed: int = _number(0, "seed", 0, 2**31 - 1)
    device: str = _word("auto", "where to compute", "auto", "cpu", "cuda")
    engine: str = _word("auto", "what draws: auto = gsplat where it can", "auto", "torch", "gsplat")
    photoSteps: str = _word("2", "stage of the face fit that gives photos their cameras", "1", "2")

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if "choices" in one.metadata:
                if value not in one.metadata["choices"]:
                    raise ConfigError(
                        f"{one.name} cannot be {value!r}; choose {', '.join(one.metadata['choices'])}."
                    )
            elif not one.metadata["low"] <= value <= one.metadata["high"]:
                raise ConfigError(
                    f"{one.name} is {value}; it must be {one.metadata['low']} to {one.metadata['high']}."
                )
        if self.maxPoints < self.initialPoints:
            raise ConfigError(
                f"maxPoints ({self.maxPoints}) is less than initialPoints ({self.initialPoints})."
            )

    def plain(self) -> dict[str, Any]:
        """All settings by name, for `result.json`."""
        return asdict(self)


def parse(texts: dict[str, str]) -> Options:
    """Settings as typed to `Options`. Raises ConfigError naming what is not known or not possible."""
    known = {one.name: one for one in fields(Options)}
    values: dict[str, Any] = {}
    for name, text in texts.items():
        if name not in known:
            raise ConfigError(f"There is no setting {name!r}; there are {', '.join(known)}.")
        values[name] = _value(known[name], text)
    return Options(**values)


def _value(one: Field[Any], text: str) -> Any:
    kind = {"int": int, "float": float, "str": str}[str(one.type)]
    try:
        return kind(text.strip())
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise ConfigError(f"{one.name} cannot be {text!r}: it must be {wanted}.") from None
