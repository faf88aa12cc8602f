"""The tables of options, methods and presets agree with the solver. No bpy."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nextgenface_addon.methods import METHODS, method_named, method_source
from nextgenface_addon.options import GROUPS, OPTIONS, changed
from nextgenface_addon.presets import PresetError, UserPresets, checked, shipped, values_of
from nextgenface_addon.solver_options import Declared, declared

REPOSITORY = Path(__file__).resolve().parents[2]
ASSETS = REPOSITORY / "assets"


def face_defaults() -> dict[str, str]:
    """Name and value of every option in the solver's own list."""
    text = (ASSETS / "default.ini").read_text(encoding="utf-8")
    found = re.findall(r"^\s*(\w+)\s*=\s*('[^']*'|[^#\s]+)", text, re.MULTILINE)
    return {name: value.strip("'") for name, value in found}


def test_options_are_the_solvers_with_its_defaults() -> None:
    defaults = face_defaults()
    face = {key: option for key, option in OPTIONS.items() if option.method == "face"}
    assert set(face) <= set(defaults) and len(face) > 30
    for name, option in face.items():
        kind = type(option.default)
        value = defaults[name] == "True" if kind is bool else kind(defaults[name])
        assert value == option.default, name


def test_every_option_of_a_face_is_shown_or_left_out_on_purpose() -> None:
    """`device` and `face` have their own places in the panel; the others are for scripts and comparisons."""
    elsewhere = {"device", "face", "leaveOut", "rtOutlineEvery", "verbose"}
    known = declared(method_source(METHODS[0]))
    assert set(known) - elsewhere == {option.name for option in OPTIONS.values() if option.method == "face"}
    assert set(known) == set(face_defaults())


def test_options_are_within_what_the_solver_takes() -> None:
    for method in METHODS:
        known = declared(method_source(method))
        asked = {option.name: option for option in OPTIONS.values() if option.method == method.name}
        assert len(asked) >= 4 and set(asked) <= set(known)
        for name, option in asked.items():
            assert sorted(choice[0] for choice in option.choices) == sorted(known[name].choices), name
            if option.low is not None:
                assert option.low <= float(option.default) <= (option.high or float("inf")), name
    assert (OPTIONS["maxResolution"].low, OPTIONS["maxResolution"].high) == (64, 4096)
    assert OPTIONS["gaussians_shDegree"].high == 3


def test_a_list_of_the_solver_is_read_without_running_it(tmp_path: Path) -> None:
    assert declared(tmp_path / "gone.py") == {}
    (tmp_path / "list.py").write_text(
        "import no_such_module\n"
        "class Options:\n"
        "    steps: int = option(7, 'text', low=1, high=2**31 - 1)\n"
        "    way = Option('a', 'text', choices=('a', 'b'))\n"
        "    other: int = 3\n"
        "    also = field(4)\n"
    )
    found = {"steps": Declared(7, low=1), "way": Declared("a", choices=("a", "b"))}
    assert declared(tmp_path / "list.py") == found


def test_no_option_of_a_table_is_unknown_to_the_solver() -> None:
    """Those that are would silently be missing in the panel."""
    listed = []
    for table in ("face_options.py", "method_options.py"):
        text = (REPOSITORY / "nextgenface_addon" / table).read_text(encoding="utf-8")
        listed += re.findall(r"^ +(?:option|_weight)\(\s*\"(\w+)\"", text, re.MULTILINE)
    assert sorted(listed) == sorted(option.name for option in OPTIONS.values())


def test_options_say_what_to_change_them_for() -> None:
    names = [option.key for group in GROUPS for option in group.options]
    assert len(names) == len(set(names))
    for option in OPTIONS.values():
        assert len(option.tip) >= 30 and not option.tip.endswith("."), option.name
        assert option.label != option.name


def test_only_changes_are_sent_and_read_as_typed() -> None:
    values = {name: option.default for name, option in OPTIONS.items()}
    assert changed(values) == {}
    single = 0.0020000000949949026  # what 0.002 becomes in Blender's 32 bits
    assert changed(values | {"weightDiffuseSmoothnessReg": single}) == {"weightDiffuseSmoothnessReg": 0.002}
    assert changed(values | {"weightRoughnessSmoothnessReg": single}) == {}
    assert changed(values | {"noiseLevel": 0.009999999776482582}) == {}
    assert changed(values | {"weightRoughnessConsistencyReg": 1e-9}) == {
        "weightRoughnessConsistencyReg": 1e-9
    }


def test_methods_are_those_of_the_solver() -> None:
    text = (REPOSITORY / "solver" / "nextgenface" / "multiview" / "method.py").read_text(encoding="utf-8")
    table = re.search(r"^METHODS.*?=\s*\{(.*?)\}", text, re.MULTILINE | re.DOTALL)
    assert table is not None
    known = {"face", *re.findall(r'"(\w+)":', table.group(1))}
    names = [method.name for method in METHODS]
    assert names[0] == "face" and set(names) <= known and len(set(names)) == len(names)
    groups = {group.name for group in GROUPS}
    for method in METHODS:
        assert set(method.option_groups) <= groups and method.stages and not method.description.endswith(".")
    assert method_named("of a newer version").name == "face"


def test_shipped_presets() -> None:
    presets = shipped(ASSETS)
    assert list(presets) == ["Default", "Harsh Light", "Fast Preview", "Quality"]
    assert presets["Default"] == {}
    assert presets["Harsh Light"]["weightDiffuseSymmetryReg"] == 1200.0
    for name, values in presets.items():
        assert checked(values, name) == values == changed({**defaults(), **values})
    fast, fine = presets["Fast Preview"], presets["Quality"]
    assert fast["maxResolution"] < OPTIONS["maxResolution"].default < fine["maxResolution"]


def defaults() -> dict[str, object]:
    return {name: option.default for name, option in OPTIONS.items()}


def test_own_presets_are_kept_and_win(tmp_path: Path) -> None:
    own = UserPresets(tmp_path / "new folder" / "presets")
    assert own.names() == []
    own.save("Größe 1", {"maxResolution": 300})
    own.save("Default", {"seed": 4})
    assert own.names() == ["Default", "Größe 1"]
    assert values_of("Größe 1", ASSETS, own) == {"maxResolution": 300}
    assert values_of("Default", ASSETS, own) == {"seed": 4}
    own.remove("Default")
    assert values_of("Default", ASSETS, own) == {}
    with pytest.raises(PresetError, match="no preset 'x'"):
        values_of("x", ASSETS, own)
    with pytest.raises(PresetError, match="cannot be deleted"):
        own.remove("gone")


@pytest.mark.parametrize("name", ["", " ", "a/b", "..", "a\\b", "x?", ".hidden", "a\nb", "end."])
def test_names_that_are_no_file_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PresetError, match="cannot be a preset's name"):
        UserPresets(tmp_path).save(name, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read"),
        ("[]", "no preset"),
        ('{"schema": 9, "options": {}}', "no preset"),
        ('{"schema": 1, "options": {"maxResolution": "big"}}', "maxResolution"),
        ('{"schema": 1, "options": {"maxResolution": 1}}', "maxResolution"),
        ('{"schema": 1, "options": {"engine": "magic"}}', "engine"),
        ('{"schema": 1, "options": {"model": 3}}', "model"),
        ('{"schema": 1, "options": {"seed": null}}', "seed"),
        ('{"schema": 1, "options": {"seed": 1e999}}', "seed"),
    ],
)
def test_damaged_presets_are_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(PresetError, match=message):
        UserPresets(tmp_path).read("a")


def test_options_of_a_newer_version_are_left_out(tmp_path: Path) -> None:
    text = json.dumps({"schema": 1, "options": {"seed": 3, "of a newer version": 1}})
    (tmp_path / "a.json").write_text(text)
    assert UserPresets(tmp_path).read("a") == {"seed": 3}
