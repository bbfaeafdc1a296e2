"""One's own table: a JSON-lines or CSV file with one example per row.

A column is a modality; an empty cell is a modality that the example lacks.
"""

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from vqdit.data.pictures import check_form, read_picture
from vqdit.data.recorded import Recorded
from vqdit.data.sources import SPLITS, Feature, divide
from vqdit.typing import Named, resumable

Row = Mapping[str, Any]


class Table(Recorded):
    """Rows of a .jsonl or .csv file with the columns `image` and `label`.

    `image` is a path, relative to the table or absolute; `label` a class name or number (classes
    are those that occur, in sorted order). A column `split` with train, validation or test divides
    the rows; without it a tenth each is set aside for validation and test.

    Attributes:
        path: the table.
        size: edge of the square that each picture is cropped and resized to, in pixels.
        channels: 1 for grey, 3 for colour.
    """

    path: str = resumable("rows.jsonl")
    size: int = 64
    channels: int = 3

    def __post_init__(self) -> None:
        check_form(self, self.size, self.channels)

    def key(self) -> str:
        file = self._file()
        digest = hashlib.sha256(f"{file.resolve()} {self.size} {self.channels}\n".encode())
        digest.update(file.read_bytes())
        for row in self._rows():
            if _given(row, "image"):
                picture = self._picture(row)
                if picture.is_file():
                    stat = picture.stat()
                    digest.update(f"{stat.st_size} {stat.st_mtime_ns}\n".encode())
        return f"table_{digest.hexdigest()[:16]}"

    def columns(self) -> Named[Feature]:
        rows = self._rows()
        unknown = {column for row in rows for column in row} - {*COLUMNS, "split"}
        if unknown:
            raise ValueError(
                f"{self.path} has the unknown column {sorted(unknown)[0]!r}; "
                f"known ones: {', '.join(COLUMNS)}, split"
            )
        present = [column for column in COLUMNS if any(_given(row, column) for row in rows)]
        if not present:
            raise ValueError(f"{self.path} has nothing in the columns {', '.join(COLUMNS)}")
        return Named({column: COLUMNS[column](self, rows) for column in present})

    def examples(self) -> Mapping[str, Iterable[Mapping[str, Any]]]:
        rows = self._rows()
        if any(_given(row, "split") for row in rows):
            parts: dict[str, list[Row]] = {split: [] for split in SPLITS}
            for row in rows:
                split = str(row["split"]) if _given(row, "split") else ""
                if split not in parts:
                    raise ValueError(
                        f"{self.path}: unknown split {split!r}; one of: {', '.join(SPLITS)}"
                    )
                parts[split].append(row)
            for split, part in parts.items():
                if not part:
                    raise ValueError(f"{self.path} has no row of the {split} split")
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
                example["label"] = classes.index(_class(row))
            yield example

    def _picture(self, row: Row) -> Path:
        return self._file().parent / str(row["image"])

    def _file(self) -> Path:
        file = Path(self.path).expanduser()
        if not file.is_file():
            raise FileNotFoundError(f"no table {file}; set --data.source.path to a .jsonl or .csv")
        if file.suffix.lower() not in (".jsonl", ".csv"):
            raise ValueError(f"the table {file} must end in .jsonl or .csv")
        return file

    def _rows(self) -> list[Row]:
        file = self._file()
        read = _read_csv if file.suffix.lower() == ".csv" else _read_json_lines
        try:
            with file.open(newline="", encoding="utf-8-sig") as lines:  # a BOM is no part of it
                return read(file, lines)
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"cannot read the table {file}: {error}") from error


def _read_csv(file: Path, lines: TextIO) -> list[Row]:
    reader = csv.DictReader(lines)
    rows = []
    for row in reader:
        if None in row:  # where DictReader keeps what has no column
            raise ValueError(f"{file}:{reader.line_num} has more cells than there are columns")
        rows.append({column: (value or "").strip() for column, value in row.items()})
    return rows


def _read_json_lines(file: Path, lines: TextIO) -> list[Row]:
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
        for column, value in row.items():
            if isinstance(value, (dict, list, bool)):
                raise ValueError(f"{file}:{number} must have text or a number as its {column}")
        rows.append(row)
    return rows


def _given(row: Row, column: str) -> bool:
    value = row.get(column)
    return value not in (None, "") and value == value  # NaN is not itself


def _class(row: Row) -> str:
    """The class name of a row; 3.0 is 3, as a column with gaps makes of whole numbers."""
    name = str(row["label"])
    return name[:-2] if name.endswith(".0") and name[:-2].isdecimal() else name


def _image(table: Table, rows: list[Row]) -> Feature:
    del rows
    return Feature((table.size, table.size, table.channels))


def _label(table: Table, rows: list[Row]) -> Feature:
    del table
    names = {_class(row) for row in rows if _given(row, "label")}
    numeric = all(name.isdecimal() for name in names)
    ordered = sorted(names, key=lambda name: (int(name), name)) if numeric else sorted(names)
    return Feature((), len(ordered), tuple(ordered))


COLUMNS: dict[str, Callable[[Table, list[Row]], Feature]] = {"image": _image, "label": _label}
"""What each column of a table holds: a new modality is one entry here, and its reading above."""
