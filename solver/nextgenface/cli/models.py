"""nextgenface-models: list, build and check face models."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from ..config import Config
from ..errors import ModelError
from ..facemodel.hdf5 import read_model
from ..facemodel.model import FaceModel
from ..facemodel.registry import (
    BUILTIN,
    build_builtin,
    builtin_files,
    check_model,
    list_models,
    resolve_files,
)
from .common import run_command


def _describe(model: FaceModel) -> str:
    return (
        f"{model.name}: {model.vertex_count} vertices, {len(model.faces)} triangles, "
        f"{len(model.shape_basis)} shape, {len(model.expression_basis)} expression "
        f"and {len(model.diffuse_basis)} albedo components, "
        f"{len(model.blendshape_names)} blendshapes, hash {model.hash[:12]}"
    )


def _list(as_json: bool) -> int:
    entries = list_models()
    if as_json:
        rows = [{"name": e.name, "path": str(e.path) if e.path else None, "note": e.note} for e in entries]
        print(json.dumps(rows, ensure_ascii=False))
    else:
        for entry in entries:
            print(f"{entry.name:20} {entry.note:26} {entry.path or ''}")
    return 0


def _check(names: Sequence[str]) -> int:
    failed = 0
    for name in names:
        try:
            if name == BUILTIN:
                model = build_builtin(say=print)
            else:
                model = read_model(resolve_files(name, Config().modelFolder()))
            problems = check_model(model)
        except ModelError as error:
            print(f"{name}: {error}")
            failed += 1
            continue
        print(_describe(model))
        for problem in problems:
            print(f"  wrong: {problem}")
        failed += bool(problems)
        if not problems:
            print("  ok")
    return ModelError.exit_code if failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="nextgenface-models", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="the models that --set model=NAME can choose")
    listing.add_argument("--json", action="store_true", help="one JSON list")
    building = commands.add_parser("build", help="build the built-in model now instead of on first use")
    building.add_argument("--force", action="store_true", help="build it even if its file is there")
    checking = commands.add_parser("check", help="read models and test that they can be used")
    checking.add_argument(
        "model", nargs="*", default=[BUILTIN], help="names, .h5 files or folders (default: builtin)"
    )
    chosen = parser.parse_args(arguments)

    def work() -> int:
        if chosen.command == "list":
            return _list(chosen.json)
        if chosen.command == "build":
            print(_describe(build_builtin(chosen.force, print)))
            print(*builtin_files()[:1])
            return 0
        return _check(chosen.model)

    return run_command(work)


if __name__ == "__main__":
    raise SystemExit(main())
