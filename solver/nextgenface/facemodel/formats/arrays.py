"""Arrays out of files that may be hostile: sizes are looked at before anything is read."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from ...errors import ModelError
from ...paths import asset_folders

LARGEST = 1_600_000_000
"""Bytes of one array; the largest of a face model that is known has 130 million."""


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn what the HDF5 library says of a damaged file into a ModelError."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"The face model {path} cannot be read: it is damaged or not HDF5 ({str(error)[:120]}). "
            "Get the file again."
        ) from error


class Hdf5:
    """An HDF5 file whose datasets are read by name; links to other files are not followed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _damage(path):
            self.file = h5py.File(path, "r")

    def __enter__(self) -> Hdf5:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def _node(self, name: str) -> h5py.Dataset | h5py.Group | None:
        with _damage(self.path):
            return self._walk(name)

    def _walk(self, name: str) -> h5py.Dataset | h5py.Group | None:
        node: h5py.Group | h5py.Dataset = self.file
        for step in name.split("/"):
            if not isinstance(node, h5py.Group):
                return None
            link = node.get(step, getlink=True)
            if link is None:
                return None
            if not isinstance(link, h5py.HardLink):
                raise ModelError(
                    f"The face model {self.path} was refused: {name} is a link to another place."
                )
            node = node[step]
        return node

    def has(self, name: str) -> bool:
        """Whether there is a dataset of this name."""
        return isinstance(self._node(name), h5py.Dataset)

    def names(self, group: str) -> list[str]:
        """Names inside a group; none when it does not exist."""
        node = self._node(group)
        with _damage(self.path):
            return list(node) if isinstance(node, h5py.Group) else []

    def size(self, name: str) -> int:
        """Number of values of a dataset, 0 when it does not exist."""
        node = self._node(name)
        with _damage(self.path):
            return int(node.size or 0) if isinstance(node, h5py.Dataset) else 0

    def attribute(self, name: str) -> str:
        """An attribute of the file as text, "" when there is none."""
        with _damage(self.path):
            return str(self.file.attrs.get(name, ""))

    def read(self, name: str) -> NDArray | None:
        """A dataset as an array, None when there is none. Raises ModelError."""
        node = self._node(name)
        if not isinstance(node, h5py.Dataset):
            return None
        with _damage(self.path):
            return self._content(node, name)

    def _content(self, node: h5py.Dataset, name: str) -> NDArray:
        if node.is_virtual or node.external:
            raise ModelError(f"The face model {self.path} was refused: {name} lies in another file.")
        if node.dtype.kind not in "fiubSO" or math.prod(node.shape or ()) * node.dtype.itemsize > LARGEST:
            raise ModelError(
                f"The face model {self.path} was refused: {name} has the shape {node.shape} of {node.dtype}."
            )
        return np.asarray(node[()])


class Npz:
    """An .npz archive read without pickles; arrays are looked up by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, ValueError) as error:
            raise ModelError(
                f"The face model {path} cannot be read: it is damaged or not .npz ({str(error)[:120]}). "
                "Get the file again."
            ) from error
        self.names = {n.removesuffix(".npy") for n in self.archive.namelist() if n.endswith(".npy")}

    def __enter__(self) -> Npz:
        return self

    def __exit__(self, *_: object) -> None:
        self.archive.close()

    def read(self, name: str) -> NDArray:
        """One array. Raises ModelError when it is missing, damaged, too large, or holds Python objects."""
        entry = name + ".npy"
        if name not in self.names:
            raise ModelError(f"The face model {self.path} lacks the array '{name}'.")
        if self.archive.getinfo(entry).file_size > LARGEST:
            raise ModelError(f"The face model {self.path} was refused: '{name}' claims to be too large.")
        try:
            with self.archive.open(entry) as stream:
                return _read_npy(stream.read)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(
                f"The face model {self.path} is damaged: '{name}' cannot be read ({str(error)[:120]})."
            ) from error


def _read_npy(read: Callable[[int], bytes]) -> NDArray:
    """An array in NumPy's format from a stream; nothing is allocated before the size is known."""

    class Stream:
        def read(self, count: int = -1) -> bytes:
            return read(count)

    stream = Stream()
    version = np.lib.format.read_magic(stream)
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in headers:
        raise ValueError(f"NumPy format {version}")
    shape, fortran, dtype = headers[version](stream)
    count = math.prod(shape)
    if dtype.hasobject or dtype.kind not in "fiubSU" or count * dtype.itemsize > LARGEST:
        raise ValueError(f"an array of {dtype} with the shape {shape}")
    content = read(count * dtype.itemsize)
    if len(content) != count * dtype.itemsize:
        raise ValueError("it ends too early")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C").copy()


def numbers(array: NDArray, name: str, path: Path, dtype: type = np.float64) -> NDArray:
    """An array as numbers of a type. Raises ModelError when it holds something else."""
    if array.dtype.kind not in "fiub":
        raise ModelError(f"The face model {path} cannot be used: '{name}' holds {array.dtype}, not numbers.")
    return np.ascontiguousarray(array, dtype)


def shipped_landmarks(kind: str, count: int) -> dict[str, NDArray[np.int64]]:
    """The iBUG table that is shipped for a mesh of exactly `count` vertices; empty when there is none."""
    name = f"face_models/{kind}_{count}.txt"
    file = next((folder / name for folder in asset_folders() if (folder / name).is_file()), None)
    return {} if file is None else {"ibug68": landmark_pairs(file, 68)}


def landmark_pairs(file: Path, size: int) -> NDArray[np.int64]:
    """(size,) vertex per landmark, -1 = none, from a text file with two columns (landmark, vertex).

    Raises ModelError.
    """
    try:
        rows = np.loadtxt(file, dtype=np.int64, comments="#", ndmin=2)
        table = np.full(size, -1, np.int64)
        table[rows[:, 0]] = rows[:, 1]
    except (ValueError, IndexError, OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"The landmark table {file} cannot be read ({str(error)[:100]}): two columns of whole "
            f"numbers are "
            f"expected, landmark (below {size}) and vertex."
        ) from None
    return table
