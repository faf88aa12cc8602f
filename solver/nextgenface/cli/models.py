"""nextgenface-models: which face models there are; check, add, download, remove and build them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import ModelError, NextGenFaceError
from ..facemodel import library
from ..facemodel.model import FaceModel
from ..facemodel.registry import BUILTIN, build_builtin, builtin_files
from .common import run_command


def _facts(name: str, model: FaceModel) -> dict[str, object]:
    return {
        "name": name,
        "ok": True,
        "model": model.name,
        "vertices": model.vertex_count,
        "triangles": len(model.faces),
        "shape": len(model.shape_basis),
        "expression": len(model.expression_basis),
        "albedo": len(model.diffuse_basis),
        "blendshapes": len(model.blendshape_names),
        "hash": model.hash,
        "notes": list(model.notes),
    }


def _describe(model: FaceModel) -> str:
    return (
        f"{model.name}: {model.vertex_count} vertices, {len(model.faces)} triangles, "
        f"{len(model.shape_basis)} shape, {len(model.expression_basis)} expression "
        f"and {len(model.diffuse_basis)} albedo components, "
        f"{len(model.blendshape_names)} blendshapes, hash {model.hash[:12]}"
    )


def _list(as_json: bool) -> int:
    listed = library.rows()
    if as_json:
        print(library.as_json(listed))
        return 0
    for row in listed:
        state = "installed" if row.installed else "download" if row.downloadable else "not here"
        print(f"{row.name:16} {state:10} {row.title}")
        print(f"{'':16} {'':10} {row.licence}; {row.path or row.source}")
        if row.note:
            print(f"{'':16} {'':10} {row.note}")
    return 0


def _check(names: Sequence[str], as_json: bool) -> int:
    results: list[dict[str, object]] = []
    for name in names:
        try:
            model = library.check(name)
        except ModelError as error:
            results.append({"name": name, "ok": False, "problem": str(error)})
            if not as_json:
                print(f"{name}: {error}")
            continue
        results.append(_facts(name, model))
        if not as_json:
            print(_describe(model))
            for note in model.notes:
                print(f"  note: {note}")
            print("  ok")
    if as_json:
        print(json.dumps(results, ensure_ascii=False))
    return 0 if all(result["ok"] for result in results) else ModelError.exit_code


def _say(text: str) -> None:
    """Progress on standard error, where it does not disturb JSON."""
    print(text, file=sys.stderr, flush=True)


def _report(place: Path, model: FaceModel, as_json: bool) -> int:
    if as_json:
        print(json.dumps({**_facts(place.name, model), "path": str(place)}, ensure_ascii=False))
    else:
        print(_describe(model))
        print(f"Choose it with --set model={place.name}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nextgenface-models", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    made = {
        name: commands.add_parser(name, help=text)
        for name, text in (
            ("list", "the models that --set model=NAME can choose, and what could be installed"),
            ("check", "read models as a reconstruction does and test that they can be used"),
            ("add", "copy a model's files or folder into your models"),
            ("download", "fetch an openly licensed model (checksums are compared; can be resumed)"),
            ("remove", "delete a model from your models"),
            ("build", "build the built-in model now instead of on first use"),
        )
    }
    for name, command in made.items():
        if name != "build":
            command.add_argument("--json", action="store_true", help="one JSON value on standard output")
    made["build"].add_argument("--force", action="store_true", help="build it even if its file is there")
    made["check"].add_argument(
        "model", nargs="*", default=[BUILTIN], help="names, files or folders (default: builtin)"
    )
    made["add"].add_argument("path", nargs="+", type=Path, help="the files of one model, or its folder")
    made["add"].add_argument("--name", required=True, help="name under which it is chosen, e.g. bfm or flame")
    made["add"].add_argument("--licence", default="", help="kept with the model")
    made["add"].add_argument("--source", default="", help="where it came from; kept with the model")
    for name in ("download", "remove"):
        made[name].add_argument("name", help="name in the list")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    chosen = _parser().parse_args(arguments)

    def work() -> int:
        if chosen.command == "list":
            return _list(chosen.json)
        if chosen.command == "build":
            print(_describe(build_builtin(chosen.force, print)))
            print(*builtin_files()[:1])
            return 0
        if chosen.command == "check":
            return _check(chosen.model, chosen.json)
        try:
            if chosen.command == "remove":
                place = library.remove(chosen.name)
                print(json.dumps({"ok": True, "path": str(place)}) if chosen.json else f"Removed {place}.")
                return 0
            if chosen.command == "download":
                return _report(*library.download(chosen.name, _say), chosen.json)
            place, model = library.add(chosen.path, chosen.name, chosen.licence, chosen.source)
            return _report(place, model, chosen.json)
        except NextGenFaceError as error:
            if chosen.json:
                print(json.dumps({"ok": False, "problem": str(error)}, ensure_ascii=False))
            raise

    return run_command(work)


if __name__ == "__main__":
    raise SystemExit(main())
