"""Data sets of calibrated pictures: every format there and back, wrong conventions named, damage refused."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nextgenface.colour import srgb_to_linear
from nextgenface.errors import NextGenFaceError
from nextgenface.images import write_exr, write_png
from nextgenface.multiview.datasets import (
    DataSetError,
    Frame,
    check,
    colmap,
    conventions,
    detect,
    fitted,
    idr,
    nds,
    neural_texgen,
    read_views,
    transforms,
)
from nextgenface.multiview.datasets.neural_texgen import UvView
from nextgenface.views import Bounds, Camera, View, ViewSet
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

WIDTH, HEIGHT = 24, 16


def camera(azimuth: float, elevation: float = 0.0) -> Camera:
    """500 mm from the origin, looking at it."""
    turn = Rotation.from_euler("yx", (-azimuth, elevation), degrees=True).as_matrix()
    R = np.diag([1.0, -1, -1]) @ turn
    K = np.array([[60.0, 0, 11.5], [0, 58, 8.25], [0, 0, 1]])
    return Camera(K, R, np.array([1.0, 2.0, 500.0]), WIDTH, HEIGHT)


@pytest.fixture(scope="module")
def views() -> ViewSet:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (3, HEIGHT, WIDTH, 3)) / 255
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    mask[3:14, 4:20] = 1
    made = tuple(
        View(f"v{i}", srgb_to_linear(codes[i].astype(np.float32)), camera(*angles), mask)
        for i, angles in enumerate(((-40.0, 20.0), (25.0, -15.0), (60.0, 30.0)))
    )
    return ViewSet(made, Bounds(np.array([-50.0, -60, -40]), np.array([50.0, 60, 40])))


def assert_same(found: ViewSet, expected: ViewSet) -> None:
    assert found.names == expected.names
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.camera.K, b.camera.K, atol=1e-9)
        np.testing.assert_allclose(a.camera.R, b.camera.R, atol=1e-9)
        np.testing.assert_allclose(a.camera.t, b.camera.t, atol=1e-7)
        np.testing.assert_allclose(a.image, b.image, atol=1e-6)
        assert a.mask is not None and b.mask is not None
        np.testing.assert_array_equal(a.mask, b.mask)


WRITERS: dict[str, tuple[str, Callable[[Path, ViewSet], None]]] = {
    "nds": ("nds", nds.write),
    "idr": ("idr", idr.write),
    "transforms": ("transforms", transforms.write),
    "colmap text": ("colmap", lambda folder, views: colmap.write(folder, views, binary=False)),
    "colmap binary": ("colmap", colmap.write),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_is_recognised_and_comes_back(name: str, views: ViewSet, tmp_path: Path) -> None:
    kind, write = WRITERS[name]
    write(tmp_path, views)
    assert detect(tmp_path) == kind
    found = read_views(tmp_path)
    assert_same(found, views)
    if kind == "nds":
        assert found.bounds is not None and views.bounds is not None
        np.testing.assert_array_equal(found.bounds.low, views.bounds.low)
        assert_same(read_views(tmp_path / "views"), views)
    if kind == "idr":  # a cube there
        assert found.bounds is not None
        np.testing.assert_allclose(found.bounds.size, 120)
    half = read_views(tmp_path, image_scale=2)
    assert half[0].image.shape == (8, 12, 3)
    np.testing.assert_allclose(half[0].camera.K[:2], views[0].camera.K[:2] / 2, atol=1e-9)
    point = np.array([[20.0, -30, 10]])
    np.testing.assert_allclose(half[2].camera.project(point)[0], views[2].camera.project(point)[0] / 2)


def test_jpegs_and_separate_masks(views: ViewSet, tmp_path: Path) -> None:
    from PIL import Image

    nds.write(tmp_path, views)
    folder = tmp_path / "views"
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), 128, np.uint8)).save(folder / "v0.jpg", quality=95)
    (folder / "v0.png").unlink()
    assert read_views(tmp_path)[0].mask is None
    mask = np.zeros((HEIGHT, WIDTH))
    mask[5:9] = 1
    (tmp_path / "masks").mkdir()
    write_png(tmp_path / "masks" / "v0.png", mask, srgb=False)
    write_png(folder / "v1_mask.png", 1 - mask, srgb=False)  # beats the alpha of v1.png
    found = read_views(tmp_path)
    assert found.names == ["v0", "v1", "v2"]
    for view, expected in zip(found, (mask, 1 - mask), strict=False):
        assert view.mask is not None
        np.testing.assert_array_equal(view.mask, expected)
    write_png(folder / "v2_mask.png", mask[:-1], srgb=False)
    with pytest.raises(NextGenFaceError, match="v2.*mask"):
        read_views(tmp_path)


def test_instant_ngp_s_synthetic_scenes(views: ViewSet, tmp_path: Path) -> None:
    """One angle for all, no sizes, paths without a suffix, frames in any order."""
    transforms.write(tmp_path, views)
    path = tmp_path / "transforms.json"
    data = json.loads(path.read_text())
    frames = [
        {"file_path": f["file_path"][:-4], "transform_matrix": f["transform_matrix"]} for f in data["frames"]
    ]
    path.write_text(json.dumps({"camera_angle_x": 2 * np.arctan(0.5 * WIDTH / 60), "frames": frames[::-1]}))
    found = read_views(path)
    assert found.names == views.names
    np.testing.assert_allclose(found[0].camera.K, [[60, 0, 12], [0, 60, 8], [0, 0, 1]])
    np.testing.assert_allclose(found[1].camera.t, views[1].camera.t, atol=1e-9)
    (tmp_path / "images" / "v1.png").unlink()
    with pytest.raises(DataSetError, match="v1"):
        read_views(tmp_path)


def grid_picture(size: int, lens: NDArray[np.float64], K: NDArray[np.float64]) -> NDArray[np.float32]:
    """What a lens with k1, k2 sees of bars that are straight in the world: brightness by world x and y."""
    y, x = np.mgrid[:size, :size] + 0.5
    seen = np.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1]], -1)
    straight = seen.copy()
    for _ in range(20):  # the distortion moves straight to seen; fixed point
        r2 = (straight**2).sum(-1, keepdims=True)
        straight = seen / (1 + lens[0] * r2 + lens[1] * r2**2)
    colour = np.stack(
        [0.5 + straight[..., 0] / 2, 0.5 + straight[..., 1] / 2, np.full((size, size), 0.5)], -1
    )
    return colour.astype(np.float32)


def test_distorting_lenses_are_straightened(tmp_path: Path) -> None:
    size, lens = 96, np.array([-0.12, 0.02])
    K = np.array([[80.0, 0, 49.3], [0, 80, 46.9], [0, 0, 1]])
    plain = ViewSet((View("a", grid_picture(size, lens, K), Camera(K, np.eye(3), np.zeros(3), size, size)),))
    colmap.write(tmp_path, plain, binary=False)
    cameras = tmp_path / "sparse" / "0" / "cameras.txt"
    cameras.write_text(f"1 RADIAL {size} {size} 80 49.3 46.9 {lens[0]} {lens[1]}\n")
    found = read_views(tmp_path)[0]
    expected = grid_picture(size, np.zeros(2), K)
    inside = np.s_[12:-12, 12:-12]
    assert np.abs(found.image - expected)[inside].max() < 5e-3  # 8 bits
    assert np.abs(plain[0].image - expected)[inside].max() > 0.01
    cameras.write_text(f"1 OPENCV_FISHEYE {size} {size} 80 80 49.3 46.9 0 0 0 0\n")
    with pytest.raises(DataSetError, match="OPENCV_FISHEYE"):
        read_views(tmp_path)


def test_colmap_points_give_the_box_in_both_forms(views: ViewSet, tmp_path: Path) -> None:
    points = np.random.default_rng(1).uniform(-50, 50, (400, 3))
    points[:3] = 9000.0  # stray ones
    for binary in (True, False):
        folder = tmp_path / str(binary)
        colmap.write(folder, views, binary=binary)
        place = folder / "sparse" / "0"
        if binary:
            rows = [struct.pack("<Q", len(points))]
            for i, p in enumerate(points):
                rows.append(struct.pack("<Q3d3Bd", i, *p, 1, 2, 3, 0.5) + struct.pack("<Q4i", 2, 1, 0, 2, 1))
            (place / "points3D.bin").write_bytes(b"".join(rows))
            images = (place / "images.bin").read_bytes()
            # a picture with one observed point: the reader has to step over it
            first = images.index(b"v0.png\0") + 7
            observed = struct.pack("<Q2dq", 1, 3.0, 4.0, 7)
            (place / "images.bin").write_bytes(images[:first] + observed + images[first + 8 :])
        else:
            lines = [f"{i} {p[0]} {p[1]} {p[2]} 1 2 3 0.5 1 0 2 1" for i, p in enumerate(points)]
            (place / "points3D.txt").write_text("# points\n" + "\n".join(lines))
        found = read_views(folder)
        assert found.names == views.names and found.bounds is not None
        assert (np.abs(np.stack([found.bounds.low, found.bounds.high])) < 75).all()
        assert (found.bounds.size > 95).all()


def test_a_projection_of_any_scale_and_sign_is_taken_apart() -> None:
    seen = camera(33.0)
    projection = seen.K @ np.concatenate([seen.R, seen.t[:, None]], 1)
    for factor in (1.0, 0.3, -2.0):
        for found, expected in zip(idr.decompose(factor * projection), (seen.K, seen.R, seen.t), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-9)


def test_photos_of_our_own_results(views: ViewSet, tmp_path: Path) -> None:
    entries = []
    for view in views:
        write_png(tmp_path / f"{view.name}.png", view.image)
        seen = view.camera
        place = {"K": seen.K.tolist(), "R": seen.R.tolist(), "t": seen.t.tolist()}
        size = {"width": WIDTH, "height": HEIGHT}
        entries.append({"name": view.name, **size, **place, "files": {"photo": f"{view.name}.png"}})
    np.savez(tmp_path / "geometry.npz", neutral_vertices=np.array([[0.0, 0, 0], [1, 2, 3]]))
    result = tmp_path / "result.json"
    result.write_text(json.dumps({"geometry": "geometry.npz", "photos": entries}))
    assert detect(tmp_path) == detect(result) == "fitted"
    found = fitted.read(tmp_path)
    assert found.names == views.names and found.bounds is not None
    np.testing.assert_array_equal(found[1].camera.R, views[1].camera.R)
    result.write_text(json.dumps({"photos": [{**entries[0], "files": {"photo": None}}]}))
    with pytest.raises(DataSetError, match="no photos"):
        fitted.read(tmp_path)


def test_uv_maps_there_and_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    uv = rng.uniform(0, 1, (8, 12, 2)).astype(np.float32)
    uv[0, 0], uv[0, 1] = (0, 1), (1, 0)  # the corner (0, 0) of the file would mean "nothing"
    valid = rng.uniform(size=(8, 12)) > 0.4
    valid[0, :2] = True
    image = np.full((8, 12, 3), 0.25, np.float32)
    assert neural_texgen.write(tmp_path, [UvView("left", image, uv, valid)]) == {"left": "0"}
    (found,), notes = neural_texgen.read(tmp_path)
    assert not notes and np.array_equal(found.valid, valid)
    np.testing.assert_allclose(found.uv[valid], uv[valid], atol=2e-6)
    # larger photos are brought to the map's size, as the format says, and that is said
    write_png(tmp_path / "images" / "0.png", np.full((16, 24, 3), 0.25))
    (found,), notes = neural_texgen.read(tmp_path)
    assert found.image.shape == (8, 12, 3) and "resized" in notes[0]
    np.testing.assert_allclose(found.image, 0.25, atol=2e-3)
    bad = np.zeros((8, 12, 3))
    bad[0, :4, 0] = (0.5, -0.1, 1.2, np.nan)
    write_exr(tmp_path / "uvs" / "0.exr", bad)
    (found,), _ = neural_texgen.read(tmp_path)
    assert found.valid.sum() == 1 and found.valid[0, 0]
    with pytest.raises(DataSetError, match="only the method texture"):
        read_views(tmp_path)


def test_units_and_axes_become_model_space(views: ViewSet) -> None:
    frame = Frame("m", "z")
    points = np.random.default_rng(0).uniform(-0.05, 0.05, (20, 3))
    turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # model space to z up
    other = tuple(
        replace(v, camera=replace(v.camera, R=v.camera.R @ turn.T, t=v.camera.t / 1000)) for v in views
    )
    moved = frame.views(ViewSet(other, Bounds.around(points)))
    for before, after, original in zip(other, moved, views, strict=True):
        np.testing.assert_allclose(after.camera.R, original.camera.R, atol=1e-12)
        np.testing.assert_allclose(after.camera.t, original.camera.t)
        np.testing.assert_allclose(
            before.camera.project(points)[0], after.camera.project(frame.points(points))[0]
        )
    assert moved.bounds is not None
    np.testing.assert_allclose(moved.bounds.centre, frame.points(Bounds.around(points).centre))


@pytest.mark.parametrize("number", range(len(conventions.MISTAKES)))
def test_a_wrong_convention_is_named(number: int, views: ViewSet) -> None:
    assert views.bounds is not None
    points = views.bounds.corners * 0.5
    assert check(views, points) == []
    explanation, change = list(conventions.MISTAKES.items())[number]
    undo = {0: 0, 1: 1, 2: None, 3: None}[number]
    wrong = []
    for view in views:
        seen = view.camera
        if undo is not None:  # these changes are their own inverse
            seen = change(seen)
        elif number == 2:
            seen = conventions._inverted(conventions._flipped(seen))
        else:
            seen = replace(seen, t=seen.centre)
        np.testing.assert_allclose(change(seen).R, view.camera.R, atol=1e-12)
        np.testing.assert_allclose(change(seen).t, view.camera.t, atol=1e-9)
        wrong.append(replace(view, camera=seen))
    with pytest.raises(DataSetError, match="needed") as caught:
        check(ViewSet(tuple(wrong)), points)
    assert explanation in str(caught.value)


def test_views_that_miss_the_object_are_named(views: ViewSet) -> None:
    assert views.bounds is not None
    away = replace(views[1].camera, t=np.array([4000.0, 0, 500]))
    some = ViewSet((views[0], replace(views[1], camera=away), views[2]))
    assert check(some, views.bounds.corners * 0.5) == ["v1"]
    with pytest.raises(DataSetError, match="one space"):
        check(views, views.bounds.corners * 0.5 + (90000.0, 0, 0))
    empty = tuple(
        replace(v, mask=np.tile(np.arange(WIDTH) < 2, (HEIGHT, 1)).astype(np.float32)) for v in views
    )
    with pytest.raises(DataSetError, match="mask"):
        check(ViewSet(empty), np.zeros((5, 3)))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: (p / "v1_r.txt").unlink(), "v1_r.txt is missing"),
        (lambda p: (p / "v1_k.txt").write_text("1 2 3"), "3 x 3"),
        (lambda p: (p / "v1_t.txt").write_text("1 nan 3"), "finite"),
        (lambda p: (p / "v1_t.txt").write_text("a b c"), "v1_t.txt"),
        (lambda p: (p.parent / "bbox.txt").write_text("1 1 1\n0 0 0"), "minimum"),
        (lambda p: (p / "v1.png").write_bytes(b"nothing"), "v1.png"),
        (lambda p: shutil.copy(p / "v1.png", p / "v1.jpg"), "several views"),
    ],
)
def test_damaged_folders_are_refused(
    spoil: Callable[[Path], None], words: str, views: ViewSet, tmp_path: Path
) -> None:
    nds.write(tmp_path, views)
    spoil(tmp_path / "views")
    with pytest.raises(NextGenFaceError, match=words):
        read_views(tmp_path)


def test_sizes_must_agree(views: ViewSet, tmp_path: Path) -> None:
    transforms.write(tmp_path, views)
    write_png(tmp_path / "images" / "v1.png", np.zeros((HEIGHT + 2, WIDTH, 3)))
    with pytest.raises(NextGenFaceError, match="v1.*24 x 18"):
        read_views(tmp_path)


def test_what_is_no_data_set_says_what_would_be(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DataSetError):
            read_views(path)
    with pytest.raises(DataSetError, match="choose one of nds"):
        read_views(tmp_path, format="other")
