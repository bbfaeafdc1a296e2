"""The content of columns: sizes of pictures, lengths of sounds and texts, classes.

This module does not depend on how the data will be read in training. If there are many files, it
examines an evenly spaced sample of them.
"""

import io
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from vqdit.data.table_rows import Embedded
from vqdit.modalities.classes import shown
from vqdit.modalities.pictures import open_checked, open_picture
from vqdit.modalities.sounds import read_form

T = TypeVar("T")

SMALLEST = 8
"""Smallest useful edge of pictures in pixels."""
MOST = 2000
"""Largest number of files of a column that are examined."""
DECODED = 2**27
"""Number of pixels that are decoded to test whether pictures are grey and can be read."""
GREY = 2
"""Largest difference between the channels of a grey pixel; JPEG has rounding errors."""
ORIENTATION = 0x0112
"""EXIF tag of the orientation; values of 5 and more exchange width and height."""


class Unreadable(NamedTuple):
    """A file that cannot be read, and the reason."""

    file: Path
    why: str


File = Path | Embedded
"""A file on disk, or the bytes of a file in a Parquet table."""


class Pictures(NamedTuple):
    """Pictures: height and width of each examined picture (int [n, 2]); whether all are grey."""

    sizes: np.ndarray
    is_grey: bool


class Sounds(NamedTuple):
    """Sounds: number of samples, sampling rate and channels of each sound (int [n])."""

    samples: np.ndarray
    rates: np.ndarray
    channels: Counter[int]

    @property
    def seconds(self) -> np.ndarray:
        """Length of each sound, float [n]."""
        return self.samples / self.rates


class Texts(NamedTuple):
    """Texts: size in UTF-8 bytes of each text (int [n])."""

    lengths: np.ndarray


class Classes(NamedTuple):
    """Labels: number of examples of each class."""

    counts: Counter[str]


class Documents(NamedTuple):
    """Long texts: number of bytes of each document (int [n]), and how the text is divided.

    `documents` and `split_by` are fields of `vqdit.data.TextFiles`.
    """

    lengths: np.ndarray
    documents: Literal["file", "line", "blank_lines"]
    split_by: Literal["documents", "position"]


Facts = Pictures | Sounds | Texts | Classes | Documents
Form = Literal["image_folder", "table", "files", "texts"]
Row = Mapping[str, Any]


class Column(NamedTuple):
    """One column of the data.

    Attributes:
        name: name of the column.
        facts: kind and statistics of its values.
        given: number of examples that have a value.
        looked: number of values that were examined, which may be a sample.
        unreadable: the examined values that cannot be read.
    """

    name: str
    facts: Facts
    given: int
    looked: int
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def is_of_files(self) -> bool:
        """Whether the values are files."""
        return isinstance(self.facts, Pictures | Sounds)


class Found(NamedTuple):
    """The content of a folder or a table.

    Attributes:
        path: the folder or the file.
        form: "image_folder" (pictures, whose sub-folders are classes), "table", "files" (a folder
            in which files of the same name belong together) or "texts" (documents).
        rows: number of examples.
        train: number of examples in the training split.
        columns: the usable columns.
        unused: reasons why other columns are not used, keyed by name.
        left_out: remarks about files that are not used.
        table: the rows for a new table, which is needed if the data are not a table or vqdit cannot
            use their table unchanged; otherwise empty.
        renamed: new names of columns, by their names in the data.
    """

    path: Path
    form: Form
    rows: int
    train: int
    columns: tuple[Column, ...]
    unused: Mapping[str, str] = MappingProxyType({})
    left_out: tuple[str, ...] = ()
    table: tuple[Row, ...] = ()
    renamed: Mapping[str, str] = MappingProxyType({})


def training_rows(count: int) -> int:
    """Returns the number of training examples of `count` examples without given splits."""
    return count - 2 * (count // 10)


def sampled(values: Sequence[T]) -> list[T]:
    """Returns at most `MOST` of the values, evenly spaced."""
    if len(values) <= MOST:
        return list(values)
    return [values[row] for row in np.linspace(0, len(values) - 1, MOST).astype(int)]


def look_at_pictures(name: str, files: Sequence[File]) -> Column:
    """Reads the headers of picture files, and decodes some of them."""
    sizes, unreadable, is_grey, decoded = [], [], True, 0
    looked = sampled(files)
    for file in looked:
        try:
            content = _content(file)
            height, width = _size(content)
            if decoded + height * width <= DECODED:
                decoded += height * width
                pixels = open_picture(content, 3).astype(np.int16)
                is_grey = is_grey and bool((np.ptp(pixels, axis=-1) <= GREY).all())
        except (OSError, ValueError) as error:
            unreadable.append(_unreadable(file, error))
        else:
            sizes.append((height, width))
    facts = Pictures(np.asarray(sizes, int).reshape(-1, 2), is_grey)
    return Column(name, facts, len(files), len(looked), tuple(unreadable))


def look_at_sounds(name: str, files: Sequence[File]) -> Column:
    """Reads the headers of sound files."""
    found, unreadable = [], []
    looked = sampled(files)
    for file in looked:
        try:
            form = read_form(_content(file))
            if form.samples < 1:
                raise ValueError("the sound has no samples")
            found.append(form)
        except (OSError, ValueError) as error:
            unreadable.append(_unreadable(file, error))
    samples, rates, channels = np.asarray(found, int).reshape(-1, 3).T
    facts = Sounds(samples, rates, Counter(channels.tolist()))
    return Column(name, facts, len(files), len(looked), tuple(unreadable))


def look_at_texts(name: str, texts: Sequence[str]) -> Column:
    """Measures texts."""
    lengths = np.asarray([len(text.encode(errors="replace")) for text in texts], int)
    return Column(name, Texts(lengths), len(texts), len(texts))


def look_at_classes(name: str, classes: Sequence[str]) -> Column:
    """Counts the examples of classes."""
    return Column(name, Classes(Counter(classes)), len(classes), len(classes))


def _content(file: File) -> Path | bytes:
    """Returns a path, or the bytes of a file within a table.

    Raises:
        ValueError: the table has neither.
    """
    if isinstance(file, Path):
        return file
    content = file.read()
    if content is None:
        raise ValueError("the cell must have the bytes or the path of a file, but has neither")
    return file.file.parent / content if isinstance(content, str) else content


def _size(content: Path | bytes) -> tuple[int, int]:
    """Returns height and width of a picture in its display orientation, from its header."""
    source = content if isinstance(content, Path) else io.BytesIO(content)
    with warnings.catch_warnings(action="ignore"), open_checked(source) as opened:
        width, height = opened.size
        turned = opened.getexif().get(ORIENTATION, 1) >= 5
        return (width, height) if turned else (height, width)


def _unreadable(file: File, error: Exception) -> Unreadable:
    """Returns an `Unreadable` with an error's message, from which the file's path is removed."""
    why = str(getattr(error, "why", None) or getattr(error, "strerror", None) or error)
    if isinstance(file, Embedded):
        return Unreadable(file.file, f"row {file.row + 1} of group {file.group + 1}: {why}")
    why = why.removeprefix(f"cannot decode the sound {shown(file)}: ").partition(";")[0]
    return Unreadable(file, why.replace(f"'{file}'", "it").replace(str(file), "it"))
