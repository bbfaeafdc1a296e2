"""Reading tensors from checkpoint files, without torch and without executing their code.

A torch checkpoint is a zip archive with `data.pkl`, a pickle of the structure, and one file of raw
bytes per storage. Unpickling can call arbitrary functions. The unpickler here only knows tensors,
parameters, storages and ordered dictionaries. Every other name in a checkpoint (callbacks,
settings, `os.system`) becomes an `Inert` object; nothing is imported or called for it.
"""

import collections
import functools
import math
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

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
WRAPPERS = ("ema", "state_dict", "model")
"""Keys under which training programs store the weights; averaged weights take precedence."""


class Stored(NamedTuple):
    """A tensor in a file, which is read on demand.

    Attributes:
        shape: shape of the tensor.
        read: function that reads and returns the tensor.
    """

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


class Inert:
    """Placeholder for every object of a checkpoint that is not a tensor; does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> "Inert":
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> "Inert":
        return self

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        """Ignores an item that a pickle appends."""

    def extend(self, items: Any) -> None:
        """Ignores items that a pickle appends."""


def read_tensors(file: Path) -> dict[str, Stored]:
    """Returns the tensors of a checkpoint by name.

    Args:
        file: a `.safetensors` file, or a file written by `torch.save` of torch 1.6 or later
            (`.ckpt`, `.pt`, `.pth`, `.bin`) that holds a state dict, either directly or under the
            key "ema", "state_dict" or "model".

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file has another format, is damaged or has no state dict. Reading a
            tensor with NaN or infinite values raises it too.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}")
    tensors = _read_safetensors(file) if file.suffix == ".safetensors" else _read_torch_file(file)
    return {name: _finite(name, tensor, file) for name, tensor in tensors.items()}


def _finite(name: str, tensor: Stored, file: Path) -> Stored:
    def read() -> np.ndarray:
        values = tensor.read()
        wrong = values.size - int(np.isfinite(values.astype(np.float32)).sum())
        if wrong:
            raise ValueError(
                f"{name!r} in {file} is not finite: {wrong} of its {values.size} values are NaN "
                "or infinite, so the training had diverged; use an earlier checkpoint"
            )
        return values

    return Stored(tensor.shape, read)


def _read_torch_file(file: Path) -> dict[str, Stored]:
    if not zipfile.is_zipfile(file):
        raise ValueError(
            f"{file} is neither a .safetensors file nor a zip archive written by torch 1.6 or "
            "later; load it with torch and save its state_dict again"
        )
    try:
        content = _read_torch(file)
    except (pickle.UnpicklingError, zipfile.BadZipFile, KeyError, EOFError, IndexError) as error:
        raise ValueError(f"{file} is damaged: {error}; download it again") from error
    return _state_dict(content, file)


def _state_dict(content: Any, file: Path) -> dict[str, Stored]:
    for name in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    if isinstance(content, Mapping):
        found = {str(n): value for n, value in content.items() if isinstance(value, Stored)}
        if found:
            return found
    raise ValueError(f"{file} has no named tensors; use a checkpoint with a state_dict")


def _read_safetensors(file: Path) -> dict[str, Stored]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="flax") as opened:
            names = list(opened.keys())
            shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in names}
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged: {error}; download it again") from error

    def read(name: str) -> np.ndarray:
        with safe_open(file, framework="flax") as opened:  # "numpy" does not support bfloat16
            return np.asarray(opened.get_tensor(name))

    return {name: Stored(shapes[name], functools.partial(read, name)) for name in names}


def _read_torch(file: Path) -> Any:
    with zipfile.ZipFile(file) as archive:
        structure = next((n for n in archive.namelist() if n.endswith("/data.pkl")), None)
        if structure is None:
            raise ValueError(
                f"{file} is a zip archive but not a torch checkpoint: it has no data.pkl; load it "
                "with torch and save its state_dict again"
            )
        root = structure.removesuffix("data.pkl")
        order = root + "byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise ValueError(
                f"{file} was written on a big-endian machine, which is not supported; save it "
                "again on a little-endian machine"
            )
        with archive.open(structure) as stream:
            return _Unpickler(stream, file, root).load()


class _Storage(NamedTuple):
    """The raw values of a storage in one file of the archive."""

    file: Path
    member: str
    dtype: np.dtype
    count: int

    def read(self) -> np.ndarray:
        with zipfile.ZipFile(self.file) as archive:
            size = archive.getinfo(self.member).file_size
            if size != self.count * self.dtype.itemsize:
                raise ValueError(
                    f"{self.file} is damaged: {self.member} has {size} bytes instead "
                    f"of {self.count * self.dtype.itemsize}; download it again"
                )
            return np.frombuffer(archive.read(self.member), self.dtype)


class _Unpickler(pickle.Unpickler):
    """Unpickles tensors; all other classes and functions become `Inert`."""

    def __init__(self, stream: Any, file: Path, root: str) -> None:
        super().__init__(stream, encoding="utf-8")
        self._file, self._root = file, root

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name in STORAGES:
            return STORAGES[name]
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch._utils" and name == "_rebuild_parameter":
            return _rebuild_parameter
        if (module, name) == ("torch", "Size"):
            return tuple
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        return Inert

    def persistent_load(self, pid: Any) -> Any:
        match pid:
            case ("storage", np.dtype() as dtype, str() as key, _, int() as count):
                return _Storage(self._file, f"{self._root}data/{key}", dtype, count)
        return Inert()


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Any:
    """Returns a tensor, after checking that it lies within its storage."""
    numbers = [offset, *shape, *stride]
    if not isinstance(storage, _Storage) or len(shape) != len(stride):
        return Inert()
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise pickle.UnpicklingError(f"a tensor has the offset, shape and stride {numbers}")
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if math.prod(shape) and last >= storage.count:
        raise pickle.UnpicklingError(f"a tensor of shape {tuple(shape)} exceeds its storage")

    def read() -> np.ndarray:
        numbers = storage.read()[offset:]
        strides = tuple(step * storage.dtype.itemsize for step in stride)
        return np.lib.stride_tricks.as_strided(numbers, shape, strides, writeable=False)

    return Stored(tuple(shape), read)
