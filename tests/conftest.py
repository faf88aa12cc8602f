"""Before any test module imports Mitsuba, which binds an LLVM for good: choose one that works."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "solver"))

if importlib.util.find_spec("mitsuba") is not None:  # Blender's own Python has none
    from nextgenface.rendering.llvm import ENVIRONMENT_VARIABLE, select_variant

    chosen = select_variant("cpu")
    if chosen.llvm_path is not None:
        os.environ[ENVIRONMENT_VARIABLE] = str(chosen.llvm_path)
