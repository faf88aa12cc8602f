"""Memory that is too small: said before the work where it can be foreseen, and named when it runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ...doctor import memory_gb
from ...errors import NextGenFaceError
from ...views import ViewSet
from .options import MeshOptions

BYTES_PER_KEPT = 40
"""Of a pixel of every view at the resolution of the work: colours, mask and silhouette, while it is made."""

BYTES_PER_DRAWN = 150
"""Of a pixel of the view that a step draws, with its gradients."""

BYTES_PER_SHADED = 6
"""Of a shaded pixel, for every number that the shader holds of it."""

BASE = 0.3e9
"""Of meshes and everything else."""


def needed(views: ViewSet, options: MeshOptions) -> float:
    """Bytes that the steps need beyond the pictures that are read already.

    A third to a half more than was measured.
    """
    pixels = [v.camera.width * v.camera.height / options.image_scale**2 for v in views]
    inside = [1.0 if v.mask is None else float((v.mask > 0.5).mean()) for v in views]
    shaded = max(n * share for n, share in zip(pixels, inside, strict=True)) * options.shading_percentage
    if options.shading_samples:
        shaded = min(shaded, options.shading_samples)
    numbers = options.hidden_features_size * (options.hidden_features_layers + 2) + 500
    in_one_step = max(pixels) * BYTES_PER_DRAWN + shaded * numbers * BYTES_PER_SHADED
    return BASE + sum(pixels) * BYTES_PER_KEPT + min(options.views_per_iter, len(views)) * in_one_step


def memory_warning(views: ViewSet, options: MeshOptions, available_gb: float | None = None) -> str | None:
    """What to say when the work does not seem to fit into the memory that is free now.

    No error: systems count what they could give back at once as used.
    """
    available = memory_gb()[0] if available_gb is None else available_gb
    wanted = needed(views, options) / 1e9
    if available is None or wanted <= available:
        return None
    return f"about {wanted:.1f} GB of memory are needed, {available:.1f} GB are free. {ADVICE}"


ADVICE = (
    "Work on smaller pictures (--image_scale 2, or 4), shade fewer pixels (--shading_samples), lower "
    "--views_per_iter or --hidden_features_size, or close other programs."
)


@contextmanager
def memory_named() -> Iterator[None]:
    """Inside the block memory that runs out becomes a NextGenFaceError that says what to do."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as problem:
        raise NextGenFaceError(f"The memory ran out. {ADVICE}") from problem
    except RuntimeError as problem:
        # PyTorch's allocator for the CPU has no error type of its own.
        if "allocate memory" not in str(problem):
            raise
        raise NextGenFaceError(f"The memory ran out. {ADVICE}") from problem
