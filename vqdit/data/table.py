"""One's own table: a JSON-lines or CSV file with one example per row.

A column is a modality; an empty cell is a modality that the example lacks.
"""

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vqdit.data.pictures import read_picture
from vqdit.data.recorded import Recorded
from vqdit.data.sources import SPLITS, Feature, divide
from vqdit.typing import Named

Row = Mapping[str, Any]


class Table(Recorded):
    """Rows of a .jsonl or .csv file with the columns `image` and `label`.

    `image` is a path, relative to the table; `label` a class name or number (classes are those
    that occur, in sorted order). A column `split` with train, validation or test divides the rows;
    without it a tenth each is set aside for validation and test.

    Attributes:
        path: the table.
        size: edge of the square that each picture is cropped and resized to, in pixels.
        channels: 1 for grey, 3 for colour.
    """

    path: str = "rows.jsonl"
    size: int = 64
    channels: int = 3

    def key(self) -> str:
        digest = hashlib.sha256(f"{self.size} {self.channels}".encode())
        digest.update(self._file().read_bytes())
        for row in self._rows():
            if row.get("image"):
                file = self._picture(row)
                if file.is_file():
                    digest.update(f"{file} {file.stat().st_mtime_ns}\n".encode())
        return f"table_{digest.hexdigest()[:16]}"

    def columns(self) -> Named[Feature]:
        rows = self._rows()
        present = {column for row in rows for column in row if column != "split"}
        unknown = present - set(COLUMNS)
        if unknown:
            raise ValueError(
                f"{self.path} has the unknown column {sorted(unknown)[0]!r}; "
                f"known ones: {', '.join(COLUMNS)}, split"
            )
        return Named({column: COLUMNS[column](self, rows) for column in present})

    def examples(self) -> Mapping[str, Iterable[Mapping[str, Any]]]:
        rows = self._rows()
        if any(_given(row, "split") for row in rows):
            wrong = {str(row.get("split")) for row in rows} - set(SPLITS)
            if wrong:
                raise ValueError(
                    f"{self.path}: unknown split {sorted(wrong)[0]!r}; one of: {', '.join(SPLITS)}"
                )
            parts = {split: [row for row in rows if row["split"] == split] for split in SPLITS}
        else:
            numbers = divide(len(rows), self.path)
            parts = {split: [rows[number] for number in numbers[split]] for split in SPLITS}
        classes = self.columns().get("label", Feature(())).names
        return {split: self._read(part, classes) for split, part in parts.items()}

    def _read(self, rows: list[Row], classes: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
        size = (self.size, self.size)
        for row in rows:
            example: dict[str, Any] = {}
            if _given(row, "image"):
                example["image"] = read_picture(self._picture(row), size, self.channels)
            if _given(row, "label"):
                example["label"] = classes.index(str(row["label"]))
            yield example

    def _picture(self, row: Row) -> Path:
        return self._file().parent / str(row["image"])

    def _file(self) -> Path:
        file = Path(self.path)
        if not file.is_file():
            raise FileNotFoundError(f"no table {file}; set --data.source.path to a .jsonl or .csv")
        if file.suffix not in (".jsonl", ".csv"):
            raise ValueError(f"the table {file} must end in .jsonl or .csv")
        return file

    def _rows(self) -> list[Row]:
        file = self._file()
        with file.open(newline="") as lines:
            if file.suffix == ".csv":
                return list(csv.DictReader(lines))
            rows = []
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise ValueError(f"{file}:{number} is not JSON: {error}") from error
                if not isinstance(row, dict):
                    raise ValueError(f'{file}:{number} must be an object such as {{"image": ...}}')
                rows.append(row)
            return rows


def _given(row: Row, column: str) -> bool:
    return row.get(column) not in (None, "")


def _image(table: Table, rows: list[Row]) -> Feature:
    del rows
    return Feature((table.size, table.size, table.channels))


def _label(table: Table, rows: list[Row]) -> Feature:
    del table
    names = {str(row["label"]) for row in rows if _given(row, "label")}
    numeric = all(name.isdigit() for name in names)
    ordered = sorted(names, key=int) if numeric else sorted(names)
    return Feature((), len(ordered), tuple(ordered))


COLUMNS: dict[str, Callable[[Table, list[Row]], Feature]] = {"image": _image, "label": _label}
"""What each column of a table holds: a new modality is one entry here, and its reading above."""
