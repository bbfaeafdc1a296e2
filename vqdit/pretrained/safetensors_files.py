"""Reads `.safetensors` files: a header in JSON, followed by the raw values of the tensors."""

import functools
import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from vqdit.files import parse_json
from vqdit.pretrained.stored import Stored, damaged, sizes

DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(jnp.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
"""Data types by name in .safetensors files."""


def read(file: Path) -> dict[str, Stored]:
    """Returns the tensors of a file by name.

    Raises:
        ValueError: if the header does not describe tensors that fill the file.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        first = 8 + length
        if size < 8 or first > size:
            raise damaged(file, f"its header declares {length:,} bytes, but the file has {size:,}")
        try:
            header = parse_json(stream.read(length), {str: dict})
            entries = [(n, _entry(e)) for n, e in header.items() if n != "__metadata__"]
        except ValueError as error:
            raise damaged(file, f"its header is not a description of tensors ({error})") from error
    end = 0
    for name, (_, _, start, stop) in sorted(entries, key=lambda entry: entry[1][2:]):
        if start != end or first + stop > size:
            raise damaged(
                file,
                f"{name!r} declares the bytes {start:,} to {stop:,}, but must begin at {end:,} and "
                f"end within {size - first:,}",
            )
        end = stop

    def read(dtype: np.dtype, shape: tuple[int, ...], start: int, stop: int) -> np.ndarray:
        count = (stop - start) // dtype.itemsize
        return np.fromfile(file, dtype, count, offset=first + start).reshape(shape)

    return {name: Stored(entry[1], functools.partial(read, *entry)) for name, entry in entries}


def _entry(entry: Any) -> tuple[np.dtype, tuple[int, ...], int, int]:
    """Returns data type, shape, start and stop of a tensor in a .safetensors file."""
    match entry:
        case {"dtype": str(kind), "shape": [*shape], "data_offsets": [int(start), int(stop)]}:
            if kind not in DTYPES:
                raise ValueError(f"unsupported data type {kind!r}; supported: {', '.join(DTYPES)}")
            dtype, shape = DTYPES[kind], sizes(*shape)
            if stop - start == math.prod(shape) * dtype.itemsize and start >= 0:
                return dtype, shape, start, stop
    raise ValueError(f"{str(entry)[:80]} does not describe a tensor")
