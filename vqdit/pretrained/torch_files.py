"""Reads files that `torch.save` wrote, without torch.

Such a file is a zip archive with `data.pkl`, a pickle of the structure, and one file of raw bytes
per storage. The pickle is read as data (`pickles.py`): only the names of tensors, parameters,
storages and ordered dictionaries are recognised, and no name is looked up.
"""

import lzma
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from vqdit.pretrained import pickles
from vqdit.pretrained.pickles import INERT, Global, Items
from vqdit.pretrained.stored import Stored, damaged, sizes

STORAGES = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(jnp.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
"""Data types by name of torch's storage classes."""
WRAPPERS = ("ema", "state_dict", "model")
"""Keys under which training programs store the weights; averaged weights take precedence."""
UNREADABLE = (ValueError, RuntimeError, EOFError, OSError, KeyError, struct.error,
              zipfile.BadZipFile, zlib.error, lzma.LZMAError)  # fmt: skip
"""Errors of reading a damaged archive."""


def read(file: Path) -> dict[str, Stored]:
    """Returns the tensors of the state dict in a file by name.

    Raises:
        ValueError: if the file is damaged, declares more data than it has, or has no state dict.
    """
    try:
        content = _read_torch(file)
    except _Unsupported as error:
        raise ValueError(f"{file}: {error}") from error
    except UNREADABLE as error:
        raise damaged(file, error) from error
    for name in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
            break
    if isinstance(content, dict):
        found = {name: value for name, value in content.items() if isinstance(value, Stored)}
        if found:
            return found
    raise ValueError(f"{file} has no named tensors; use a checkpoint with a state_dict")


def metadata(file: Path) -> dict[str, Any]:
    """Returns the integers and texts under the key "metadata" of a file."""
    found = _read_torch(file) if zipfile.is_zipfile(file) else None
    for name in ("metadata", "kwargs"):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


class _Unsupported(ValueError):
    """Raised for an archive that is undamaged, but of an unsupported kind."""


def _read_torch(file: Path) -> Any:
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info.file_size for info in archive.infolist()}
        claimed, size = sum(info.file_size for info in archive.infolist()), file.stat().st_size
        if claimed > size:
            raise ValueError(
                f"the entries of the archive declare {claimed:,} bytes, but the file has only "
                f"{size:,}, although torch does not compress them"
            )
        structure = next((name for name in members if name.endswith("/data.pkl")), None)
        if structure is None:
            raise _Unsupported(
                "the file is a zip archive but not a torch checkpoint: it has no data.pkl; load it "
                "with torch and save its state_dict again"
            )
        root = structure.removesuffix("data.pkl")
        order = root + "byteorder"
        if order in members and archive.read(order) != b"little":
            raise _Unsupported(
                "the file was written on a big-endian machine, which is not supported; save it "
                "again on a little-endian machine"
            )
        pickled = archive.read(structure)

    def storage(reference: Any) -> Any:
        match reference:
            case Items(("storage", Global(_, kind), str(key), _, int(count))) if kind in STORAGES:
                found = _Storage(file, f"{root}data/{key}", STORAGES[kind], count)
                stored, wanted = members.get(found.member, 0), count * found.dtype.itemsize
                if stored != wanted:
                    raise ValueError(f"{found.member} has {stored} bytes instead of {wanted}")
                return found
        return INERT

    return pickles.read(pickled, persistent=storage, call=_called)


class _Storage(NamedTuple):
    """The raw values of a storage in one file of the archive."""

    file: Path
    member: str
    dtype: np.dtype
    count: int

    def read(self) -> np.ndarray:
        try:
            with zipfile.ZipFile(self.file) as archive:
                return np.frombuffer(archive.read(self.member), self.dtype, self.count)
        except UNREADABLE as error:
            raise damaged(self.file, error) from error


def _called(function: Global, arguments: tuple[Any, ...]) -> Any:
    """Returns the object for a call in the pickle of a checkpoint."""
    match function, arguments:
        case ("collections", "OrderedDict"), _:
            return {}
        case ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state"), (data, *_):
            return data
        case (
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2"),
            (_Storage() as storage, offset, Items(shape), Items(stride), *_),
        ):
            return _tensor(storage, sizes(offset)[0], sizes(*shape), sizes(*stride))
    return INERT


def _tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
) -> Stored:
    """Returns a tensor, after checking that it is inside its storage."""
    if len(shape) != len(stride):
        raise ValueError(f"a tensor has the invalid shape {shape} or stride {stride}")
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if math.prod(shape) and last >= storage.count:
        raise ValueError(
            f"a tensor of shape {shape} needs {last + 1:,} values, but its storage has "
            f"{storage.count:,}"
        )

    def read() -> np.ndarray:
        numbers = storage.read()[offset:]
        strides = tuple(step * storage.dtype.itemsize for step in stride)
        return np.lib.stride_tricks.as_strided(numbers, shape, strides, writeable=False)

    return Stored(shape, read)
