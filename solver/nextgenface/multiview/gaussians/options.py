"""Settings of the method."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import ConfigError
from ..options import option


@dataclass(frozen=True)
class Options:
    """Settings of a Gaussian head. Rates are Adam's per step and fall to 1 % along a cosine."""

    steps: int = option(1000, "optimisation steps, one picture each", low=1, high=1_000_000)
    resolution: int = option(256, "longest side of the pictures learned from, pixels", low=16, high=8192)
    initialPoints: int = option(3000, "Gaussians at the start", low=1, high=10_000_000)
    maxPoints: int = option(12_000, "Gaussians at most", low=1, high=10_000_000)
    shDegree: int = option(1, "degree of colour by direction, 0 to 3", low=0, high=3)
    positionRate: float = option(
        1.6e-3, "learning rate of positions, per half the scene's size", low=0, high=1
    )
    scaleRate: float = option(0.01, "learning rate of the logarithm of sizes", low=0, high=1)
    rotationRate: float = option(0.005, "learning rate of rotations", low=0, high=1)
    opacityRate: float = option(0.05, "learning rate of opacity logits", low=0, high=1)
    colourRate: float = option(
        0.02, "learning rate of colours; a tenth of it for higher degrees", low=0, high=1
    )
    cameraRate: float = option(0.003, "learning rate of cameras: radians, and head sizes", low=0, high=1)
    learnCameras: str = option(
        "auto", "whether cameras are refined: auto = of photos", choices=("auto", "yes", "no")
    )
    cameraStart: float = option(0.1, "part of the steps after which cameras are refined", low=0, high=1)
    l1Weight: float = option(0.8, "weight of the absolute difference", low=0, high=1000)
    ssimWeight: float = option(0.2, "weight of 1 - SSIM", low=0, high=1000)
    opacityWeight: float = option(0.0, "pull of opacities towards 0.8", low=0, high=1000)
    scaleWeight: float = option(0.01, "penalty on sizes beyond their bounds, in pixels", low=0, high=1000)
    spatialWeight: float = option(
        0.001, "penalty on points far outside, in per cent of size", low=0, high=1000
    )
    largestPixels: float = option(6.0, "largest standard deviation, pixels", low=0.3, high=1000)
    densifyEvery: int = option(100, "steps between adding Gaussians", low=1, high=1_000_000)
    densifyUntil: float = option(0.65, "part of the steps after which none are added", low=0, high=1)
    pruneOpacity: float = option(0.02, "fainter Gaussians are removed", low=0, high=1)
    opacityReset: int = option(0, "steps between opacity resets; 0 = never", low=0, high=1_000_000)
    randomBackground: bool = option(True, "random colours behind masked pictures")
    seed: int = option(0, "seed", low=0, high=2**31 - 1)
    device: str = option("auto", "where to compute", choices=("auto", "cpu", "cuda"))
    engine: str = option(
        "auto", "what draws: auto = gsplat where it can", choices=("auto", "torch", "gsplat")
    )
    faceStages: str = option("1", "stage of the face fit that gives photos their cameras", choices=("1", "2"))

    def __post_init__(self) -> None:
        if self.maxPoints < self.initialPoints:
            raise ConfigError(
                f"maxPoints ({self.maxPoints}) is less than initialPoints ({self.initialPoints})."
            )
