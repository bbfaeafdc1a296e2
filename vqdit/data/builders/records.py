"""Writes examples as a TFDS data set in array_record files and reads them, without TensorFlow.

Arrays are compressed with zlib, large images are stored as PNG, and scalars are stored as they are.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vqdit.data.sources import PRESENT, Arrays, Feature
from vqdit.typing import Named

REMEMBER = 512 * 2**20
"""Splits up to this size in bytes are kept in memory after they are read."""
DESCRIPTION = "vqdit.json"
VERSION = "1.0.0"
REMEDY = "put back a copy, or remove the folder and prepare or encode the data again"

Example = Mapping[str, Any]


class DamagedData(OSError):
    """Raised if prepared data are missing, incomplete or unreadable."""


def write(
    folder: Path, name: str, features: Named[Feature], splits: Mapping[str, Iterable[Example]]
) -> None:
    """Writes a data set into `folder`; an error leaves no folder behind.

    Args:
        folder: where to write the data set; must not exist yet.
        name: name of the data set.
        features: feature of every column. Columns of dtype uint8 with three axes and at least
            64 x 64 pixels are stored as PNG.
        splits: examples of every split; None marks a missing column.

    Raises:
        OSError: if the folder cannot be written.
        ValueError: if a split is empty, or a value does not fit the dtype of its column.
    """
    temporary = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise OSError(
            f"cannot prepare data in {folder.parent}: {error.strerror}; "
            "set VQDIT_DATA to a writable folder"
        ) from error
    try:
        digests = {split: hashlib.sha256() for split in splits}
        builder = _builder(temporary, name, features, splits, digests)
        with contextlib.redirect_stdout(io.StringIO()):  # hides messages of TFDS about downloads
            builder.download_and_prepare(file_format="array_record")
        shutil.rmtree(temporary / "downloads", ignore_errors=True)  # TFDS creates this empty folder
        counts = {split: builder.info.splits[split].num_examples for split in splits}
        description = {
            "name": name,
            "version": VERSION,
            "features": {column: _described(feature) for column, feature in features.items()},
            "splits": counts,
            "checksum": _combined(digests),
            "files": _sizes(temporary),
        }
        (temporary / DESCRIPTION).write_text(json.dumps(description, indent=2))
        try:
            os.rename(temporary, folder)
        except OSError:
            if not (folder / DESCRIPTION).is_file():  # else another process has written the same
                raise
    except OSError as error:
        if error.errno != errno.ENOSPC and "disk space" not in str(error):  # TFDS's own message
            raise
        raise OSError(
            f"the disk of {folder.parent} is full; free some space, or choose another folder"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_prepared(folder: Path) -> bool:
    """Returns whether the folder holds a data set that `write` completed."""
    return (folder / DESCRIPTION).is_file()


def describe(folder: Path) -> dict[str, Any]:
    """Returns the name, version, features, split sizes and checksum of a prepared data set.

    Raises:
        DamagedData: if the description of the data set cannot be read.
    """
    with reading(f"{folder / DESCRIPTION}"):
        return json.loads((folder / DESCRIPTION).read_text())


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Converts any error raised while reading prepared data to DamagedData.

    Args:
        what: name of the data that are read, for the error message.
    """
    try:
        yield
    except DamagedData:
        raise
    except Exception as error:  # array_record, protobuf, zlib and Pillow raise various errors
        why = (str(error).strip().splitlines() or [""])[0][:200]
        raise DamagedData(
            f"prepared data are damaged: {what} cannot be read ({type(error).__name__}: {why}); "
            f"{REMEDY}"
        ) from error


def features_of(folder: Path) -> Named[Feature]:
    """Returns the features of a prepared data set."""
    return Named(
        {
            name: Feature(**(fields | {part: tuple(fields[part]) for part in ("shape", "names")}))
            for name, fields in describe(folder)["features"].items()
        }
    )


class Records:
    """One split of a prepared data set. Small splits are read once and then kept in memory.

    Raises:
        DamagedData: at construction if files are missing or have a wrong size; in `take` if an
            example cannot be read.
    """

    def __init__(self, folder: Path, split: str) -> None:
        import tensorflow_datasets as tfds

        self.features, description = features_of(folder), describe(folder)
        _check_sizes(folder, description.get("files", {}))
        self._what = f"the split {split!r} in {folder}"
        with reading(self._what):
            builder = tfds.builder_from_directory(folder / description["name"] / VERSION)
            self._source = builder.as_data_source(split)  # pyright: ignore
        size = sum(
            int(np.prod(feature.shape)) * feature.stored.itemsize
            for feature in self.features.values()
        )
        self._cache: Arrays | None = None
        self._read = np.zeros(0, bool)
        if size * len(self._source) <= REMEMBER:
            self._cache = _blank(self.features, len(self._source))
            self._read = np.zeros(len(self._source), bool)

    def __len__(self) -> int:
        return len(self._source)

    def take(self, rows: np.ndarray) -> Arrays:
        if self._cache is None:
            arrays = _blank(self.features, len(rows))
            self._fill(arrays, np.arange(len(rows)), rows)
            return arrays
        unread = np.unique(rows[~self._read[rows]])
        if len(unread):
            self._fill(self._cache, unread, unread)
            self._read[unread] = True
        return {name: values[rows] for name, values in self._cache.items()}

    def _fill(self, arrays: Arrays, places: np.ndarray, rows: np.ndarray) -> None:
        with reading(self._what):
            found = self._source.__getitems__(rows.tolist())
        for place, record in zip(places, found, strict=True):
            for name, value in record.items():
                if name in arrays:
                    arrays[name][place] = value


def _sizes(folder: Path) -> dict[str, int]:
    """Returns the size in bytes of every file in a folder, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


def _check_sizes(folder: Path, expected: Mapping[str, int]) -> None:
    """Raises DamagedData unless all files have the expected sizes; does not read their content."""
    found = _sizes(folder)
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


def _described(feature: Feature) -> dict[str, Any]:
    """Returns a feature as JSON; omits dtype and encoded if empty, as older data sets do."""
    fields = feature._asdict()
    return {key: fields[key] for key in fields if key not in ("dtype", "encoded") or fields[key]}


def _blank(features: Named[Feature], count: int) -> Arrays:
    arrays: Arrays = {}
    for name, feature in features.items():
        arrays[name] = np.zeros((count, *feature.shape), feature.stored)
        arrays[PRESENT + name] = np.zeros(count, bool)
    return arrays


def _builder(
    folder: Path,
    name: str,
    features: Named[Feature],
    splits: Mapping[str, Iterable[Example]],
    digests: Mapping[str, Any],
) -> Any:
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    columns: dict[str, Any] = {}
    for column, feature in features.items():
        if not feature.shape:
            columns[column] = tfds.features.Tensor(shape=(), dtype=feature.stored)
        elif _is_picture(feature):
            columns[column] = tfds.features.Image(shape=feature.shape, encoding_format="png")
        else:
            columns[column] = tfds.features.Tensor(
                shape=feature.shape, dtype=feature.stored, encoding=tfds.features.Encoding.ZLIB
            )
        columns[PRESENT + column] = tfds.features.Tensor(shape=(), dtype=np.bool_)

    def encode(example: Example, digest: Any) -> dict[str, Any]:
        encoded: dict[str, Any] = {}
        for column, feature in features.items():
            value = example.get(column)
            encoded[PRESENT + column] = np.bool_(value is not None)
            value = np.zeros(feature.shape) if value is None else np.asarray(value)
            value = _converted(value, feature.stored, column)
            digest.update(encoded[PRESENT + column].tobytes() + value.tobytes())
            encoded[column] = _png(value) if _is_picture(feature) else value
        return encoded

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # pyright: ignore
        VERSION = tfds.core.Version(VERSION)

        def _info(self) -> Any:
            return self.dataset_info_from_configs(
                features=tfds.features.FeaturesDict(columns), disable_shuffling=True
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            del dl_manager
            return {split: self._generate_examples(split) for split in splits}

        def _generate_examples(self, split: str) -> Any:
            count = 0
            for count, example in enumerate(splits[split], 1):
                yield count, encode(example, digests[split])
            if not count:
                raise ValueError(f"the split {split!r} of {name} has no examples")

    Builder.name = name
    return Builder(data_dir=folder)


def _converted(value: np.ndarray, dtype: np.dtype, column: str) -> np.ndarray:
    converted = value.astype(dtype)
    if (converted != value).any():
        raise ValueError(
            f"the column {column!r} is stored as {dtype}, which cannot hold its {value.dtype} "
            f"values from {value.min()} to {value.max()}; give its Feature another dtype"
        )
    return converted


def _is_picture(feature: Feature) -> bool:
    large = len(feature.shape) == 3 and feature.shape[0] * feature.shape[1] >= 64 * 64
    return large and feature.stored == np.uint8


def _png(pixels: np.ndarray) -> io.BytesIO:
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.save(buffer, "PNG", compress_level=3)
    buffer.seek(0)
    return buffer


def _combined(digests: Mapping[str, Any]) -> str:
    """Returns a checksum of the examples, which does not depend on how the files store them."""
    lines = "".join(f"{split} {digests[split].hexdigest()}\n" for split in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]
