"""NextGenFace: photos of a face become a head that can be lit, textured and animated.

    from nextgenface import Config, Optimizer

    optimizer = Optimizer("output/anna", Config())
    optimizer.run("anna.jpg")

The public classes load PyTorch when they are first used, not when the package is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .config import Config
    from .fitting.optimizer import Optimizer
    from .fitting.pipeline import Pipeline
    from .geometry.obj_export import saveObj
    from .rendering.renderer import Renderer

__all__ = ["Config", "Optimizer", "Pipeline", "Renderer", "__version__", "saveObj"]

_HOMES = {
    "Config": "config",
    "Optimizer": "fitting.optimizer",
    "Pipeline": "fitting.pipeline",
    "Renderer": "rendering.renderer",
    "saveObj": "geometry.obj_export",
}


def __getattr__(name: str) -> Any:
    """Import a public class when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
