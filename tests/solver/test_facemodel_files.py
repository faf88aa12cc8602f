"""Face models as files: round trip, other sizes, damage, the registry and its command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from nextgenface.cli import models as command
from nextgenface.errors import ModelError
from nextgenface.facemodel import registry
from nextgenface.facemodel.hdf5 import content_hash, read_model, trim, write_model
from nextgenface.facemodel.model import FaceModel


def small_model(vertices: int = 30, shape: int = 7, expression: int = 5, albedo: int = 3) -> FaceModel:
    """A valid model of any size: a bent sheet with random orthonormal bases."""
    rng = np.random.default_rng(vertices)
    half = vertices // 2
    right = np.c_[-rng.uniform(5, 80, half), rng.uniform(-90, 90, half), rng.uniform(0, 40, half)]
    points = np.concatenate([right, right * [-1, 1, 1]]).astype(np.float32)
    mirror = np.concatenate([np.arange(half) + half, np.arange(half)])
    faces = np.array([[0, 1, 2]])
    a, b, c = points[faces[0]]
    if np.cross(b - a, c - a)[2] < 0:
        faces = faces[:, ::-1].copy()

    def basis(count: int) -> np.ndarray:
        columns = np.linalg.qr(rng.normal(size=(3 * vertices, count)))[0]
        return np.ascontiguousarray(columns.T.reshape(count, vertices, 3), dtype=np.float32)

    def variance(count: int) -> np.ndarray:
        return np.sort(rng.uniform(1, 9, count))[::-1].astype(np.float32)

    return FaceModel(
        name="small",
        hash="",
        shape_mean=points,
        shape_basis=basis(shape),
        shape_variance=variance(shape),
        expression_mean=rng.normal(size=(vertices, 3)).astype(np.float32),
        expression_basis=basis(expression),
        expression_variance=variance(expression),
        diffuse_mean=np.full((vertices, 3), 0.4, np.float32),
        diffuse_basis=basis(albedo),
        diffuse_variance=variance(albedo),
        specular_mean=np.full((vertices, 3), 0.35, np.float32),
        specular_basis=basis(albedo),
        roughness_mean=np.full(vertices, 0.5, np.float32),
        faces=faces.astype(np.int64),
        uv=rng.uniform(size=(vertices, 2)).astype(np.float32),
        mirror=mirror.astype(np.int64),
        landmarks={"mediapipe": np.array([0, 3, -1])},
        regions={"skin": np.ones(vertices, np.float32)},
        blendshape_names=("jawOpen", "eyeBlink_L"),
        blendshape_deltas=rng.normal(size=(2, vertices, 3)).astype(np.float32),
    )


@pytest.mark.parametrize("sizes", [(30, 7, 5, 3), (90, 100, 60, 81), (14, 2, 9, 4)])
def test_round_trip_of_any_size(tmp_path: Path, sizes: tuple[int, int, int, int]) -> None:
    model = small_model(*sizes)
    path = tmp_path / "Gesicht größer.h5"
    write_model(path, model, half=False)
    back = read_model([path])
    assert content_hash(back) == content_hash(model)
    assert back.blendshape_names == model.blendshape_names
    assert registry.check_model(back) == []
    assert back.hash == content_hash(model)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_half_precision_stays_orthonormal(tmp_path: Path) -> None:
    model = small_model(400, 20, 12, 9)
    path = tmp_path / "half.h5"
    write_model(path, model)
    back = read_model([path])
    assert registry.check_model(back) == []
    np.testing.assert_allclose(back.shape_basis, model.shape_basis, atol=1e-4)
    assert np.array_equal(back.shape_mean, model.shape_mean)


def test_layout_is_the_basel_one(tmp_path: Path) -> None:
    model = small_model()
    path = tmp_path / "m.h5"
    write_model(path, model, half=False)
    with h5py.File(path) as file:
        assert file["shape/model/mean"].shape == (90,)
        assert file["shape/model/pcaBasis"].shape == (90, 7)
        assert file["expression/model/pcaBasis"].shape == (90, 5)
        assert file["diffuseAlbedo/model/pcaVariance"].shape == (3,)
        assert file["specularAlbedo/model/pcaBasis"].shape == (90, 3)
        assert file["shape/representer/cells"].shape == (3, 1)
        assert file["shape/model/mean"][3] == model.shape_mean[1, 0]
        np.testing.assert_array_equal(file["shape/model/pcaBasis"][:, 2], model.shape_basis[2].reshape(-1))


def test_files_complete_each_other_and_missing_parts_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = small_model()
    whole, shape, extra = (tmp_path / name for name in ("whole.h5", "a_shape.h5", "b_extra.h5"))
    write_model(whole, model, half=False)
    with h5py.File(whole) as source, h5py.File(shape, "w") as first, h5py.File(extra, "w") as second:
        for name in ("shape", "expression"):
            source.copy(name, first)
        for name in ("diffuseAlbedo", "uv", "mirror", "landmarks"):
            source.copy(name, second)
    with pytest.raises(
        ModelError, match=r"a_shape\.h5 lacks diffuseAlbedo/model/mean.*uv.*mirror.*landmarks"
    ):
        read_model([shape])
    both = read_model([shape, extra])
    assert np.array_equal(both.shape_basis, model.shape_basis)
    assert both.hash and both.name == "a_shape"
    for word in ("specular", "roughness", "skin"):
        assert word in caplog.text


def test_trim_cuts_every_basis() -> None:
    model = replace(small_model(90, 100, 60, 85), hash="abc")
    small = trim(model)
    sizes = {
        len(getattr(small, f"{p}_{k}"))
        for p in ("shape", "expression", "diffuse")
        for k in ("basis", "variance")
    }
    assert sizes == {60} and len(small.specular_basis) == 60
    assert small.hash != model.hash
    assert registry.check_model(small) == []


@pytest.mark.parametrize("damage", ["truncated", "text", "flipped", "empty"])
def test_damaged_files_are_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "face.h5"
    write_model(path, small_model(), half=False)
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "text":
        path.write_text("not a model")
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        with h5py.File(path, "a") as file:
            file["shape/model/mean"][4] += 1
    with pytest.raises(ModelError, match=r"face\.h5"):
        registry.load_model(SimpleNamespace(model=str(path), path=".", trimPca=False))


def test_check_finds_what_is_wrong() -> None:
    model = small_model()
    skewed = replace(model, shape_basis=model.shape_basis * 2)
    assert "orthonormal" in registry.check_model(skewed)[0]
    assert "mirror" in registry.check_model(replace(model, mirror=np.roll(model.mirror, 1)))[0]
    assert "uv" in registry.check_model(replace(model, uv=model.uv + 1))[0]
    assert "faces" in registry.check_model(replace(model, faces=model.faces + 1000))[0]
    assert "landmarks" in registry.check_model(replace(model, landmarks={"mediapipe": np.array([99999])}))[0]
    assert "finite" in registry.check_model(replace(model, shape_mean=model.shape_mean * np.nan))[0]
    assert "millimetres" in registry.check_model(replace(model, shape_mean=model.shape_mean / 1000))[0]
    assert "inside out" in registry.check_model(replace(model, faces=model.faces[:, ::-1].copy()))[0]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty user folder and a small model in place of the slow built-in one."""
    monkeypatch.setenv("NEXTGENFACE_HOME", str(tmp_path / "home"))
    built: list[int] = []

    def build(_assets: Path) -> FaceModel:
        built.append(1)
        return small_model(60, 9, 6, 4)

    monkeypatch.setattr("nextgenface.facemodel.builtin.build_model", build)
    monkeypatch.setattr(registry, "_builds", built, raising=False)
    return tmp_path / "home"


def builds() -> int:
    return len(registry._builds)  # type: ignore[attr-defined]


def test_builtin_is_built_once_and_again_after_damage(home: Path) -> None:
    choice = SimpleNamespace(model="builtin", path=".", trimPca=False)
    first = registry.load_model(choice)
    second = registry.load_model(choice)
    assert builds() == 1 and first.hash == second.hash and content_hash(first) == content_hash(second)
    path = registry.builtin_path()
    assert home in path.parents
    path.write_bytes(path.read_bytes()[:3000])
    again = registry.load_model(choice)
    assert builds() == 2 and content_hash(again) == content_hash(first)
    assert (
        registry.load_model(SimpleNamespace(model="builtin", path=".", trimPca=True)).shape_basis.shape[0]
        == 4
    )


def test_the_file_that_the_extension_ships_is_used_in_place(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = SimpleNamespace(model="builtin", path=".", trimPca=False)
    assets = tmp_path / "extension" / "assets"
    monkeypatch.setattr(registry, "asset_folders", lambda: [tmp_path / "nothing here", assets])
    shipped = assets / "models" / registry.builtin_path().name
    shipped.parent.mkdir(parents=True)
    model = small_model(90)
    write_model(shipped, model)
    assert registry.load_model(choice).vertex_count == 90 and builds() == 0
    assert registry.builtin_files() == [shipped] and not registry.builtin_path().exists()
    assert registry.list_models()[0].path == shipped
    # One of another version, or a damaged one, is passed over.
    shipped.write_bytes(shipped.read_bytes()[:3000])
    assert registry.load_model(choice).vertex_count == 60 and builds() == 1
    assert registry.builtin_files()[0] == registry.builtin_path()
    write_model(shipped.with_name("nextgenface-builtin-000000000000.h5"), model)
    assert registry.load_model(choice).vertex_count == 60 and builds() == 1


def test_a_folder_that_cannot_be_written_only_costs_time(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home.mkdir()
    (home / "models").write_text("a file where the folder should be")
    model = registry.load_model(SimpleNamespace(model="builtin", path=".", trimPca=False))
    assert model.vertex_count == 60 and "cannot be stored" in caplog.text


def test_command(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["list"]) == 0
    assert "is built on first use" in capsys.readouterr().out
    assert command.main(["build"]) == 0
    assert "60 vertices" in capsys.readouterr().out
    write_model(home / "models" / "mine.h5", small_model())
    assert command.main(["list"]) == 0
    assert "mine" in capsys.readouterr().out
    assert command.main(["check", "builtin", "mine"]) == 0
    broken = tmp_path / "broken.h5"
    broken.write_text("no")
    assert command.main(["check", str(broken)]) != 0
    assert "broken.h5" in capsys.readouterr().out
    assert command.main(["check", "nobody"]) != 0
    assert "There is no face model 'nobody'" in capsys.readouterr().out


def test_a_missing_basel_model_says_where_to_get_it_and_what_else_there_is(
    home: Path, tmp_path: Path
) -> None:
    for folder in (None, tmp_path / "nowhere"):
        with pytest.raises(ModelError, match="NEXTGENFACE_DATA_DIR") as caught:
            registry.find_place("bfm", folder)
        for part in (
            "bfm2017.html",
            "model2017-1_face12_nomouth.h5",
            "albedoModel2020_face12",
            "model = builtin",
        ):
            assert part in str(caught.value)
    with pytest.raises(ModelError, match=r"holds no \.h5"):
        registry.load_place(tmp_path)
