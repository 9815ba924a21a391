"""Pickles of numpy arrays, numbers, text and plain containers, read without running anything that is in them.

A pickle names functions to call. Here a name stands for one of ours or the file is refused: numpy itself is never
called with what a file says, because a crafted dtype can make it read memory that is not an array's.
"""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ..records import DataError

_NUMBERS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}
_ORDERS = {"<", ">", "|", "="}


class _Dtype:
    """What `numpy.dtype(code, ...)` and its state say, if it is a plain number."""

    def __init__(self, code: str, *_: object) -> None:
        if code not in _NUMBERS:
            raise pickle.UnpicklingError(f"it holds values of type {code!r}, which are not plain numbers")
        self._code, self._order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in _ORDERS:
            raise pickle.UnpicklingError("it holds numbers in an unknown byte order")
        self._order = state[1]

    def decode(self, data: bytes, shape: tuple[int, ...], order: str) -> np.ndarray:
        dtype = np.dtype(self._order.replace("|", "=") + self._code)
        if not isinstance(data, bytes | bytearray) or len(data) != math.prod(shape) * dtype.itemsize:
            raise pickle.UnpicklingError(f"an array of shape {list(shape)} does not fit its data")
        return np.frombuffer(bytes(data), dtype).reshape(shape, order=order)  # type: ignore[call-overload]


class _Array:
    """An array that is made in two steps: an empty one, then its state."""

    array: np.ndarray

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _decoded(data, dtype, shape, "F" if fortran else "C")


def _decoded(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    if (
        not isinstance(dtype, _Dtype)
        or not isinstance(shape, tuple)
        or not all(type(n) is int and n >= 0 for n in shape)
    ):
        raise pickle.UnpicklingError("an array in it has no plain shape and type")
    return dtype.decode(data, shape, order)


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    return _decoded(bytes(data), dtype, shape, "F" if order == "F" else "C")


def _scalar(dtype: Any, data: Any) -> Any:
    return _decoded(data, dtype, (), "C").item()


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it holds text as {encoding!r}")
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("collections", "OrderedDict"): dict,
    ("_codecs", "encode"): _encoded,
}
for _numpy in ("numpy.core", "numpy._core"):
    _STAND_INS[f"{_numpy}.multiarray", "_reconstruct"] = _reconstruct
    _STAND_INS[f"{_numpy}.multiarray", "scalar"] = _scalar
    _STAND_INS[f"{_numpy}.numeric", "_frombuffer"] = _from_buffer


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it wants {module}.{name}, which is not an array or a plain container")
        return _STAND_INS[module, name]


def load_plain(path: Path) -> Any:
    """What the pickle at `path` holds, arrays as numpy arrays (read-only). DataError for anything else."""
    try:
        with path.open("rb") as file:
            return _plain(_Unpickler(file).load())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    # All that a damaged or crafted pickle can raise in Python's unpickler and in the functions above.
    except (
        pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError,
        MemoryError, RecursionError, ImportError, UnicodeError,
    ) as error:  # fmt: skip
        problem = str(error) or type(error).__name__
        raise DataError(f"{path}: is not a pickle of arrays and plain containers, or is damaged: {problem}") from error


def _plain(value: Any) -> Any:
    """Stand-ins replaced by what they stand for, in dictionaries, lists and tuples."""
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    return value
