"""Checkpoints: the guide's keys for everyone, everything for us, nothing executed, never half a file."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nextgenface.checkpoint import PhotoRecord, load_checkpoint, restore_state, save_checkpoint
from nextgenface.errors import CheckpointError, OutputError
from nextgenface.fitting.state import FaceState
from nextgenface.rendering.light import lobe_centres
from nextgenface.safe_pickle import read_plain_pickle

from tests.solver.tiny import random_state, records, tiny_model

GUIDE_KEYS = {
    "vShapeCoeff", "vAlbedoCoeff", "vExpCoeff", "vRotation", "vTranslation", "vFocals", "vShCoeffs",
    "screenWidth", "screenHeight", "sharedIdentity",
}  # fmt: skip
TEXTURES = {"vEnhancedDiffuse", "vEnhancedSpecular", "vEnhancedRoughness"}
TINY = tiny_model()


def saved(path: Path, state: FaceState, photos: tuple[PhotoRecord, ...] | None = None) -> Path:
    save_checkpoint(
        path, state, photos or records(state.photo_count), config={"iterStep1": 3}, engine="deferred"
    )
    return path


def same(a: FaceState, b: FaceState) -> None:
    for name, value in a.__dict__.items():
        other = getattr(b, name)
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, other), name
        else:
            assert value == other, name


@pytest.mark.parametrize("stage", [1, 3])
@pytest.mark.parametrize(("photos", "shared"), [(1, False), (2, False), (3, True)])
def test_a_state_comes_back_bit_for_bit(tmp_path: Path, stage: int, photos: int, shared: bool) -> None:
    state = random_state(TINY, photos, shared=shared, stage=stage)
    path = saved(tmp_path / "c.pickle", state)
    same(state, restore_state(load_checkpoint(path), TINY, records(photos), (96, 96)))


def test_the_detectors_scores_are_kept(tmp_path: Path) -> None:
    state = random_state(TINY, 2)
    scored, plain = records(2)
    photos = (replace(scored, blendshapes={"jawOpen": 0.25}), plain)
    path = saved(tmp_path / "c.pickle", state, photos)
    assert load_checkpoint(path).photos == photos
    content = pickle.loads(path.read_bytes())
    content["nextgenface"]["photos"][0]["blendshapes"] = {"jawOpen": float("nan")}
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)
    del content["nextgenface"]["photos"][0]["blendshapes"]  # as older versions wrote it
    path.write_bytes(pickle.dumps(content))
    assert load_checkpoint(path).photos[0].blendshapes is None


def test_pickle_load_in_a_script_gives_the_guides_arrays(tmp_path: Path) -> None:
    state = random_state(TINY, 2)
    path = saved(tmp_path / "c.pickle", state)
    # A script of the user's, in a Python that knows nothing of this package or of torch.
    code = "import pickle, sys\np = pickle.load(open(sys.argv[1], 'rb'))\n"
    code += "print(sorted(p))\nprint(p['vExpCoeff'].shape, p['screenWidth'])"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, path], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert set(eval(done.stdout.splitlines()[0])) == GUIDE_KEYS | TEXTURES | {"nextgenface"}
    assert done.stdout.splitlines()[1] == "(2, 3) 96"
    content = pickle.loads(path.read_bytes())
    assert all(isinstance(content[key], np.ndarray) for key in TEXTURES | {"vShCoeffs"})
    assert content["vEnhancedRoughness"].shape == (2, 16, 16, 1)
    assert content["vFocals"].shape == (2,) and content["vShCoeffs"].shape == (2, 81, 3)
    before = pickle.loads(saved(tmp_path / "two.pickle", random_state(TINY, stage=2)).read_bytes())
    assert not TEXTURES & set(before)


def test_k_is_in_pixels_of_the_original_photo(tmp_path: Path) -> None:
    state = random_state(TINY)
    info = load_checkpoint(saved(tmp_path / "c.pickle", state)).info
    assert info is not None
    x0, y0, scale = records()[0].crop
    point = np.array([12.0, -7.0, 600.0])
    fitted = float(state.focals[0]) * point[:2] / point[2] + state.principal[0].numpy()
    in_photo = info["K"][0] @ point
    np.testing.assert_allclose(in_photo[:2] / in_photo[2], fitted / scale + [x0, y0], rtol=1e-6)


def test_another_crop_of_the_same_photo_keeps_the_camera(tmp_path: Path) -> None:
    state = random_state(TINY)
    checkpoint = load_checkpoint(saved(tmp_path / "c.pickle", state))
    other = (PhotoRecord("x", "x", (200, 160), (10.0, 4.0, 1.5)),)
    moved = restore_state(checkpoint, TINY, other, (192, 192))
    direction = np.array([0.02, 0.03])
    old = float(state.focals[0]) * direction + state.principal[0].numpy()
    new = float(moved.focals[0]) * direction + moved.principal[0].numpy()
    np.testing.assert_allclose(old / 0.75 + [20.5, 10.25], new / 1.5 + [10.0, 4.0], atol=1e-3)


class _RunsACommand:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("echo bad > hacked",)


def test_a_hostile_pickle_is_refused_and_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = pickle.loads(saved(tmp_path / "c.pickle", random_state(TINY)).read_bytes())
    content["nextgenface"]["config"]["x"] = _RunsACommand()
    (tmp_path / "bad.pickle").write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match=r"bad\.pickle was refused: it contains .*system"):
        load_checkpoint(tmp_path / "bad.pickle")
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    "value",
    [
        np.array([{}], dtype=object),
        np.zeros(2, dtype=[("a", "f4")]),
        np.zeros,
        {1, 2},
        np.dtype("f4"),
        complex(1, 2),
    ],
    ids=lambda v: type(v).__name__,
)
def test_nothing_but_plain_arrays_and_values_is_read(tmp_path: Path, value: object) -> None:
    (tmp_path / "c.pickle").write_bytes(pickle.dumps({"a": value}))
    with pytest.raises(CheckpointError):
        read_plain_pickle(tmp_path / "c.pickle")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_all_protocols_are_read(tmp_path: Path, protocol: int) -> None:
    value: dict[str, Any] = {
        "f": np.asfortranarray(np.arange(6.0, dtype=np.float32).reshape(2, 3)),
        "big": np.arange(3, dtype=">f8"),
        "none": np.zeros((0, 3)),
        "scalar": np.float32(1.5),
        "text": np.array(["é", "bc"]),
        "plain": ("é", b"x\xff", None, 2**70, True),
    }
    (tmp_path / "c.pickle").write_bytes(pickle.dumps(value, protocol=protocol))
    read = read_plain_pickle(tmp_path / "c.pickle")
    assert read["plain"] == value["plain"] and read["scalar"] == 1.5
    for key in ("f", "big", "none", "text"):
        np.testing.assert_array_equal(read[key], value[key])


def test_a_small_file_cannot_name_billions_of_values(tmp_path: Path) -> None:
    value: list[object] = []
    for _ in range(40):
        value = [value, value]
    (tmp_path / "c.pickle").write_bytes(pickle.dumps(value))
    with pytest.raises(CheckpointError, match="too many"):
        read_plain_pickle(tmp_path / "c.pickle")


@pytest.mark.parametrize("cut", [0, 1, 10, 100, 0.3, 0.9, -1])
def test_a_truncated_file_is_named(tmp_path: Path, cut: float) -> None:
    path = saved(tmp_path / "c.pickle", random_state(TINY))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * cut) if isinstance(cut, float) else cut])
    with pytest.raises(CheckpointError, match=r"c\.pickle is damaged or not a checkpoint"):
        load_checkpoint(path)


def test_flipped_bytes_never_escape_as_another_error(tmp_path: Path) -> None:
    path = saved(tmp_path / "c.pickle", random_state(TINY, stage=1))
    content, rng = path.read_bytes(), np.random.default_rng(0)
    read = 0
    for _ in range(300):
        broken = bytearray(content)
        for place in rng.integers(0, len(content), 4):
            broken[place] ^= int(rng.integers(1, 256))
        path.write_bytes(broken)
        try:
            load_checkpoint(path)
            read += 1  # a changed number inside an array cannot be noticed
        except CheckpointError:
            pass
    assert 0 < read < 300


def test_a_missing_file_and_another_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no checkpoint at"):
        load_checkpoint(tmp_path / "none.pickle")
    (tmp_path / "x.pickle").write_bytes(pickle.dumps({"vShapeCoeff": np.zeros((1, 3))}))
    with pytest.raises(CheckpointError, match="vAlbedoCoeff"):
        load_checkpoint(tmp_path / "x.pickle")
    with pytest.raises(CheckpointError, match="cannot|Cannot"):
        load_checkpoint(tmp_path)


def test_other_models_sizes_and_photos_are_refused(tmp_path: Path) -> None:
    state = random_state(TINY, 2)
    checkpoint = load_checkpoint(saved(tmp_path / "c.pickle", state))
    with pytest.raises(CheckpointError, match="vShapeCoeff has 4 coefficients, the model 6.*trimPca"):
        restore_state(checkpoint, tiny_model(shape=6), records(2), (96, 96))
    with pytest.raises(CheckpointError, match=r"was made with the face model tiny .* not with other"):
        restore_state(checkpoint, tiny_model(name="other"), records(2), (96, 96))
    with pytest.raises(CheckpointError, match=r"2 photo\(s\), but 3"):
        restore_state(checkpoint, TINY, records(3), (96, 96))
    with pytest.raises(CheckpointError, match="photo of 200 x 160 pixels, but photo 0 .* 300 x 160"):
        restore_state(checkpoint, TINY, records(2, (300, 160)), (96, 96))
    with pytest.raises(CheckpointError, match="textureResolution = 16"):
        restore_state(checkpoint, TINY, records(2), (96, 96), texture_resolution=32)
    with pytest.raises(CheckpointError, match="without sharedIdentity"):
        restore_state(checkpoint, TINY, records(2), (96, 96), shared=True)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("vRotation", np.zeros((1, 4), np.float32), "vRotation has the shape"),
        ("vShapeCoeff", np.full((1, 4), np.nan, np.float32), "not numbers"),
        ("vShCoeffs", np.zeros((1, 80, 3), np.float32), "vShCoeffs has the shape"),
        ("vExpCoeff", np.zeros((2, 3), np.float32), "for 2 photos"),
        ("vEnhancedDiffuse", np.zeros((1, 8, 8, 3), np.float32), "differ in size"),
        ("screenWidth", 0, "size of the fitted picture"),
        ("vFocals", "x", "not an array"),
    ],
)
def test_wrong_content_is_named(tmp_path: Path, key: str, value: object, message: str) -> None:
    content = pickle.loads(saved(tmp_path / "c.pickle", random_state(TINY)).read_bytes())
    content[key] = value
    (tmp_path / "c.pickle").write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "c.pickle")


def test_damaged_extras_are_refused(tmp_path: Path) -> None:
    good = pickle.loads(saved(tmp_path / "c.pickle", random_state(TINY)).read_bytes())
    for name, value in [
        ("environment", np.zeros((1, 128, 2))),
        ("gloss", np.zeros((2,), np.float32)),
        ("K", "x"),
        ("photos", [{"name": "x"}]),
        ("stage", 9),
        ("schema", 99),
        ("seed", None),
    ]:
        content = {**good, "nextgenface": {**good["nextgenface"], name: value}}
        (tmp_path / "c.pickle").write_bytes(pickle.dumps(content))
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path / "c.pickle")


def foreign(tmp_path: Path, state: FaceState, sh: np.ndarray) -> Path:
    """A checkpoint as the reference writes it: no key of ours, whole photo, its own light."""
    content = pickle.loads(saved(tmp_path / "own.pickle", state).read_bytes())
    del content["nextgenface"]
    content.update(vShCoeffs=sh.astype(np.float32), screenWidth=100, screenHeight=80)
    path = tmp_path / "foreign.pickle"
    path.write_bytes(pickle.dumps(content, protocol=2))
    return path


def test_a_foreign_checkpoint_keeps_its_camera_and_light(tmp_path: Path) -> None:
    state = replace(random_state(TINY, stage=2), displacement=None)
    # The reference's start: brighter from the photo's left (research on its convention: value 0 just right of
    # the
    # axis behind the camera, 0.385 just left of it).
    sh = np.zeros((1, 81, 3))
    sh[0, 0], sh[0, 2] = 0.5, -0.5
    restored = restore_state(load_checkpoint(foreign(tmp_path, state, sh)), TINY, records(), (96, 96))
    # Its camera: focal length in pixels of the whole photo at half size, centre in the middle.
    x0, y0, scale = records()[0].crop
    assert float(restored.focals[0]) == pytest.approx(float(state.focals[0]) * 2 * scale, rel=1e-6)
    np.testing.assert_allclose(restored.principal[0], [(100 - x0) * scale, (80 - y0) * scale], rtol=1e-6)
    centres = lobe_centres()
    light = restored.environment[0, :, 0]
    equator = centres[:, 1].abs() < 0.5
    left, right = equator & (centres[:, 0] < -0.3), equator & (centres[:, 0] > 0.3)
    assert light[left].mean() > 2 * light[right].mean()
    assert float(light.max()) == pytest.approx(0.385, abs=0.02) and float(light.min()) == pytest.approx(
        0.0, abs=0.02
    )
    # and our own SH describe that same light
    assert float(restored.sh[0, 0, 0]) == pytest.approx(float(light.mean()) * np.sqrt(4 * np.pi), rel=0.03)


def test_a_foreign_checkpoint_of_another_shape_of_photo_is_refused(tmp_path: Path) -> None:
    path = foreign(tmp_path, random_state(TINY), np.zeros((1, 81, 3)))
    with pytest.raises(CheckpointError, match="100 x 80"):
        restore_state(load_checkpoint(path), TINY, records(1, (200, 200)), (96, 96))


def test_a_read_only_folder_is_an_error_for_people(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="choose another output folder"):
        saved(tmp_path / "file" / "c.pickle", random_state(TINY))


WRITES_FOREVER = """
import sys
from pathlib import Path
from nextgenface.checkpoint import save_checkpoint
from tests.solver.tiny import random_state, records, tiny_model
states = [random_state(tiny_model(), texture=256, seed=s) for s in range(2)]
path = Path(sys.argv[1])
print("ready", flush=True)
while True:
    for s in states:
        save_checkpoint(path, s, records(), config={}, engine="deferred")
        print("written", flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "c.pickle"
    path.parent.mkdir()
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "solver"), str(root)])}
    child = subprocess.Popen(
        [sys.executable, "-c", WRITES_FOREVER, path], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert child.stdout is not None
    assert child.stdout.readline().strip() == "ready"
    assert child.stdout.readline().strip() == "written"
    time.sleep(0.0137)
    child.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    child.wait()
    child.stdout.close()
    assert load_checkpoint(path).photo_count == 1
    # What the killed run left half-written is cleared away by the next one.
    from nextgenface.files import TEMPORARY_MARK, prepare_output

    (path.parent / f"{TEMPORARY_MARK}0-c.pickle").write_bytes(b"half")
    prepare_output(tmp_path)
    assert sorted(p.name for p in path.parent.iterdir()) == ["c.pickle"]
