"""pgvector's `vector` and `halfvec` on the wire, as numpy arrays: float32 and float16, one dimension.

Registered on every pooled connection by `store/database.py`. Encoding takes anything numpy can make a flat array of.
The invariant: a decoded array is a copy of its own in native byte order, safe to keep and to compute with.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

_HEADER = struct.Struct(">HH")
DIMENSIONS_MAX = 16_000


def encode_vector(value: Any) -> bytes:
    """The binary form of a `vector`."""
    return _encode(value, ">f4")


def encode_half_vector(value: Any) -> bytes:
    """The binary form of a `halfvec`."""
    return _encode(value, ">f2")


def decode_vector(data: bytes) -> npt.NDArray[np.float32]:
    """A float32 array from the binary form of a `vector`."""
    return np.frombuffer(data, ">f4", offset=_HEADER.size).astype(np.float32)


def decode_half_vector(data: bytes) -> npt.NDArray[np.float16]:
    """A float16 array from the binary form of a `halfvec`."""
    return np.frombuffer(data, ">f2", offset=_HEADER.size).astype(np.float16)


def _encode(value: Any, kind: str) -> bytes:
    array = np.asarray(value, dtype=kind)
    if array.ndim != 1 or not 0 < array.size <= DIMENSIONS_MAX:
        raise ValueError(f"a vector has one dimension and 1 to {DIMENSIONS_MAX} numbers")
    return _HEADER.pack(array.size, 0) + array.tobytes()
