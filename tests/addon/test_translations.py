"""What the interface says can be translated, and what is translated is said. Needs bpy for the last tests."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
ADDON = REPOSITORY / "nextgenface_addon"
WITHOUT_A_WINDOW = {"headless.py", "cli.py", "batch.py"}
TRANSLATED_BY_BLENDER = {"text", "name", "description", "label", "tip"}

CATALOGUES = sorted((REPOSITORY / "assets" / "translations").glob("*.json"))


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(ADDON.rglob("*.py")):
        if path.name not in WITHOUT_A_WINDOW:
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            yield getattr(called, "attr", getattr(called, "id", "")), node


def texts_in_code() -> set[str]:
    """Every string constant: what can be said is among them."""
    return {
        node.value
        for _, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"\{[^}]*\}", text))


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_a_catalogue_translates_what_is_said(path: Path) -> None:
    catalogue = json.loads(path.read_text(encoding="utf-8"))
    assert len(catalogue) > 100
    assert sorted(set(catalogue) - texts_in_code()) == []
    for text, translation in catalogue.items():
        assert placeholders(text) == placeholders(translation), text
        assert translation.strip() == translation != ""


def test_composed_texts_are_translated_before_they_are_composed() -> None:
    """An f-string cannot be looked up; it has to be marked as ready, or its parts translated."""
    wrong = []
    for path, tree in sources():
        for name, call in calls(tree):
            composed = [a for a in call.args[:2] if isinstance(a, ast.JoinedStr)]
            composed += [
                k.value for k in call.keywords if k.arg == "text" and isinstance(k.value, ast.JoinedStr)
            ]
            ready = any(k.arg == "translate" for k in call.keywords)
            if name in ("iface_", "rpt_", "poll_message_set", "report") and composed:
                wrong.append(f"{path.name}:{call.lineno} {name}")
            if name in ("label", "prop", "operator", "menu") and composed and not ready:
                wrong.append(f"{path.name}:{call.lineno} {name}")
    assert wrong == []


def test_every_operator_has_the_common_base() -> None:
    for path, tree in sources():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and "_OT_" in node.name:
                bases = [ast.unparse(base) for base in node.bases]
                assert bases[-1] == "bpy.types.Operator" and bases[0].endswith("Operator"), node.name
                assert len(bases) == 2, f"{path.name}: {node.name} has no base that reports what goes wrong"
                assert not any(getattr(part, "name", "") == "execute" for part in node.body), node.name
                assert ast.get_docstring(node) and not ast.get_docstring(node).endswith("."), node.name


@pytest.fixture
def german(bpy: Any) -> Iterator[Any]:
    import nextgenface_addon

    nextgenface_addon.register()
    view = bpy.context.preferences.view
    before = view.language, view.use_translate_interface, view.use_translate_reports
    try:
        view.language = "de_DE"
    except TypeError:
        nextgenface_addon.unregister()
        pytest.skip("this Blender comes without languages")
    view.use_translate_interface = view.use_translate_reports = True
    yield bpy
    view.language, view.use_translate_interface, view.use_translate_reports = before
    nextgenface_addon.unregister()


def test_blender_finds_the_translations(german: Any) -> None:
    from nextgenface_addon.job_events import JobStatus

    iface = german.app.translations.pgettext_iface
    assert iface("Selected Photo") == "Ausgewähltes Foto"
    assert iface("Reconstruct", "Operator") == "Rekonstruieren"
    status = JobStatus(state="running", stage="textures", step=1, total=2, eta=30.0)
    assert status.text(iface) == "Texturen 1/2, noch 30 s"


def test_a_damaged_catalogue_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bpy: Any) -> None:
    from nextgenface_addon import translations

    folder = tmp_path / "assets" / "translations"
    folder.mkdir(parents=True)
    (folder / "xx_XX.json").write_text("[1]")
    (folder / "yy_YY.json").write_text("{")
    (folder / "zz_ZZ.json").write_text('{"Photo": "Bild"}')
    monkeypatch.setattr(translations, "package_root", lambda: tmp_path)
    catalogues = translations.read_catalogues()
    assert catalogues == {"zz_ZZ": {("*", "Photo"): "Bild", ("Operator", "Photo"): "Bild"}}
