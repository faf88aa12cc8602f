"""Detectors on a real portrait: right place, any size, turned photos, several faces, and FAN's arithmetic."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from nextgenface.config import Config
from nextgenface.errors import ConfigError, EnvironmentProblem, NoFaceError
from nextgenface.landmarks import Detector, Landmarks, create_detector, find_landmarker, select_face, tables
from nextgenface.landmarks.fan import FanDetector, decode_heat_maps, load_network
from nextgenface.landmarks.mediapipe_mesh import FaceMeshDetector
from nextgenface.paths import asset
from nextgenface.photos import load_photo
from numpy.typing import NDArray
from PIL import ExifTags, Image

skimage_data = pytest.importorskip("skimage.data")

SHARED = Path(os.environ.get("NEXTGENFACE_SHARED", Path(__file__).parents[3] / "shared"))
TASK = SHARED / "models" / "face_landmarker.task"

# Places on the astronaut portrait, read off an enlarged picture by eye.
RIGHT_IRIS, LEFT_IRIS, NOSE_TIP, CHIN = (203.5, 101), (247, 103.5), (223, 127), (222, 177)


@pytest.fixture(scope="module")
def astronaut() -> NDArray[np.uint8]:
    return np.ascontiguousarray(skimage_data.astronaut())


def detectors() -> list[str]:
    return ["mesh", "task"]


def skip_without_face_mesh() -> None:
    """mediapipe 1.x, the one for Python 3.13, has no networks inside."""
    if not hasattr(pytest.importorskip("mediapipe"), "solutions"):
        pytest.skip("this mediapipe comes without its face mesh")


@pytest.fixture(scope="module", params=detectors())
def detector(request: pytest.FixtureRequest) -> Iterator[Detector]:
    config = Config()
    if request.param == "task":
        if not TASK.is_file():
            pytest.skip(f"no {TASK}")
        config.landmarker = str(TASK)
        created = create_detector(config)
    else:
        skip_without_face_mesh()
        created = FaceMeshDetector()
    yield created
    created.close()


def point(face: Landmarks, index: int) -> NDArray[np.float64]:
    return face.points[face.indices == index][0]


def test_landmarks_lie_on_the_face(detector: Detector, astronaut: NDArray[np.uint8]) -> None:
    (face,) = detector.detect(astronaut)
    assert face.scheme == "mediapipe" and face.points.shape == (468, 2)
    assert face.irises is not None
    np.testing.assert_allclose(face.irises[0], RIGHT_IRIS, atol=2)
    np.testing.assert_allclose(face.irises[5], LEFT_IRIS, atol=2)
    np.testing.assert_allclose(point(face, 4), NOSE_TIP, atol=4)
    np.testing.assert_allclose(point(face, 152), CHIN, atol=4)
    # Depth: the nose is nearer than the ears.
    assert face.depth is not None
    assert face.depth[1] < face.depth[[234, 454]].min() - 20
    assert abs(face.roll) < 10


def test_mirrored_picture_gives_mirrored_landmarks(detector: Detector, astronaut: NDArray[np.uint8]) -> None:
    (face,) = detector.detect(astronaut)
    (other,) = detector.detect(np.ascontiguousarray(astronaut[:, ::-1]))
    back = other.points[tables.mediapipe_mirror()] * (-1, 1) + (astronaut.shape[1], 0)
    # Half a pixel of difference everywhere would mean that the pixel convention is wrong.
    assert np.abs((back - face.points).mean(axis=0)).max() < 0.2
    assert np.linalg.norm(back - face.points, axis=1).mean() < 0.004 * face.size + 0.1


def test_small_face_in_a_large_photo(detector: Detector, astronaut: NDArray[np.uint8]) -> None:
    canvas = np.full((3000, 4000, 3), (90, 110, 120), np.uint8)
    size = 140  # of the square; the face in it is 60 pixels high
    small = np.asarray(
        Image.fromarray(astronaut[:256, 96:352]).resize((size, size), Image.Resampling.LANCZOS)
    )
    canvas[2000 : 2000 + size, 3100 : 3100 + size] = small
    (face,) = detector.detect(canvas)
    assert 45 < face.size < 70
    scale = size / 256
    expected = (np.array(NOSE_TIP) - (96, 0)) * scale + (3100, 2000)
    np.testing.assert_allclose(point(face, 4), expected, atol=4)


def test_largest_face_comes_first_and_others_can_be_picked(astronaut: NDArray[np.uint8]) -> None:
    canvas = np.full((700, 1200, 3), 128, np.uint8)
    square = Image.fromarray(astronaut[:256, 96:352])
    for x, y, size in ((40, 30, 200), (700, 100, 420), (330, 400, 280)):
        canvas[y : y + size, x : x + size] = np.asarray(square.resize((size, size)))
    config = Config()
    config.face = 3
    created = create_detector(config)
    faces = created.detect(canvas)
    created.close()
    assert len(faces) == 3
    assert [round(face.box[0] / 300) for face in faces] == [3, 1, 0]
    for number, index in ((0, 0), (1, 0), (2, 1), (3, 2)):
        assert select_face(faces, number, "group.png", 1200, 700) is faces[index]
    with pytest.raises(NoFaceError, match=r"only 3 faces were found in group\.png; face 4"):
        select_face(faces, 4, "group.png", 1200, 700)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_photo_stored_sideways(
    detector: Detector, astronaut: NDArray[np.uint8], tmp_path: Path, orientation: int
) -> None:
    turns = {3: 2, 6: 1, 8: -1}[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(np.ascontiguousarray(np.rot90(astronaut, turns))).save(tmp_path / "a.png", exif=exif)
    photo = load_photo(tmp_path / "a.png")
    (face,) = detector.detect(photo.srgb8())
    np.testing.assert_allclose(point(face, 4), NOSE_TIP, atol=4)


@pytest.mark.parametrize("name", ["chelsea", "coffee", "brick", "immunohistochemistry"])
def test_no_face_in_pictures_without_one(detector: Detector, name: str) -> None:
    picture = getattr(skimage_data, name)()
    picture = np.ascontiguousarray(picture if picture.ndim == 3 else np.dstack([picture] * 3))
    faces = detector.detect(picture)
    assert faces == []
    with pytest.raises(NoFaceError, match=name):
        select_face(faces, 0, name, picture.shape[1], picture.shape[0])


def test_face_cut_by_the_border(
    detector: Detector, astronaut: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    for cut in (astronaut[:, 210:], astronaut[:, :225], astronaut[110:], astronaut[:145]):
        with pytest.raises(NoFaceError, match=r"cut\.png"):
            select_face(detector.detect(np.ascontiguousarray(cut)), 0, "cut.png", cut.shape[1], cut.shape[0])
    cut = np.ascontiguousarray(astronaut[:, 188:])
    face = select_face(detector.detect(cut), 0, "near.png", cut.shape[1], cut.shape[0])
    assert "near.png: the face is cut by the border" in caplog.text
    outside = face.points[:, 0] < 0
    assert 0 < outside.sum() < 80
    assert (face.weights[outside] == 0).all() and (face.weights[~outside] == 1).all()


def test_nothing_is_written_to_standard_error(
    astronaut: NDArray[np.uint8], capfd: pytest.CaptureFixture[str]
) -> None:
    skip_without_face_mesh()
    capfd.readouterr()
    created = FaceMeshDetector()
    created.detect(astronaut)
    created.close()
    assert capfd.readouterr().err == ""


def test_blendshapes_of_the_task_bundle(astronaut: NDArray[np.uint8]) -> None:
    if not TASK.is_file():
        pytest.skip(f"no {TASK}")
    config = Config()
    config.landmarker = str(TASK)
    created = create_detector(config)
    (face,) = created.detect(astronaut)
    created.close()
    assert face.blendshapes is not None and len(face.blendshapes) == 52
    # She smiles and does not blink.
    assert min(face.blendshapes["mouthSmileLeft"], face.blendshapes["mouthSmileRight"]) > 0.5
    assert max(face.blendshapes["eyeBlinkLeft"], face.blendshapes["eyeBlinkRight"]) < 0.4


def test_where_the_task_bundle_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXTGENFACE_HOME", str(tmp_path))
    monkeypatch.delenv("NEXTGENFACE_LANDMARKER", raising=False)
    config = Config()
    assert find_landmarker(config) is None
    (tmp_path / "face_landmarker.task").touch()
    assert find_landmarker(config) == tmp_path / "face_landmarker.task"
    monkeypatch.setenv("NEXTGENFACE_LANDMARKER", str(tmp_path / "gone.task"))
    with pytest.raises(ConfigError, match=r"NEXTGENFACE_LANDMARKER.*gone\.task"):
        find_landmarker(config)
    (tmp_path / "mine.task").write_bytes(b"not a bundle")
    config.landmarker = str(tmp_path / "mine.task")
    assert find_landmarker(config) == tmp_path / "mine.task"
    with pytest.raises(EnvironmentProblem, match=r"mine\.task"):
        create_detector(config)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "face_alignment", None)
    config = Config()
    config.lamdmarksDetectorType = "fan"
    with pytest.raises(EnvironmentProblem, match=r"pip install nextgenface\[fan\]"):
        create_detector(config)
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    config.lamdmarksDetectorType = "mediapipe"
    config.landmarker = ""
    monkeypatch.delenv("NEXTGENFACE_LANDMARKER", raising=False)
    with pytest.raises(EnvironmentProblem, match="pip install mediapipe"):
        create_detector(config)


def test_tables() -> None:
    assert len(tables.GUIDE62_IN_IBUG68) == 62 == len(set(tables.GUIDE62_IN_IBUG68.tolist()))
    assert set(range(68)) - set(tables.GUIDE62_IN_IBUG68.tolist()) == {4, 5, 6, 10, 11, 12}
    mirror = tables.mediapipe_mirror()
    np.testing.assert_array_equal(mirror[mirror], np.arange(468))
    # Both numberings know left and right: their mirror tables agree wherever they name the same point.
    order, ibug = np.loadtxt(asset("landmarks/ibug68.txt"), dtype=np.int64, unpack=True)
    np.testing.assert_array_equal(order, np.arange(68))
    np.testing.assert_array_equal(mirror[ibug], ibug[tables.IBUG68_MIRROR])


class Blobs(torch.nn.Module):
    """A stand-in network: finds the 68 grey levels that the test painted, one heat map each."""

    levels = torch.linspace(0.3, 0.97, 68)

    def forward(self, picture: torch.Tensor) -> list[torch.Tensor]:
        grey, strength = picture[:, :1], picture[:, 1:2]
        likeness = strength * torch.exp(-(((grey - self.levels.view(1, 68, 1, 1)) / 0.003) ** 2))
        maps = torch.nn.functional.avg_pool2d(likeness, 4)
        return [maps * 0, maps]


def blob_picture() -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A picture with 68 squares of different grey, and their centres; the canvas is 1000 x 900."""
    centres = np.array([(150 + 50.0 * (i % 9), 200 + 50.0 * (i // 9)) for i in range(68)])
    picture = np.zeros((900, 1000, 3), np.uint8)
    for (x, y), level in zip(centres.astype(int), Blobs.levels, strict=True):
        picture[y - 12 : y + 12, x - 12 : x + 12] = (round(float(level) * 255), 255, 0)
    return picture, centres


def test_fan_maps_heat_to_the_photo() -> None:
    picture, centres = blob_picture()
    box = np.array([[120.0, 180.0, 600.0, 640.0, 0.99]])

    class WithSides(Blobs):
        """In the mirrored picture (every second call) left and right change names, as a face's would."""

        calls = 0

        def forward(self, batch: torch.Tensor) -> list[torch.Tensor]:
            self.calls += 1
            first, last = super().forward(batch)
            return [first, last if self.calls % 2 else last[:, tables.IBUG68_MIRROR]]

    created = FanDetector(WithSides(), lambda _: box)
    (face,) = created.detect(picture)
    assert face.scheme == "ibug68" and face.points.shape == (62, 2)
    np.testing.assert_array_equal(face.indices, tables.GUIDE62_IN_IBUG68)
    cell = 200 * (480 + 460) / 195 / 64
    error = np.linalg.norm(face.points - centres[face.indices], axis=1)
    assert error.max() < 0.6 * cell
    # The mirrored half would pull everything to one side if it were off by a cell.
    assert np.abs((face.points - centres[face.indices]).mean(axis=0)).max() < 0.1 * cell
    assert (face.weights > 0.1).all() and (face.weights <= 1).all()
    assert created.detect(picture)[0].points.shape == (62, 2)
    assert FanDetector(Blobs(), lambda _: np.zeros((0, 5))).detect(picture) == []


def test_fan_orders_faces_by_size() -> None:
    picture, _ = blob_picture()
    boxes = np.array([[300.0, 300, 400, 400, 1], [120, 180, 600, 640, 1]])
    faces = FanDetector(Blobs(), lambda _: boxes).detect(picture)
    assert len(faces) == 2 and faces[0].size > faces[1].size


def test_heat_map_peaks_between_cells() -> None:
    y, x = np.mgrid[0:64, 0:64] + 0.5
    places = np.array([(10.5, 20.5), (30.8, 5.3), (0.5, 63.5)])
    heat = np.exp(-((x - places[:, :1, None]) ** 2 + (y - places[:, 1:, None]) ** 2) / 2)
    points, peaks = decode_heat_maps(heat)
    np.testing.assert_allclose(points[:2], places[:2], atol=0.12)
    np.testing.assert_allclose(points[2], places[2], atol=0.6)
    assert (peaks > 0.8).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fan_weights_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Small(torch.nn.Module):
        def __init__(self, size: int = 4) -> None:
            super().__init__()
            self.layer = torch.nn.Conv2d(3, 68, 4, stride=4)

        def forward(self, picture: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.relu(self.layer(picture))

    network = Small()
    torch.jit.script(network).save(str(tmp_path / "2DFAN4 script.pt"))
    loaded = load_network(tmp_path / "2DFAN4 script.pt", "cpu")
    picture = torch.rand(1, 3, 256, 256)
    torch.testing.assert_close(loaded(picture), network(picture))

    import types

    fake = types.ModuleType("face_alignment")
    fake.models = types.SimpleNamespace(FAN=Small)  # type: ignore[attr-defined]
    fake.detection = types.ModuleType("face_alignment.detection")  # type: ignore[attr-defined]
    fake.detection.sfd = types.ModuleType("face_alignment.detection.sfd")

    class Finder:
        def __init__(self, device: str, path_to_detector: str | None, verbose: bool) -> None:
            assert path_to_detector is not None and path_to_detector.endswith("s3fd.pth")

        def detect_from_image(self, picture: NDArray[np.uint8]) -> list[list[float]]:
            return [[10.0, 10.0, 110.0, 110.0, 0.9]]

    fake.detection.sfd.FaceDetector = Finder
    for name, module in (("", fake), (".detection", fake.detection), (".detection.sfd", fake.detection.sfd)):
        monkeypatch.setitem(sys.modules, f"face_alignment{name}", module)
    folder = tmp_path / "weights"
    folder.mkdir()
    torch.save(network.state_dict(), folder / "2DFAN4.pth")
    (folder / "s3fd.pth").touch()
    config = Config()
    config.lamdmarksDetectorType = "fan"
    config.fanWeights = str(folder)
    created = create_detector(config)
    (face,) = created.detect(np.full((128, 128, 3), 90, np.uint8))
    assert face.points.shape == (62, 2)

    config.fanWeights = str(tmp_path / "gone")
    with pytest.raises(ConfigError, match="gone"):
        create_detector(config)
    torch.save({"layer": torch.zeros(3)}, folder / "2DFAN4.pth")
    with pytest.raises(ConfigError, match="2DFAN4.pth"):
        load_network(folder / "2DFAN4.pth", "cpu")
