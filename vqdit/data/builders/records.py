"""Writes examples as a TFDS data set in array_record files, without TensorFlow.

Arrays are compressed with zlib, large images are stored as PNG, and scalars are stored as they are.
"""

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vqdit.data.builders.description import DESCRIPTION, VERSION, described
from vqdit.data.builders.reader import lengths_file, sizes
from vqdit.data.sources import PRESENT, Feature
from vqdit.files import write_json
from vqdit.typing import Named

FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT), "disk space")
"""Phrases in which the operating system and TFDS report a full disk."""
MARK = ".vqdit-writing"
"""The file in a data set that is being written."""

Example = Mapping[str, Any] | str
"""The values of an example, or a remark in its place, such as what was left out and why."""


def write(
    folder: Path, name: str, features: Named[Feature], splits: Mapping[str, Iterable[Example]]
) -> None:
    """Writes a data set into `folder`; an error leaves no folder behind.

    Args:
        folder: where to write the data set; must not exist yet.
        name: name of the data set.
        features: feature of every column. Columns of dtype uint8 with three axes and at least
            64 x 64 pixels are stored as PNG.
        splits: examples of every split; the value of a column that an example lacks is None.

    Raises:
        OSError: if the folder cannot be written.
        ValueError: if a split is empty, a column is too large, or a value does not fit the dtype
            of its column.
    """
    columns = described(features)
    with _temporary(folder) as temporary:
        digests = {split: hashlib.sha256() for split in splits}
        labels = {
            column: {split: [0] * feature.classes for split in splits}
            for column, feature in features.items()
            if feature.classes
        }
        remarks: list[str] = []
        ragged = [column for column, feature in features.items() if feature.ragged]
        lengths = {(column, split): [] for column in ragged for split in splits}
        builder = _builder(temporary, name, features, splits, digests, labels, lengths, remarks)
        with contextlib.redirect_stdout(io.StringIO()):  # hides messages of TFDS about downloads
            builder.download_and_prepare(file_format="array_record")
        shutil.rmtree(temporary / "downloads", ignore_errors=True)  # TFDS creates this empty folder
        (temporary / MARK).unlink()
        for place, found in lengths.items():
            np.save(temporary / lengths_file(*place), np.asarray(found, np.int32))
        counts = {split: builder.info.splits[split].num_examples for split in splits}
        description = {
            "name": name,
            "version": VERSION,
            "features": columns,
            "splits": counts,
            "labels": labels,
            "remarks": remarks,
            "checksum": _combined(digests),
            "files": sizes(temporary),
        }
        write_json(temporary / DESCRIPTION, description)
        try:
            os.rename(temporary, folder)
        except OSError:
            if not (
                folder / DESCRIPTION
            ).is_file():  # otherwise another process has written the same data
                raise


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """Yields a new folder beside `folder`, and removes it at the end.

    The file MARK in the new folder is locked while the folder is in use. Folders whose MARK is not
    locked, as their processes were killed, are removed first.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder.parent)
        temporary, lock = _locked(folder)
    except OSError as error:
        raise OSError(
            f"cannot prepare data in {folder.parent}: {error.strerror}; "
            "set VQDIT_DATA to a writable folder"
        ) from error
    try:
        yield temporary
    except (OSError, RuntimeError) as error:  # array_record raises RuntimeError
        if any(message in str(error) for message in FULL):
            raise OSError(
                f"the disk of {folder.parent} is full; free some space, or choose another folder"
            ) from error
        if isinstance(error, RuntimeError):
            raise OSError(f"cannot write data in {folder.parent}: {error}") from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(lock)


def _locked(folder: Path) -> tuple[Path, int]:
    """Makes a temporary folder and locks its MARK."""
    while True:
        temporary = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
        temporary.mkdir()
        lock = os.open(temporary / MARK, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        with contextlib.suppress(OSError):  # some network disks have no locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        if temporary.is_dir():
            return temporary, lock
        os.close(lock)  # another process removed the folder as a leftover before it was locked


def _remove_leftovers(parent: Path) -> None:
    for mark in parent.glob(f".*-*/{MARK}"):
        with contextlib.suppress(OSError):  # in use
            lock = os.open(mark, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(mark.parent)
            finally:
                os.close(lock)


def _builder(
    folder: Path,
    name: str,
    features: Named[Feature],
    splits: Mapping[str, Iterable[Example]],
    digests: Mapping[str, Any],
    labels: Mapping[str, Mapping[str, list[int]]],
    lengths: Mapping[tuple[str, str], list[int]],
    remarks: list[str],
) -> Any:
    """Returns the TFDS builder; writing fills `digests`, `labels`, `lengths` and `remarks`."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    columns: dict[str, Any] = {}
    for column, feature in features.items():
        if not feature.shape:
            columns[column] = tfds.features.Tensor(shape=(), dtype=feature.stored)
        elif _is_picture(feature):
            columns[column] = tfds.features.Image(shape=feature.shape, encoding_format="png")
        else:
            shape = (None, *feature.shape[1:]) if feature.ragged else feature.shape
            columns[column] = tfds.features.Tensor(
                shape=shape, dtype=feature.stored, encoding=tfds.features.Encoding.ZLIB
            )
        columns[PRESENT + column] = tfds.features.Tensor(shape=(), dtype=np.bool_)

    def encode(example: Mapping[str, Any], split: str) -> dict[str, Any]:
        encoded: dict[str, Any] = {}
        for column, feature in features.items():
            value = example.get(column)
            encoded[PRESENT + column] = np.bool_(value is not None)
            value = np.asarray(feature.blank(1)[0] if value is None else value)
            value = _converted(value, feature.stored, column)
            digests[split].update(encoded[PRESENT + column].tobytes() + value.tobytes())
            if feature.ragged:
                _check_length(value, feature, column)
                digests[split].update(f"length {len(value)}\n".encode())
                lengths[column, split].append(len(value))
            if column in labels and encoded[PRESENT + column]:
                labels[column][split][int(value)] += 1
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
            for example in splits[split]:
                if isinstance(example, str):
                    remarks.append(example.encode(errors="backslashreplace").decode())
                else:
                    count += 1
                    yield count, encode(example, split)
            if not count:
                raise ValueError(f"the split {split!r} of {name} has no examples; add some")

    Builder.name = name
    return Builder(data_dir=folder)


def _check_length(value: np.ndarray, feature: Feature, column: str) -> None:
    most, rest = feature.shape[0], feature.shape[1:]
    if value.shape[1:] != rest or len(value) > most:
        raise ValueError(
            f"an example of the column {column!r} has the shape {list(value.shape)}, but at "
            f"most {most} positions of shape {list(rest)} are possible"
        )


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
    """Returns a checksum of the examples that does not depend on how the files store them."""
    lines = "".join(f"{split} {digests[split].hexdigest()}\n" for split in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]
