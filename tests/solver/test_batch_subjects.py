"""Who is in a batch, under which names; and what the command says for bad input."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from nextgenface.batch.local import LocalPool, available_memory, default_workers, visible_gpus
from nextgenface.batch.subjects import Found, find_subjects
from nextgenface.batch.thumbnail import SIDE, write_thumbnail
from nextgenface.cli import batch
from nextgenface.errors import NextGenFaceError
from PIL import Image


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def named(found: Found) -> dict[str, str]:
    return {subject.name: str(subject.source) for subject in found.subjects}


def test_photos_and_folders_of_photos(tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    touch(
        source / "b 10.PNG", source / "b 2.jpg", source / "notes.txt", source / ".hidden.png",
        source / "Zoë" / "2.png", source / "Zoë" / "10.png", source / "Zoë" / "raw.nef",
        source / "empty" / "x.txt", source / ".git" / "a.png", source / "deep" / "er" / "a.png",
    )  # fmt: skip
    found = find_subjects(source, output)
    assert list(named(found)) == ["b 2", "b 10", "Zoë"]
    person = found.subjects[2]
    assert person.shared and [photo.name for photo in person.photos] == ["2.png", "10.png"]
    assert not found.subjects[0].shared
    assert len(found.notes) == 2 and all("holds no photos" in note for note in found.notes)


def test_names_differ_even_where_capitals_and_accents_do_not_count(tmp_path: Path) -> None:
    composed, decomposed = unicodedata.normalize("NFC", "Zoë"), unicodedata.normalize("NFD", "Zoë")
    touch(
        tmp_path / "a.jpg", tmp_path / "a.png", tmp_path / "A" / "1.png", tmp_path / "summary.csv.png",
        tmp_path / f"{composed}.png", tmp_path / f"{decomposed}.jpg",
    )  # fmt: skip
    found = find_subjects(tmp_path, tmp_path / "out")
    names = list(named(found))
    assert {"a", "a.png", "A-2", "summary.csv.png"} <= set(names)
    folded = {unicodedata.normalize("NFC", name).casefold() for name in names}
    assert len(folded) == len(names) == 6


def test_names_stay_when_others_come(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    first = named(find_subjects(tmp_path, tmp_path / "out"))
    touch(tmp_path / "a.jpg")  # sorts before a.png
    known = {source: name for name, source in first.items()}
    second = named(find_subjects(tmp_path, tmp_path / "out", known))
    assert second["a"] == first["a"] and second["a.jpg"].endswith("a.jpg")


def test_results_among_the_photos_are_not_people(tmp_path: Path) -> None:
    touch(tmp_path / "a.png", tmp_path / "out" / "a" / "photo_0.png", tmp_path / "out" / "x.png")
    touch(tmp_path / "older" / "result.json", tmp_path / "older" / "photo_0.png")
    assert list(named(find_subjects(tmp_path, tmp_path / "out"))) == ["a"]
    with pytest.raises(NextGenFaceError, match="is the folder of the photos"):
        find_subjects(tmp_path, tmp_path / "older" / "..")
    person = tmp_path / "anna"
    touch(person / "1.png")
    assert list(named(find_subjects(tmp_path, person / "out"))) == ["a", "anna", "out"]


def test_a_list(tmp_path: Path) -> None:
    touch(tmp_path / "x" / "a.png", tmp_path / "y" / "a.png", tmp_path / "p" / "1.png")
    lines = ["# people", "x/a.png", str(tmp_path / "y" / "a.png"), "", "p", "gone.png", "x/../x/a.png"]
    listed = tmp_path / "people.txt"
    listed.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    found = find_subjects(listed, tmp_path / "out")
    assert list(named(found)) == ["a", "a.png", "p", "gone"]
    assert found.subjects[2].shared and not found.subjects[1].shared
    assert "gone.png does not exist" in found.subjects[3].problem
    assert len(found.notes) == 1 and "more than once" in found.notes[0]


def test_one_photo_is_a_batch_too(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    assert list(named(find_subjects(tmp_path / "a.png", tmp_path / "out"))) == ["a"]


@pytest.mark.parametrize(
    "path, words", [("gone", "nothing at --input"), ("empty", "No photos"), ("x.bin", "neither a photo nor")]
)
def test_nothing_to_do_is_said(
    tmp_path: Path, path: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.bin").write_bytes(b"\xff\xfe\xfa")
    code = batch.main(["--input", str(tmp_path / path), "--output", str(tmp_path / "out")])
    assert code == 2 and words in capfd.readouterr().err


def test_a_list_of_nobody_is_a_failure_for_each(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.txt").write_text("gone.png\nlost\n")
    arguments = ["--input", str(tmp_path / "list.txt"), "--output", str(tmp_path / "out"), "--json"]
    assert batch.main(arguments) == 1
    told = capfd.readouterr()
    assert [line.split(": ")[:2] for line in told.err.splitlines()] == [
        ["failed", "gone"],
        ["failed", "lost"],
    ]
    events = [json.loads(line) for line in told.out.splitlines()]
    assert [event["event"] for event in events] == ["batch", "done"]
    assert events[-1]["counts"] == {"failed": 2}


@pytest.mark.parametrize(
    "arguments", [["--workers", "0"], ["--timeout", "-1"], ["--workers", "2", "--scheduler", "tcp://x:1"]]
)
def test_wrong_options(tmp_path: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as told:
        batch.main(["--input", str(tmp_path), "--output", str(tmp_path / "out"), *arguments])
    assert told.value.code == 2


def test_a_wrong_setting_is_found_before_anything_is_made(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    touch(tmp_path / "in" / "a.png")
    arguments = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert batch.main([*arguments, "--set", "iterStep9=3"]) == 2
    assert "iterStep9" in capfd.readouterr().err and not (tmp_path / "out").exists()


def test_workers_by_cores_memory_and_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  64000000 kB\nMemAvailable:   5000000 kB\n")
    assert available_memory(meminfo) == 5_120_000_000
    assert available_memory(tmp_path / "none") is None
    monkeypatch.setattr("nextgenface.batch.local.available_cores", lambda: 8)
    for memory, workers in ((None, 8), (5e9, 2), (1e8, 1), (1e12, 8)):
        monkeypatch.setattr("nextgenface.batch.local.available_memory", lambda memory=memory: memory)
        assert default_workers(()) == workers
    assert default_workers(("0", "1", "2")) == 3
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus(lambda: "0\n1\n") == ("0", "1") and visible_gpus(lambda: "") == ()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    assert visible_gpus() == ("3", "5")
    places = LocalPool(3, ("3", "5")).places()
    assert [place.environment["CUDA_VISIBLE_DEVICES"] for place in places] == ["3", "5", "3"]
    assert [place.threads for place in LocalPool(3).places()] == [2, 2, 2]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert visible_gpus() == ()


def test_the_thumbnail_shows_the_face_before_and_after(tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), (0, 0, 255)).save(tmp_path / "photo.png")
    head = Image.new("RGBA", (300, 200))
    head.paste((255, 0, 0, 255), (100, 50, 180, 130))
    head.save(tmp_path / "final.png")
    files = {"photo": "photo.png", "final_png": "final.png"}
    write_thumbnail(tmp_path, {"photos": [{"files": files}]})
    with Image.open(tmp_path / "thumbnail.jpg") as sheet:
        assert sheet.size == (2 * SIDE, SIDE)
        before, after = sheet.getpixel((SIDE // 2, SIDE // 2)), sheet.getpixel((SIDE + SIDE // 2, SIDE // 2))
        corner = sheet.getpixel((SIDE + 8, SIDE // 2))
    assert before[2] > 200 and before[0] < 60, "the photo"  # type: ignore[index]
    assert after[0] > 200 and after[2] < 60, "the head in the middle"  # type: ignore[index]
    assert corner[2] > 200, "the photo around it"  # type: ignore[index]
