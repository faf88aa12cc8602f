"""Options: defaults, files in the ini dialect, overrides, and where a value came from."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
from nextgenface.config import ALIASES, Config, options
from nextgenface.cores import available_cores
from nextgenface.errors import ConfigError
from nextgenface.paths import asset

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "configuration.md"


def write(folder: Path, text: str, name: str = "my.ini") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def test_class_defaults_are_those_of_the_shipped_file() -> None:
    config = Config()
    before = config.toDict()
    config.fillFromDicFile(asset("default.ini"))
    assert config.toDict() == before
    written = set(re.findall(r"^(\w+) *=", asset("default.ini").read_text(encoding="utf-8"), re.MULTILINE))
    assert written == set(options())


def test_guide_defaults() -> None:
    config = Config()
    assert (config.device, config.lamdmarksDetectorType) == ("cpu", "mediapipe")
    assert (config.iterStep1, config.iterStep2, config.iterStep3) == (2000, 400, 500)
    assert (config.weightDiffuseSymmetryReg, config.weightDiffuseConsistencyReg) == (300.0, 100.0)
    assert (config.camFocalLength, config.optimizeFocalLength) == (3000.0, True)
    assert (config.rtSamples, config.rtTrainingSamples, config.smoothSh) == (10000, 8, True)
    config.validate()


def test_shadows_preset_differs_where_light_is_harsh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = Config()
    config.fillFromDicFile("configs/shadows.ini")
    assert config.weightDiffuseSymmetryReg == 1200.0
    assert config.maxResolution == 256
    assert config.smoothSh and not config.saveExr
    assert config.source("weightDiffuseSymmetryReg") == "default"
    assert "shadows.ini does not exist here" in config.warnings[0]


def test_dialect(tmp_path: Path) -> None:
    config = Config()
    config.fillFromDicFile(
        write(
            tmp_path,
            "\ufeff# a comment\n[section]\n; another\n\niterStep1 = 7 # seven\niterStep1=8\n"
            "device = 'auto'\npath = \"/data/my #1 model = good\"\ntrimPca = YES\nsmoothSh = off\n"
            "rtSamples = 512.0\ncamFocalLength = 1.5e3\ntracker = 'fan'\n",
        )
    )
    assert config.iterStep1 == 8
    assert config.device == "auto"
    assert config.path == "/data/my #1 model = good"
    assert config.trimPca is True and config.smoothSh is False
    assert config.rtSamples == 512 and isinstance(config.rtSamples, int)
    assert config.camFocalLength == 1500.0
    assert config.lamdmarksDetectorType == "fan"
    assert not config.warnings


@pytest.mark.parametrize("key", ["lamdmarksDetectorType", *ALIASES])
def test_every_spelling_of_the_detector_key(tmp_path: Path, key: str) -> None:
    from_file, from_attribute, from_text = Config(), Config(), Config()
    from_file.fillFromDicFile(write(tmp_path, f"{key} = fan\n"))
    setattr(from_attribute, key, "fan")
    from_text.set(key, "fan")
    assert from_file.toDict() == from_attribute.toDict() == from_text.toDict()
    assert getattr(from_file, key) == "fan"
    assert from_file.source(key) == "file" and from_text.source(key) == "user"


def test_unknown_key_warns_and_names_the_nearest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = Config()
    with caplog.at_level(logging.WARNING):
        config.fillFromDicFile(write(tmp_path, "device = auto\niterStp1 = 5\nnot a line\n"))
    assert config.device == "auto"
    assert config.iterStep1 == 2000
    assert re.search(r"my\.ini:2: .*'iterStp1'.*did you mean 'iterStep1'", caplog.text)
    assert "my.ini:3" in caplog.text


@pytest.mark.parametrize(
    "line",
    [
        "iterStep1 = many",
        "iterStep1 = 1.5",
        "iterStep1 = -1",
        "trimPca = maybe",
        "camFocalLength = nan",
        "camFocalLength =",
        "device = gpu",
        "lamdmarksDetectorType = dlib",
        "maxResolution = 1000000",
    ],
)
def test_wrong_values_name_file_and_line_and_change_nothing(tmp_path: Path, line: str) -> None:
    config = Config()
    with pytest.raises(ConfigError, match=r"my\.ini:2: option " + line.split()[0]):
        config.fillFromDicFile(write(tmp_path, f"seed = 5\n{line}\n"))
    assert config.seed == 0


@pytest.mark.parametrize("key,value", [("iterStep1", "x"), ("iterStp1", "5"), ("smoothSh", "2")])
def test_wrong_overrides(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=key):
        Config().set(key, value)


def test_assignment_is_checked_and_counts_as_the_programs(tmp_path: Path) -> None:
    config = Config()
    config.iterStep1 = 12
    config.camFocalLength = np.float32(900)  # type: ignore[assignment]
    config.path = tmp_path  # type: ignore[assignment]
    config.trimPca = np.bool_(True)  # type: ignore[assignment]
    assert (config.iterStep1, config.camFocalLength, config.path) == (12, 900.0, str(tmp_path))
    assert config.trimPca is True
    assert config.source("iterStep1") == "api" and config.source("iterStep2") == "default"
    json.dumps(config.toDict())
    for name, value in {"iterStep1": "12", "smoothSh": "yes", "device": 3, "camFocalLength": None}.items():
        with pytest.raises(ConfigError, match=name):
            setattr(config, name, value)
    with pytest.raises(ConfigError, match="did you mean 'iterStep1'"):
        config.itrStep1 = 3
    with pytest.raises(AttributeError):
        _ = config.nonsense


def test_file_attribute_and_set_agree(tmp_path: Path) -> None:
    by_file, by_attribute, by_text = Config(), Config(), Config()
    values = {"iterStep2": "33", "weightShapeReg": "0.25", "verbose": "true", "engine": "raytraced"}
    by_file.fillFromDicFile(write(tmp_path, "".join(f"{key} = {value}\n" for key, value in values.items())))
    for key, value in values.items():
        by_text.set(key, value)
    by_attribute.iterStep2, by_attribute.weightShapeReg = 33, 0.25
    by_attribute.verbose, by_attribute.engine = True, "raytraced"
    assert by_file.toDict() == by_attribute.toDict() == by_text.toDict()


def test_sources(tmp_path: Path) -> None:
    config = Config()
    config.fillFromDicFile(asset("default.ini"))
    assert config.source("camFocalLength") == "default"
    unchanged = write(tmp_path, asset("default.ini").read_text(encoding="utf-8"), "copy.ini")
    config.fillFromDicFile(unchanged)
    assert config.source("camFocalLength") == "default"
    config.fillFromDicFile(write(tmp_path, "camFocalLength = 3000\n"))
    assert config.source("camFocalLength") == "file"
    config.set("camFocalLength", "2000")
    assert config.source("camFocalLength") == "user"
    copy = config.copy()
    config.camFocalLength = 1.0
    assert copy.camFocalLength == 2000 and copy.source("camFocalLength") == "user"
    assert config.sources()["camFocalLength"] == "api"


def test_missing_and_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for wrong in ("configs/mine.ini", str(tmp_path / "default.ini"), str(tmp_path)):
        with pytest.raises(ConfigError, match=re.escape(wrong)):
            Config().fillFromDicFile(wrong)
    (tmp_path / "binary.ini").write_bytes(b"\xff\xfe\x00\x81" * 20)
    with pytest.raises(ConfigError, match="binary.ini"):
        Config().fillFromDicFile("binary.ini")


def test_print_lists_everything(capsys: pytest.CaptureFixture[str]) -> None:
    config = Config()
    config.seed = 4
    config.print()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(options())
    assert "seed = 4    # api" in lines


def test_model_folder_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NEXTGENFACE_DATA_DIR", raising=False)
    config = Config()
    assert config.modelFolder() is None
    Path("baselMorphableModel").mkdir()
    assert config.modelFolder() == Path("baselMorphableModel")
    Path("data/baselMorphableModel").mkdir(parents=True)
    assert config.modelFolder() == Path("data/baselMorphableModel")
    monkeypatch.setenv("NEXTGENFACE_DATA_DIR", "/from/environment")
    assert config.modelFolder() == Path("/from/environment")
    config.path = "/chosen"
    assert config.modelFolder() == Path("/chosen")


def test_threads() -> None:
    config = Config()
    assert 1 <= config.threadCount() <= 8
    assert config.threadCount() <= max(1, available_cores())
    config.threads = 3
    assert config.threadCount() == 3


def test_documentation_has_every_option_with_its_default() -> None:
    text = DOCUMENTATION.read_text(encoding="utf-8")
    for name, option in options().items():
        row = re.search(rf"^\| `{name}` \| (\w+) \| `(.*?)` \|", text, re.MULTILINE)
        assert row, f"{name} is missing in docs/configuration.md"
        assert row.group(1) == option.kind.__name__
        assert option.parse(row.group(2)) == option.default, name
