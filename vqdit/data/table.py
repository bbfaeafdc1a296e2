"""Data from a table: a CSV, JSON Lines or Parquet file with one example per row.

Every column is a modality; an empty cell means that the example lacks the modality.
"""

import dataclasses
import difflib
import hashlib
import itertools
import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vqdit.data.batch import GIVEN
from vqdit.data.recorded import Recorded
from vqdit.data.sources import MIRRORED, OPTION, PRESENT, SPLITS, Feature, divide
from vqdit.data.table_rows import ENDINGS, Embedded, Row, check_cell, is_given, read_rows
from vqdit.files import local_path
from vqdit.modalities import Audio, Image, Label, Modality, Text
from vqdit.modalities.base import LeftOut, Value
from vqdit.modalities.label import class_of
from vqdit.modalities.pictures import check_form
from vqdit.typing import Named, resumable

COLUMNS = ("image", "audio", "text", "label")
"""The columns of a table whose columns are not named."""
SPLIT = "split"
SHOWN = 20
"""Largest number of columns that an error names."""

log = logging.getLogger(__name__)


class Table(Recorded):
    """Rows of a .jsonl, .csv or .parquet file, whose columns are modalities.

    A column of pictures or sounds holds paths, absolute or relative to the table, or the bytes of
    files (Parquet). A column of a `Label` holds the names or numbers of classes; if the label has
    no names, the classes are the values that occur, sorted as numbers if all are whole numbers,
    else as text. Other columns of the table are not read. Without `columns`, the table has any of
    the columns `image`, `audio`, `text` and `label`, and no others.

    An optional column `split` assigns each row to train, validation or test. Without this column,
    10 % of the rows go to validation and 10 % to test. Rows without any value are left out.

    Attributes:
        path: path of the table.
        columns: modality of every column by the column's name; the same that the task uses.
        size: without `columns`: edge of the square to which each image is cropped and resized.
        channels: without `columns`: 1 for grey images, 3 for colour.
        samples: without `columns`: length of every sound in samples.
        rate: without `columns`: sampling rate of every sound in Hz.
        length: without `columns`: largest length of a text in bytes.
    """

    path: str = resumable("rows.jsonl")
    columns: Named[Modality] = Named()
    size: int = 64
    channels: int = 3
    samples: int = 8000
    rate: int = 8000
    length: int = 64

    def __post_init__(self) -> None:
        check_form(self, self.size, self.channels)
        for name in ("samples", "rate", "length"):
            if getattr(self, name) < 1:
                raise ValueError(f"Table needs {name} >= 1, got {getattr(self, name)}")
        for name in self.columns:
            if name == SPLIT or name.startswith(PRESENT) or name.endswith((MIRRORED, GIVEN)):
                raise ValueError(f"Table cannot have the column {name!r}, a name that vqdit uses")

    def key(self) -> str:
        file, (rows, empty) = self._file(), self._rows()
        form: Any = (self.size, self.channels, self.samples, self.rate, self.length)
        if self.columns:
            form = [f"{name}={_set(one)}" for name, one in self.columns.items()]
        digest = hashlib.sha256(os.fsencode(file.resolve()) + f" {form}\n".encode())
        digest.update(_content(file))
        files = [name for name, one in self._modalities().items() if one.reads_files]
        for row, column in itertools.product(rows, files):
            if is_given(row, column) and isinstance(row.cells[column], str):
                named = self._named(row.cells[column])
                if named.is_file():
                    stat = named.stat()
                    digest.update(f"{stat.st_size} {stat.st_mtime_ns}\n".encode())
        if empty:  # data that were prepared when empty rows were examples are not used any more
            digest.update(b"without empty rows")
        return f"table_{digest.hexdigest()[:16]}"

    def raw_features(self) -> Named[Feature]:
        modalities = self._complete(self._divided(self._rows()[0]))
        return Named({name: _feature(modality) for name, modality in modalities.items()})

    def examples(self) -> Mapping[str, Iterable[Mapping[str, Any] | str]]:
        rows, empty = self._rows()
        if empty:
            log.warning("%s: %d empty row(s) are left out", self.path, empty)
        parts = self._divided(rows)
        modalities, is_divided = self._complete(parts), any(is_given(row, SPLIT) for row in rows)
        for split, column in itertools.product(SPLITS, modalities):
            if not any(is_given(row, column) for row in parts[split]):
                is_label = isinstance(modalities[column], Label)
                self._miss(column, split, refuse=is_divided and not is_label)
        changes: Counter[str] = Counter()
        found = {split: self._read(part, modalities, changes) for split, part in parts.items()}
        return found | {SPLITS[-1]: itertools.chain(found[SPLITS[-1]], _summary(changes))}

    def _divided(self, rows: list[Row]) -> dict[str, list[Row]]:
        """Divides rows by the column `split`; at random if there is none."""
        if not any(is_given(row, SPLIT) for row in rows):
            return self._at_random(rows)
        parts: dict[str, list[Row]] = {split: [] for split in SPLITS}
        for row in rows:
            split = str(row.cells[SPLIT]) if is_given(row, SPLIT) else ""
            if split not in parts:
                raise ValueError(
                    f"{row.place}: unknown split {split!r}; one of: {', '.join(SPLITS)}"
                )
            parts[split].append(row)
        for split, part in parts.items():
            if not part:
                raise ValueError(
                    f"{self.path} has no row of the {split} split; add some, or remove the "
                    "column split"
                )
        return parts

    def _at_random(self, rows: list[Row]) -> dict[str, list[Row]]:
        """Divides rows at random, so that every class of the first label has its share of each."""
        modalities = self._modalities().items()
        label = next((name for name, modality in modalities if isinstance(modality, Label)), "")
        classes = [
            class_of(row.cells[label], row.place) if is_given(row, label) else "" for row in rows
        ]
        numbers = divide(len(rows), self.path, classes if any(classes) else [])
        return {split: [rows[number] for number in numbers[split]] for split in SPLITS}

    def _miss(self, column: str, split: str, *, refuse: bool) -> None:
        """Raises ValueError if a split cannot do without a column, else logs a warning."""
        fault = f"{self.path} has no {column} in any row of the {split} split"
        if split == "train" or (split == "validation" and refuse):
            raise ValueError(f"{fault}; add some, by the column split, or remove the column")
        log.warning("%s, so there will be no metrics of it", fault)

    def _read(
        self, rows: list[Row], modalities: Mapping[str, Modality], changes: Counter[str]
    ) -> Iterator[Mapping[str, Any]]:
        """Reads rows, and counts what was done to their values."""
        for row in rows:
            example, done, name = {}, [], ""
            try:
                for name, modality in modalities.items():
                    if (value := self._value(row, name, modality)) is not None:
                        cell = modality.read_cell(value)
                        done += [f"{name}: {change}" for change in cell.changes]
                        example[name] = cell.stored
            except FileNotFoundError as error:
                raise FileNotFoundError(f"{row.place}, {name}: {error}") from error
            except LeftOut as error:
                changes[f"{name}: left out, {error}"] += 1
                continue
            except ValueError as error:
                raise ValueError(f"{row.place}, {name}: {error}") from error
            changes.update(done)
            yield example

    def _value(self, row: Row, column: str, modality: Modality) -> Value | None:
        """Returns what a modality reads of a cell; None if there is nothing."""
        if not is_given(row, column):
            return None
        value = row.cells[column]
        value = value.read() if isinstance(value, Embedded) else value
        return self._named(value) if modality.reads_files and isinstance(value, str) else value

    def _named(self, name: str) -> Path:
        """Returns the file that a cell names; Unicode's other form of its name is one name."""
        file = self._file().parent / name
        if not file.exists():
            for form in ("NFC", "NFD"):
                other = Path(unicodedata.normalize(form, str(file)))
                if other.exists():
                    return other
        return file

    def _file(self) -> Path:
        file = local_path(self.path)
        if not file.is_file():
            raise FileNotFoundError(
                f"no table {file}; give the path of a .jsonl, .csv or .parquet file {OPTION}"
            )
        if file.suffix.lower() not in ENDINGS:
            raise ValueError(f"the table {file} must end in .jsonl, .csv or .parquet")
        return file

    def _modalities(self) -> dict[str, Modality]:
        """Returns the modalities of all columns that the table may have."""
        if self.columns:
            return dict(self.columns)
        return {
            "image": Image(size=(self.size, self.size), channels=self.channels),
            "audio": Audio(samples=self.samples, rate=self.rate),
            "text": Text(length=self.length),
            "label": Label(classes=1),  # as many as there are
        }

    def _complete(self, parts: Mapping[str, list[Row]]) -> dict[str, Modality]:
        """Returns the modality of every column that has values, with what only the data know."""
        found = {}
        for name, modality in self._modalities().items():
            train, *others = (
                [(row.place, row.cells[name]) for row in parts[split] if is_given(row, name)]
                for split in SPLITS
            )
            if train or any(others):
                found[name] = modality.complete(train, itertools.chain(*others))
            elif self.columns:
                raise ValueError(f"{self.path} has no value in its column {name!r}; remove it")
        return dict(Named(found))

    def _rows(self) -> tuple[list[Row], int]:
        """Returns the rows that have a value, and the number of empty rows."""
        modalities = self._modalities()
        names, rows = read_rows(self._file(), {*modalities, SPLIT})
        unknown = {*names} - {*modalities, SPLIT}
        if unknown and not self.columns:
            name = min(unknown)
            hint = "; cells are separated by commas" if ";" in name or "\t" in name else ""
            raise ValueError(
                f"{self.path} has the unknown column {name[:100]!r}; known columns: "
                f"{', '.join(COLUMNS)}, {SPLIT} (name others by the table's columns){hint}"
            )
        for name in self.columns:
            if name not in names:
                close = difflib.get_close_matches(name, names, n=1)
                raise ValueError(
                    f"{self.path} has no column {name!r}"
                    f"{f'; nearest: {close[0]!r}' if close else ''}; it has: "
                    f"{', '.join(ascii(known)[1:-1][:100] for known in names[:SHOWN])}"
                )
        for row in rows:
            for column, modality in modalities.items():
                check_cell(row, column, is_file=modality.reads_files)
            check_cell(row, SPLIT, is_file=False)
        filled = [row for row in rows if any(is_given(row, column) for column in modalities)]
        if not filled:
            raise ValueError(
                f"{self.path} has no values in the columns {', '.join(modalities)}; fill at least "
                "one"
            )
        return filled, len(rows) - len(filled)


def _content(file: Path) -> bytes:
    """Returns what differs between versions of a table; Parquet files may be too large to read."""
    if file.suffix.lower() != ".parquet":
        return file.read_bytes()
    stat = file.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}\n".encode()


def _summary(changes: Counter[str]) -> Iterator[str]:
    """Yields a line for everything that was done to values."""
    for change, count in sorted(changes.items()):
        yield f"{change}: {count:,}"


def _set(modality: Modality) -> str:
    """Returns a modality as text, without fields that have their default value."""
    fields = dataclasses.fields(modality)
    values = {field.name: getattr(modality, field.name) for field in fields}
    given = [f"{f.name}={values[f.name]!r}" for f in fields if values[f.name] != f.default]
    return f"{type(modality).__name__}({', '.join(given)})"


def _feature(modality: Modality) -> Feature:
    feature = Feature(modality.shape, ragged=modality.lengths is not None)
    if isinstance(modality, Label):
        feature = feature._replace(classes=modality.classes, names=modality.names)
    if isinstance(modality, Text):
        feature = feature._replace(units=modality.units.learned)
    if feature.stored != modality.dtype:
        feature = feature._replace(dtype=modality.dtype.name)
    return feature
