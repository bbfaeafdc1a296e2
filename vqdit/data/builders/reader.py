"""Reads prepared data sets. Only the description of a data set determines its types and sizes.

TFDS does not read them, because it imports every module that a `features.json` names, and because
its decoders accept a picture of any format and size.
"""

import hashlib
import io
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vqdit.data.builders.description import (
    REMEDY,
    VERSION,
    DamagedData,
    check_size,
    describe,
    features_of,
    reading,
)
from vqdit.data.sources import PRESENT, Arrays, Feature
from vqdit.typing import Named

REMEMBER = 512 * 2**20
"""Splits up to this size in bytes are kept in memory after they are read."""
PNG = b"\x89PNG"


class Records:
    """One split of a prepared data set. Small splits are read once and then kept in memory.

    Raises:
        DamagedData: at construction if files are missing or have a wrong size; in `take` if an
            example cannot be read.
    """

    def __init__(self, folder: Path, split: str) -> None:
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        self.features, description = features_of(folder), describe(folder)
        _check_files(folder, description.get("files", {}))
        self._what, self._folder, self._split = f"the split {split!r} in {folder}", folder, split
        name, count = description["name"], description["splits"].get(split)
        with reading(self._what):
            files = sorted((folder / name / VERSION).glob(f"{name}-{split}.array_record-*"))
            self._source = ArrayRecordDataSource([str(file) for file in files])
            if len(self._source) != count:
                raise ValueError(f"only {len(self._source)} of {count} examples exist")
        size = sum(check_size(*column) for column in self.features.items())
        self._cache: Arrays | None = None
        self._read = np.zeros(0, bool)
        if size * len(self) <= REMEMBER:
            self._cache = _blank(self.features, len(self))
            self._read = np.zeros(len(self), bool)

    def __len__(self) -> int:
        return len(self._source)

    def lengths(self, name: str) -> np.ndarray:
        """Returns the length of every example of a ragged column: int32 [n]."""
        with reading(f"the lengths of {self._what}"):
            found = np.load(self._folder / lengths_file(name, self._split), allow_pickle=False)
            if found.shape != (len(self),) or found.dtype != np.int32:
                raise ValueError(
                    f"the file must have {len(self)} lengths of type int32, got "
                    f"{found.dtype}{found.shape}"
                )
            longest = self.features[name].shape[0]
            if len(found) and not 0 <= found.min() <= found.max() <= longest:
                raise ValueError(f"all lengths must be from 0 to {longest}")
            return found

    def take(self, rows: np.ndarray) -> Arrays:
        if self._cache is None:
            return self._filled(None, np.arange(len(rows)), rows)
        unread = np.unique(rows[~self._read[rows]])
        if len(unread):
            self._filled(self._cache, unread, unread)
            self._read[unread] = True
        return {name: values[rows] for name, values in self._cache.items()}

    def _filled(self, arrays: Arrays | None, places: np.ndarray, rows: np.ndarray) -> Arrays:
        """Reads examples `rows` into rows `places` of arrays; makes the arrays if they are None."""
        with reading(self._what):
            examples = self._source.__getitems__(rows.tolist())
            decoded = [_decode(example, self.features) for example in examples]
        arrays = _blank(self.features, len(rows)) if arrays is None else arrays
        for place, example in zip(places, decoded, strict=True):
            for name, value in example.items():
                arrays[name][place] = value
        return arrays


def _decode(serialized: bytes, features: Named[Feature]) -> dict[str, Any]:
    """Decodes a `tf.train.Example` that `records.write` has written."""
    from tensorflow_datasets.proto import tf_example_pb2

    stored = tf_example_pb2.Example.FromString(serialized).features.feature  # pyright: ignore
    decoded: dict[str, Any] = {}
    for name, feature in features.items():
        decoded[PRESENT + name] = bool(stored[PRESENT + name].int64_list.value[0])
        value = stored[name]
        if feature.shape:
            decoded[name] = _array(value.bytes_list.value[0], feature)
        else:
            decoded[name] = (value.int64_list.value or value.float_list.value)[0]
            if feature.classes and not -1 <= decoded[name] < feature.classes:  # -1: no label
                raise ValueError(
                    f"{name} is class {decoded[name]}, but there are {feature.classes} classes"
                )
    return decoded


def _array(content: bytes, feature: Feature) -> np.ndarray:
    """Decodes an array; decompresses no more bytes than the feature's shape and dtype imply."""
    from PIL import Image

    if content.startswith(PNG):
        picture = Image.open(io.BytesIO(content), formats=("PNG",))
        if picture.size != feature.shape[1::-1]:
            raise ValueError(
                f"a picture has the size {picture.size}, but its column has the shape "
                f"{feature.shape}"
            )
        return np.asarray(picture).reshape(feature.shape)
    size = math.prod(feature.shape) * feature.stored.itemsize
    inflater = zlib.decompressobj()
    inflated = inflater.decompress(content, size + 1)
    is_right = len(inflated) <= size if feature.ragged else len(inflated) == size
    if not is_right or not inflater.eof:
        most = "at most " if feature.ragged else ""
        raise ValueError(f"an array has another size than its column, which is {most}{size} bytes")
    shape = (-1, *feature.shape[1:]) if feature.ragged else feature.shape
    return np.frombuffer(inflated, feature.stored).reshape(shape)


def lengths_file(column: str, split: str) -> str:
    """Returns the name of the file with the lengths of a ragged column's examples."""
    return f"lengths_{hashlib.sha256(column.encode()).hexdigest()[:16]}_{split}.npy"


def sizes(folder: Path) -> dict[str, int]:
    """Returns the size in bytes of every file in a folder, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


def _check_files(folder: Path, expected: Mapping[str, int]) -> None:
    """Raises DamagedData unless all files have the expected sizes; does not read their content."""
    found = sizes(folder)
    wrong = [name for name, size in expected.items() if found.get(name) != size]
    if wrong:
        is_there = wrong[0] in found
        size = (
            f"has {found[wrong[0]]:,} of {expected[wrong[0]]:,} bytes" if is_there else "is missing"
        )
        more = f", and {len(wrong) - 1} more files are wrong" if len(wrong) > 1 else ""
        raise DamagedData(
            f"prepared data are damaged: in {folder}, {wrong[0]} {size}{more}; {REMEDY}"
        )


def _blank(features: Named[Feature], count: int) -> Arrays:
    arrays: Arrays = {}
    for name, feature in features.items():
        arrays[name] = feature.blank(count)
        arrays[PRESENT + name] = np.zeros(count, bool)
    return arrays
