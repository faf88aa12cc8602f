"""Gaussian splats: a head with hair, beard and eyes from a few views.

`train` and the names below it are those of the Gaussian-head description; the command and the job use
`method.reconstruct`.
"""

from .losses import (
    combined_loss,
    compute_ssim,
    multi_view_loss,
    opacity_regularization,
    photometric_loss,
    scale_regularization,
    spatial_regularization,
)
from .points import GaussianPoints, LearnableCamera, project_3d, render_depth_aware, render_fast
from .progressive import ProgressiveTraining
from .train import TrainedHead, train

__all__ = [
    "GaussianPoints",
    "LearnableCamera",
    "ProgressiveTraining",
    "TrainedHead",
    "combined_loss",
    "compute_ssim",
    "multi_view_loss",
    "opacity_regularization",
    "photometric_loss",
    "project_3d",
    "render_depth_aware",
    "render_fast",
    "scale_regularization",
    "spatial_regularization",
    "train",
]
