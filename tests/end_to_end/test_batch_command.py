"""A batch with the real job: one that goes on from a real checkpoint, and one photo without a face."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nextgenface.batch.records import Record, write_record
from nextgenface.batch.run import BatchRequest, make_task, plan
from nextgenface.cli import batch
from nextgenface.config import Config
from PIL import Image

from tests.end_to_end.conftest import Run
from tests.end_to_end.small import save_photo, small_arguments


def test_a_real_batch(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = tmp_path / "in é", tmp_path / "out"
    source.mkdir()
    shutil.copy(run.photo, source)
    save_photo(source / "wall.png", np.full((200, 200, 3), 99, np.uint8))
    settings = small_arguments(rtSamples=2)
    stopped_batch(source, output, settings, run)
    arguments = ["--input", str(source), "--output", str(output), *settings]
    assert batch.main([*arguments, "--workers", "2"]) == 1
    told = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    person, wall = told["subjects"]
    assert person["name"] == run.photo.stem and person["status"] == "finished"
    assert person["seconds"] > 41 and list(person["stages"]) == ["render"], "the stages were not run again"
    assert person["metrics"]["psnr"] > 10 and person["peak_mb"] > 100
    with Image.open(output / person["thumbnail"]) as thumbnail:
        assert np.asarray(thumbnail).std() > 20
    assert wall["status"] == "failed" and wall["kind"] == "NoFaceError" and "wall.png" in wall["error"]
    printed = capsys.readouterr()
    assert "1 finished, 1 failed" in printed.out and printed.err.startswith("failed: wall: ")


def stopped_batch(source: Path, output: Path, settings: list[str], run: Run) -> None:
    """What a batch leaves that was stopped after the last stage of its first subject, before the pictures."""
    config = Config()
    for text in settings[1::2]:
        config.set(*text.split("=", 1))
    request = BatchRequest(source, output, config)
    output.mkdir()
    summary = plan(request, output, "here")
    task = make_task(request, summary.rows[0].subject, summary)
    shutil.copytree(run.folder / "checkpoints", task.folder / "checkpoints")
    record = Record("stopped", seconds=41.0, photo_facts=task.photo_facts, settings=task.settings)
    write_record(task.folder, replace(record, run="the first"))
