"""Cameras and pictures: calibrated views of any object, and the crop around a face that is fitted."""

from .camera import BlenderCamera, Camera, Crop
from .face import (
    SIGMA_GUESS,
    FaceView,
    choose_focal,
    crop_side,
    face_view,
    face_views,
    fitted_size,
    resample,
)
from .viewset import Bounds, Normalisation, Sampling, View, ViewSet

__all__ = [
    "SIGMA_GUESS",
    "BlenderCamera",
    "Bounds",
    "Camera",
    "Crop",
    "FaceView",
    "Normalisation",
    "Sampling",
    "View",
    "ViewSet",
    "choose_focal",
    "crop_side",
    "face_view",
    "face_views",
    "fitted_size",
    "resample",
]
