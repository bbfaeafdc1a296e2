"""Data from a table: CSV, JSON Lines or Parquet files with one example per row.

Every column is a modality; an empty cell means that the example lacks the modality.
"""

import hashlib
import itertools
import os
import unicodedata
from pathlib import Path
from typing import Any

from vqdit.data.row_source import RowSource, form
from vqdit.data.sources import Feature
from vqdit.data.table_columns import SPLIT, check_name, missing
from vqdit.data.table_files import content, folder_of, read_table, table_files
from vqdit.data.table_rows import Row, check_cell, is_given
from vqdit.files import local_path
from vqdit.modalities import Audio, Image, Label, Modality, Text
from vqdit.modalities.pictures import check_form
from vqdit.typing import Named, resumable

COLUMNS = ("image", "audio", "text", "label")
"""The columns of a table if the config names none."""


class Table(RowSource):
    """Rows of .jsonl, .csv or .parquet files, whose columns are modalities.

    A column of pictures or sounds holds paths, absolute or relative to the table, or the bytes of
    files (Parquet). A column of a `Label` holds the names or numbers of classes. If the label has
    no names, the values that occur in the table are the classes, sorted as numbers if all are whole
    numbers, else as text. Columns that `columns` does not name are not read. If `columns` is empty,
    the table may have the columns `image`, `audio`, `text` and `label`, and no others.

    An optional column `split` assigns each row to train, validation or test. Without this column,
    10 % of the rows go to validation and 10 % to test. Rows without any value are left out.

    A table may be a folder of files, like data sets of the Hugging Face hub. The split of a file is
    then the beginning of its name, which must be train, validation or test, as in
    train-00000-of-00004.parquet. If the folder has no validation or test files, 10 % of the rows of
    train are used for each.

    Attributes:
        path: path of the table, or of a folder with its files.
        columns: modality of every column, keyed by the name of the column; the task must have the
            same.
        headers: names of columns in the file, where they differ from the names in `columns`, such
            as label_text="label text".
        size: without `columns`: edge of the square to which each image is cropped and resized.
        channels: without `columns`: 1 for grey images, 3 for colour.
        samples: without `columns`: length of every sound in samples.
        rate: without `columns`: sampling rate of every sound in Hz.
        length: without `columns`: largest length of a text in bytes.
    """

    path: str = resumable("rows.jsonl")
    columns: Named[Modality] = Named()
    headers: Named[str] = Named()
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
            check_name(name)
        for name in self.headers:
            if name not in (known := {*self.column_modalities(), SPLIT}):
                raise ValueError(
                    f"headers has the column {name!r}, which is not in columns; columns has: "
                    f"{', '.join(sorted(known))}"
                )

    @property
    def shown(self) -> str:
        return self.path

    @property
    def needs_all(self) -> bool:
        return bool(self.columns)

    @property
    def may_lack_splits(self) -> bool:
        return any(table_files(self.path).values())

    def key(self) -> str:
        place, (rows, empty) = local_path(self.path), self.rows()
        how: Any = (self.size, self.channels, self.samples, self.rate, self.length)
        if self.columns:
            how = [f"{name}={form(one)}" for name, one in self.columns.items()]
        how = [how, dict(self.headers)] if self.headers else how
        digest = hashlib.sha256(os.fsencode(place.resolve()) + f" {how}\n".encode())
        for file in table_files(self.path):
            digest.update(content(file))
        files = [name for name, one in self.column_modalities().items() if one.reads_files]
        for row, column in itertools.product(rows, files):
            if is_given(row, column) and isinstance(row.cells[column], str):
                named = self.file_of(row.cells[column])
                if named.is_file():
                    stat = named.stat()
                    digest.update(f"{stat.st_size} {stat.st_mtime_ns}\n".encode())
        if empty:  # invalidates data that were prepared when empty rows still counted as examples
            digest.update(b"without empty rows")
        return f"table_{digest.hexdigest()[:16]}"

    def announced(self) -> Named[Feature]:
        known = self.is_prepared() or self.columns  # some columns are learned from the data first
        return self.features() if known else self.raw_features()

    def file_of(self, name: str) -> Path:
        """Returns the file that a cell names; the name may be in another Unicode normal form."""
        file = folder_of(self.path) / name
        if not file.exists():
            for form in ("NFC", "NFD"):
                other = Path(unicodedata.normalize(form, str(file)))
                if other.exists():
                    return other
        return file

    def column_modalities(self) -> dict[str, Modality]:
        """Returns the modalities of all columns that the table may have."""
        if self.columns:
            return dict(self.columns)
        return {
            "image": Image(size=(self.size, self.size), channels=self.channels),
            "audio": Audio(samples=self.samples, rate=self.rate),
            "text": Text(length=self.length),
            "label": Label(classes=1),  # as many classes as the table has
        }

    def rows(self) -> tuple[list[Row], int]:
        """Returns the rows that have a value, and the number of empty rows."""
        modalities = self.column_modalities()
        columns = {name: self.headers.get(name, name) for name in (*modalities, SPLIT)}
        names, rows = read_table(table_files(self.path), {*columns.values()}, columns[SPLIT])
        unknown = {*names} - {*columns.values()}
        if unknown and not self.columns:
            name = min(unknown)
            hint = "; cells are separated by commas" if ";" in name or "\t" in name else ""
            raise ValueError(
                f"{self.path} has the unknown column {name[:100]!r}; known columns: "
                f"{', '.join(COLUMNS)}, {SPLIT}; for others, let `vqdit configure` write a "
                f"config, or set the table's columns in a config{hint}"
            )
        for name in (*self.columns, *self.headers):
            if columns[name] not in names:
                raise ValueError(f"{self.path} has no column {missing(columns[name], names)}")
        if self.headers:
            rows = [
                Row(row.place, {name: row.cells.get(columns[name]) for name in columns})
                for row in rows
            ]
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
