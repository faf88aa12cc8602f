"""Hostile and damaged model files are refused with a message for people; nothing crashes, nothing runs."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from nextgenface.errors import ModelError
from nextgenface.facemodel import formats, registry
from nextgenface.safe_pickle import read_model_pickle

from tests.solver import model_files


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small model of every format."""
    root = tmp_path_factory.mktemp("originals")
    model_files.write_basel(root / "bfm", vertices=400, sizes=(3, 2, 2))
    model_files.write_flame(root / "flame", spacing=16.0)
    model_files.write_gnm(root / "gnm", spacing=16.0, sizes=(3, 2))
    model_files.write_ict(root / "ict", spacing=16.0, identities=1, expressions=2)
    return root


def read(place: Path) -> None:
    found = formats.find(place)
    if found is None:
        raise ModelError("not recognised")
    formats.read(*found)


def edit(path: Path, change: Callable[[h5py.File], None]) -> None:
    with h5py.File(path, "a") as file:
        change(file)


def copied(originals: Path, kind: str, target: Path) -> Path:
    target.mkdir(exist_ok=True)
    for path in (originals / kind).rglob("*"):
        if path.is_file():
            place = target / path.relative_to(originals / kind)
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(path.read_bytes())
    return target


@pytest.mark.parametrize(("kind", "rounds"), [("bfm", 120), ("gnm", 60), ("flame", 8), ("ict", 16)])
def test_random_damage_never_escapes_as_another_error(
    originals: Path, tmp_path: Path, kind: str, rounds: int
) -> None:
    place = copied(originals, kind, tmp_path / kind)
    files = sorted(p for p in place.rglob("*") if p.is_file())
    rng = np.random.default_rng(len(kind))
    outcomes = {"read": 0, "refused": 0}
    for number in range(rounds):
        path = files[number % len(files)]
        whole = path.read_bytes()
        broken = bytearray(whole)
        if number % 3 == 0:
            broken = broken[: int(rng.integers(0, len(broken)))]
        else:
            reach = len(broken) if number % 3 == 1 else min(len(broken), 4096)
            for position in rng.integers(0, reach, int(rng.integers(1, 20))):
                broken[position] = int(rng.integers(0, 256))
        path.write_bytes(broken)
        try:
            with np.errstate(all="ignore"):
                read(place)
            outcomes["read"] += 1  # a changed digit of a coordinate cannot be noticed
        except ModelError as refusal:
            assert len(str(refusal)) > 10
            outcomes["refused"] += 1
        path.write_bytes(whole)
    assert outcomes["refused"] > 0


SHAPE = "model2017-1_face12_nomouth.h5"


def _nan(file: h5py.File) -> None:
    file["shape/model/pcaBasis"][5, 1] = np.nan


def _zero_variance(file: h5py.File) -> None:
    file["shape/model/pcaVariance"][1] = 0.0


def _zero_mode(file: h5py.File) -> None:
    file["expression/model/pcaBasis"][:, 0] = 0.0


def _renamed(file: h5py.File) -> None:
    file.move("expression/model", "expression/modell")


def _wild_triangle(file: h5py.File) -> None:
    file["shape/representer/cells"][0, 3] = 10**6


def _short(file: h5py.File) -> None:
    basis = file["shape/model/pcaBasis"][:-3]
    del file["shape/model/pcaBasis"]
    file["shape/model/pcaBasis"] = basis


def _text(file: h5py.File) -> None:
    del file["shape/model/mean"]
    file["shape/model/mean"] = np.array([b"x"] * 1200)


def _elsewhere(file: h5py.File) -> None:
    del file["shape/model/mean"]
    file["shape/model/mean"] = h5py.ExternalLink("other.h5", "shape/model/mean")


def _huge(file: h5py.File) -> None:
    del file["expression/model/pcaBasis"]
    file.create_dataset("expression/model/pcaBasis", (1200, 10**9), "f4", chunks=(1, 10**4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_nan, "shape basis holds numbers that are not finite"),
        (_zero_variance, "component 1 of its shape has no variance"),
        (_zero_mode, "component 0 of its expression has no variance"),
        (_renamed, "lacks the dataset expression/model/pcaBasis"),
        (_wild_triangle, "triangles point to vertices that do not exist"),
        (_short, "pcaBasis has the shape"),
        (_text, "not numbers"),
        (_elsewhere, "link to another place"),
        (_huge, "refused: expression/model/pcaBasis"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_wrong_is_named(
    originals: Path, tmp_path: Path, change: Callable[[h5py.File], None], message: str
) -> None:
    place = copied(originals, "bfm", tmp_path / "bfm")
    edit(place / SHAPE, change)
    with pytest.raises(ModelError, match=message):
        read(place)


def test_albedo_of_another_mesh_is_refused(originals: Path, tmp_path: Path) -> None:
    place = copied(originals, "bfm", tmp_path / "bfm")
    other = tmp_path / "other"
    model_files.write_basel(other, vertices=500, sizes=(3, 2, 2))
    albedo = "albedoModel2020_face12_albedoPart.h5"
    (place / albedo).write_bytes((other / albedo).read_bytes())
    # It is left aside, and said, because the files beside a model need not all belong to it.
    raw = formats.read(formats.basel, [place / SHAPE])
    assert any("albedoModel2020" in note for note in raw.notes)
    with pytest.raises(ModelError, match="belong to different versions"):
        formats.read(formats.basel, [place / SHAPE, place / albedo])


@pytest.mark.parametrize("name", [SHAPE, "albedoModel2020_face12_albedoPart.h5"])
@pytest.mark.parametrize("content", [b"", b"<html>Please log in</html>"])
def test_a_web_page_saved_in_its_place_is_named(
    originals: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    place = copied(originals, "bfm", tmp_path / "bfm")
    (place / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name} cannot be read: it is damaged or not HDF5"):
        read(place)


class _RunsACommand:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("echo bad > hacked",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_with_code_is_refused_and_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {"v_template": np.zeros((60, 3)), "f": np.zeros((4, 3)), "shapedirs": _RunsACommand()}
    (tmp_path / "flame2023.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(ModelError, match=r"flame2023\.pkl was refused: it contains .*system"):
        registry.load_place(tmp_path)
    assert not (tmp_path / "hacked").exists()


def test_stand_ins_cannot_be_misused(tmp_path: Path) -> None:
    # A class of the list called like a function, a sparse matrix that points outside, an object array of
    # code.
    sparse = b"cscipy.sparse.csc\ncsc_matrix\n)\x81}(U\x06_shapeK\x02K\x02\x86U\x04dataNub."
    for content in (
        sparse,
        b"ccopy_reg\n_reconstructor\n(cnumpy\nndarray\nc__builtin__\nobject\nNtR.",
        b"\x80\x04.",
    ):
        (tmp_path / "flame.pkl").write_bytes(content)
        with pytest.raises(ModelError):
            read_model_pickle(tmp_path / "flame.pkl")
    hidden = np.array([_RunsACommand()], dtype=object)
    np.save(tmp_path / "landmark_embedding.npy", hidden, allow_pickle=True)
    with pytest.raises(ModelError, match="refused"):
        read_model_pickle(tmp_path / "landmark_embedding.npy", 128)


def test_archives_with_objects_or_false_sizes_are_refused(originals: Path, tmp_path: Path) -> None:
    place = copied(originals, "gnm", tmp_path / "gnm")
    with np.load(place / "gnm_head.npz") as archive:
        arrays = dict(archive)
    np.savez(place / "gnm_head.npz", **{**arrays, "expression_basis": np.array([{}], dtype=object)})
    with pytest.raises(ModelError, match="expression_basis"):
        read(place)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 10**3)}
    )
    np.savez(place / "gnm_head.npz", **{k: v for k, v in arrays.items() if k != "expression_basis"})
    with zipfile.ZipFile(place / "gnm_head.npz", "a") as archive_file:
        archive_file.writestr("expression_basis.npy", header.getvalue())
    with pytest.raises(ModelError, match="expression_basis"):
        read(place)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("f 1 2 999999", "point to vertices"),
        ("v 1 2 x", "damaged"),
        ("f a b c", "damaged"),
        ("v 1 2", "damaged"),
        ("v 1 2 nan", "not finite"),
    ],
)
def test_a_damaged_obj_is_named(originals: Path, tmp_path: Path, line: str, message: str) -> None:
    place = copied(originals, "ict", tmp_path / "ict")
    neutral = place / "FaceXModel" / "generic_neutral_mesh.obj"
    neutral.write_text(neutral.read_text() + line + "\n")
    with pytest.raises(ModelError, match=f"generic_neutral_mesh.*{message}"):
        read(place)


def test_an_identity_of_another_mesh_is_named(originals: Path, tmp_path: Path) -> None:
    place = copied(originals, "ict", tmp_path / "ict")
    (place / "FaceXModel" / "identity000.obj").write_text("v 0 0 0\n")
    with pytest.raises(ModelError, match=r"identity000\.obj has 1 vertices"):
        read(place)


def test_files_without_their_groups_are_named_and_strangers_are_not_in_the_way(
    originals: Path, tmp_path: Path
) -> None:
    place = copied(originals, "bfm", tmp_path / "bfm")
    edit(place / SHAPE, lambda file: file.move("shape", "Shape"))
    with pytest.raises(ModelError, match=r"lacks the dataset shape/model/mean.*albedo model"):
        registry.load_place(place)
    flame = copied(originals, "flame", tmp_path / "flame")
    with h5py.File(flame / "experiment.h5", "w") as file:
        file["numbers"] = np.arange(5)
    found = formats.find(flame)
    assert found is not None and found[0] is formats.flame
