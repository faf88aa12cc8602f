"""Live Link Face recordings. Needs no bpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nextgenface_addon.scene.live_link import LiveLinkError, read_take

HEADER = "Timecode,BlendShapeCount,EyeBlinkLeft,JawOpen,TongueOut,HeadYaw"


def written(path: Path, *lines: str, header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8-sig")
    return path


def test_a_recording(tmp_path: Path) -> None:
    path = written(
        tmp_path / "Aufnahme ü.csv",
        "10:59:59:58.500,61,0.1,0.2,0.3,0.4",
        "10:59:59:59.500,61,0.5,0.6,0.7,0.8",
        "11:00:00:00.500,61,0.9,1.0,0.0,0.1",
    )
    take = read_take(path)
    assert take.names == ("eyeBlinkLeft", "jawOpen", "tongueOut")
    assert take.frame_rate == 60 and take.ignored == ("HeadYaw",) and take.lost == 0
    np.testing.assert_allclose(take.times, [0, 1 / 60, 2 / 60], atol=1e-9)
    np.testing.assert_allclose(take.values, [[0.1, 0.2, 0.3], [0.5, 0.6, 0.7], [0.9, 1.0, 0.0]], atol=1e-6)


@pytest.mark.parametrize("rate", [24, 25, 30, 60])
def test_the_rate_is_told_from_the_timecode(tmp_path: Path, rate: int) -> None:
    lines = [f"00:00:{i // rate:02d}:{i % rate:02d}.000,61,0,0,0,0" for i in range(3 * rate)]
    take = read_take(written(tmp_path / "t.csv", *lines))
    assert take.frame_rate == rate
    np.testing.assert_allclose(np.diff(take.times), 1 / rate, atol=1e-9)


def test_a_short_recording_is_taken_for_the_apps_own_rate_or_the_one_given(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "00:00:00:00.0,61,0,0,0,0", "00:00:00:12.0,61,0,0,0,0")
    assert read_take(path).times[-1] == pytest.approx(0.2)
    assert read_take(path, 24).times[-1] == pytest.approx(0.5)


def test_milliseconds_in_the_place_of_frames(tmp_path: Path) -> None:
    lines = [f"00:00:{i // 30:02d}:{i % 30 * 33:02d}.001,61,0,0,0,0" for i in range(60)]
    take = read_take(written(tmp_path / "t.csv", *lines))
    assert take.frame_rate == 1000 and take.times[1] == pytest.approx(0.033)


def test_midnight_lost_frames_and_a_clock_that_goes_back(tmp_path: Path) -> None:
    path = written(
        tmp_path / "t.csv",
        "23:59:59:30.0,61,0,0.1,0,0",
        "",
        "23:59:59:40.0,0",
        "00:00:00:00.0,61,0,0.2,0,0",
        "00:00:00:00.0,61,0,0.3,0,0",
        "00:00:00:30.0,61,0,0.4,0,0",
    )
    take = read_take(path, 60)
    assert take.lost == 1
    np.testing.assert_allclose(take.times, [0, 0.5, 1.0])
    np.testing.assert_allclose(take.values[:, 1], [0.1, 0.3, 0.4], atol=1e-6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Timecode"),
        ("a,b\n1,2", "Timecode"),
        ("Timecode,BlendShapeCount,Foo\n00:00:00:00,1,2", "no column"),
        (HEADER, "no frame"),
        (HEADER + "\n00:00:00,61,0,0,0,0", "line 2"),
        (HEADER + "\n00:00:00:00,61,0,x,0,0", "line 2"),
        (HEADER + "\n00:00:00:00,61,0,nan,0,0", "not finite"),
        (HEADER + "\n00:99:00:00,61,0,0,0,0", "line 2"),
    ],
)
def test_wrong_files_are_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(LiveLinkError, match=words) as caught:
        read_take(path)
    assert "bad.csv" in str(caught.value)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(bytes(range(256)))
    with pytest.raises(LiveLinkError, match=r"x\.csv"):
        read_take(tmp_path / "x.csv")
    with pytest.raises(LiveLinkError, match="gone"):
        read_take(tmp_path / "gone.csv")
