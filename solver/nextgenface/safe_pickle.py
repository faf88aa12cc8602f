"""Reads pickles that hold nothing but NumPy arrays and plain values, and refuses every other one.

`pickle.load` runs whatever code a file asks for. Here the only names a file may mention are those that NumPy
arrays need, and even these are replaced by the small classes below, so that no array is built before its
shape, type and byte count have been checked. Files of face models may also mention the few classes that FLAME
is stored with (chumpy's arrays, SciPy's sparse matrices); they are replaced in the same way.
"""

from __future__ import annotations

import io
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from .errors import CheckpointError, ModelError, NextGenFaceError

MAX_VALUES = 100_000
"""More values than any checkpoint has; a file of a few bytes can name billions by repeating itself."""
MAX_DEPTH = 50
_KINDS = "biufSU"  # bool, integers, floats, byte and text strings; never objects


class _Refused(Exception):
    """The file asks for something a checkpoint does not need."""


class _Dtype:
    """Stands for numpy.dtype while the file is read."""

    objects = False

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        if not isinstance(code, str) or not code or code[0] not in _KINDS or not code[1:].isdigit():
            raise _Refused(f"data of type {str(code)[:40]!r}")
        self.dtype = np.dtype(code)
        if self.dtype.itemsize > 4096:
            raise _Refused(f"data of type {code!r}")

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)


class _DtypeOrObjects(_Dtype):
    """The same where arrays of Python values are allowed; they become plain lists."""

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        self.objects = code in ("O", "O8", "O4")
        super().__init__("u1" if self.objects else code)

    def __setstate__(self, state: Any) -> None:
        if not self.objects:
            super().__setstate__(state)


class _Holder:
    """Stands for an object of a class that is not imported; keeps the state that the file gives it."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _ChumpyArray(_Holder):
    """chumpy.ch.Ch: the array is its entry 'x'."""

    def plain(self) -> Any:
        if not isinstance(self.state, dict) or "x" not in self.state:
            raise _Refused("a chumpy expression instead of an array")
        return self.state["x"]


class _SparseMatrix(_Holder):
    """A SciPy matrix by compressed columns, which becomes a dense array."""

    def plain(self) -> Any:
        state = self.state if isinstance(self.state, dict) else {}
        shape = state.get("_shape", state.get("shape"))
        parts = [_finished(state.get(name)) for name in ("data", "indices", "indptr")]
        if (
            not isinstance(shape, tuple)
            or len(shape) != 2
            or not all(isinstance(p, np.ndarray) for p in parts)
        ):
            raise _Refused("a damaged sparse matrix")
        data, rows, starts = parts
        height, width = (int(s) for s in shape)
        if not (
            0 < height * width <= 50_000_000 and starts.shape == (width + 1,) and rows.shape == data.shape
        ):
            raise _Refused("a damaged sparse matrix")
        counts = np.diff(starts)
        if (counts < 0).any() or counts.sum() != rows.size or not ((rows >= 0) & (rows < height)).all():
            raise _Refused("a damaged sparse matrix")
        dense = np.zeros((height, width), data.dtype)
        np.add.at(dense, (rows, np.repeat(np.arange(width), counts)), data)
        return dense


def _finished(value: Any) -> Any:
    return value.value if isinstance(value, _Array) else value


class _ArrayType:
    """Stands for the type numpy.ndarray, which a file only passes to `_reconstruct`."""


class _Array:
    """Stands for one array until its content has arrived and been checked."""

    def __init__(self) -> None:
        self.value: np.ndarray | None = None
        self.listed: Any = None

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, content = state
        if isinstance(dtype, _Dtype) and dtype.objects:
            self.listed = content
            return
        self.value = _make_array(content, dtype, shape, "F" if fortran else "C")


def _make_array(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(content, (bytes, bytearray)):
        raise _Refused("an array of objects")
    if not isinstance(shape, tuple) or len(shape) > 8 or not all(type(s) is int and s >= 0 for s in shape):
        raise _Refused(f"an array of shape {str(shape)[:60]}")
    if math.prod(shape) * dtype.dtype.itemsize != len(content) or order not in ("C", "F"):
        raise _Refused(f"an array of shape {shape} with {len(content)} bytes")
    return (
        np.frombuffer(content, dtype.dtype).reshape(shape, order=order).astype(dtype.dtype.newbyteorder("="))
    )


def _reconstruct(_type: Any, _shape: Any, _code: Any) -> _Array:
    return _Array()


def _frombuffer(content: Any, dtype: Any, shape: Any, order: Any, _axis_order: Any = None) -> np.ndarray:
    """How protocol 5 stores arrays."""
    if isinstance(content, pickle.PickleBuffer):
        content = bytes(content)
    return _make_array(content, dtype, shape, order)


def _scalar(dtype: Any, content: Any = b"") -> Any:
    if isinstance(content, str):
        content = content.encode("latin-1")
    return _make_array(content, dtype, (), "C").item()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """How protocols 0 to 2 store bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _Refused(f"text in encoding {str(encoding)[:40]!r}")
    return text.encode("latin-1")


def _empty_bytes() -> bytes:
    """How protocols 0 to 2 store bytes of length zero."""
    return b""


_ALLOWED: dict[tuple[str, str], Any] = {("numpy", "ndarray"): _ArrayType, ("numpy", "dtype"): _Dtype}
_ALLOWED[("_codecs", "encode")] = _encode
_ALLOWED[("__builtin__", "bytes")] = _ALLOWED[("builtins", "bytes")] = _empty_bytes
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED[(f"{_core}.multiarray", "_reconstruct")] = _reconstruct
    _ALLOWED[(f"{_core}.multiarray", "scalar")] = _scalar
    _ALLOWED[(f"{_core}.numeric", "_frombuffer")] = _frombuffer


def _rebuild(cls: Any, base: Any, state: Any = None) -> Any:
    """How protocols 0 and 1 store objects."""
    if not (isinstance(cls, type) and issubclass(cls, _Holder)):
        raise _Refused("an object of another class")
    return cls()


class _ObjectType:
    """Stands for the type object, which a file only passes to `_rebuild`."""


_MODEL_CLASSES: dict[tuple[str, str], Any] = {
    **_ALLOWED,
    ("numpy", "dtype"): _DtypeOrObjects,
    ("chumpy.ch", "Ch"): _ChumpyArray,
    ("copy_reg", "_reconstructor"): _rebuild,
    ("copyreg", "_reconstructor"): _rebuild,
    ("__builtin__", "object"): _ObjectType,
    ("builtins", "object"): _ObjectType,
}
for _sparse in ("scipy.sparse.csc", "scipy.sparse._csc"):
    _MODEL_CLASSES[(_sparse, "csc_matrix")] = _SparseMatrix


class _Reader(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, allowed: dict[tuple[str, str], Any]) -> None:
        super().__init__(stream, encoding="latin1")
        self.allowed = allowed

    def find_class(self, module: str, name: str) -> Any:
        """Only what arrays need; called for every name a file mentions."""
        try:
            return self.allowed[(module, name)]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        """Checkpoints have no persistent ids."""
        raise _Refused("a persistent id")


def read_plain_pickle(path: Path) -> Any:
    """Read a pickle of dicts, lists, tuples, numbers, strings, bytes, None and NumPy arrays.

    Protocols 0 to 5, written with NumPy 1 or 2. Nothing in the file is executed. Raises CheckpointError when
    the file is missing, damaged, truncated, or holds anything else.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(
            f"There is no checkpoint at {path}. Check the path; see the folder checkpoints/ of a run."
        ) from None
    except OSError as problem:
        raise CheckpointError(
            f"Cannot read the checkpoint {path} ({problem.strerror or problem})."
        ) from problem
    advice = "Use the checkpoint of another stage or run the stage again."
    return _load(content, _ALLOWED, f"checkpoint {path}", "a checkpoint", advice, CheckpointError)


def read_model_pickle(path: Path, start: int = 0) -> Any:
    """The same for a pickle of a face model, from byte `start` of a file.

    Arrays of chumpy and sparse matrices become plain arrays, arrays of Python values become lists. Raises
    ModelError.
    """
    try:
        content = Path(path).read_bytes()[start:]
    except OSError as problem:
        raise ModelError(f"Cannot read the face model {path} ({problem.strerror or problem}).") from problem
    return _load(
        content, _MODEL_CLASSES, f"face model {path}", "a face model", "Get the file again.", ModelError
    )


def _load(
    content: bytes,
    allowed: dict[tuple[str, str], Any],
    which: str,
    kind: str,
    advice: str,
    error: type[NextGenFaceError],
) -> Any:
    try:
        loaded = _Reader(io.BytesIO(content), allowed).load()
        return _plain(loaded, [0], 0)
    except _Refused as refused:
        raise error(
            f"The {which} was refused: it contains {refused}, which {kind} never needs. Such a file "
            "can run programs when it is opened in other ways; use only files from people you trust."
        ) from None
    except Exception as problem:  # a damaged pickle can raise almost anything
        raise error(
            f"The {which} is damaged or not {kind} ({type(problem).__name__}: {str(problem)[:120]}). {advice}"
        ) from problem


def _plain(value: Any, count: list[int], depth: int) -> Any:
    """Replace the stand-ins by arrays and make sure that nothing else than plain values is left."""
    count[0] += 1
    if count[0] > MAX_VALUES or depth > MAX_DEPTH:
        raise _Refused("too many nested values")
    if isinstance(value, (_ChumpyArray, _SparseMatrix)):
        return _plain(value.plain(), count, depth + 1)
    if isinstance(value, _Array):
        if value.listed is not None:
            return _plain(value.listed, count, depth + 1)
        if value.value is None:
            raise _Refused("an array without content")
        return value.value
    if isinstance(value, dict):
        return {_plain(k, count, depth + 1): _plain(v, count, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(v, count, depth + 1) for v in value)
    if value is None or type(value) in (bool, int, float, str, bytes, np.ndarray):
        return value
    raise _Refused(f"a value of type {type(value).__name__.lstrip('_')}")
