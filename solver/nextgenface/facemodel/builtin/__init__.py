"""The built-in face model, made by our own code from one open template (no scans, no licence form)."""

from .build import BUILDER_VERSION, MODEL_NAME, build_model

__all__ = ["BUILDER_VERSION", "MODEL_NAME", "build_model"]
