"""Data from a table: a JSON Lines or CSV file with one example per row.

Every column is a modality; an empty cell means that the example lacks the modality.
"""

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from vqdit.data.pictures import check_form, read_picture
from vqdit.data.recorded import Recorded
from vqdit.data.sounds import read_sound
from vqdit.data.sources import OPTION, SPLITS, Feature, divide
from vqdit.data.texts import to_bytes
from vqdit.typing import Named, resumable

COLUMNS = ("image", "audio", "text", "label")


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        place: file and line, for error messages.
        cells: value of every column.
    """

    place: str
    cells: Mapping[str, Any]


class Table(Recorded):
    """Rows of a .jsonl or .csv file with the columns `image`, `audio`, `text` and `label`.

    `image` is the path of a PNG, JPEG or WebP file and `audio` that of a mono WAV or FLAC file,
    absolute or relative to the table. `text` is stored as UTF-8, padded with zeros. `label` is the
    name or number of a class; the classes are the values that occur, in sorted order. An optional
    column `split` assigns each row to train, validation or test. Without this column, 10 % of the
    rows go to validation and 10 % to test.

    Attributes:
        path: path of the table.
        size: edge of the square to which each image is cropped and resized, in pixels.
        channels: 1 for grey, 3 for colour.
        samples: length of every sound in samples.
        rate: sampling rate of every sound in Hz.
        length: largest length of a text in bytes.
    """

    path: str = resumable("rows.jsonl")
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

    def key(self) -> str:
        file = self._file()
        form = (self.size, self.channels, self.samples, self.rate, self.length)
        digest = hashlib.sha256(f"{file.resolve()} {form}\n".encode())
        digest.update(file.read_bytes())
        for row in self._rows():
            for column in ("image", "audio"):
                if _given(row, column) and self._named(row, column).is_file():
                    stat = self._named(row, column).stat()
                    digest.update(f"{stat.st_size} {stat.st_mtime_ns}\n".encode())
        return f"table_{digest.hexdigest()[:16]}"

    def columns(self) -> Named[Feature]:
        rows = self._rows()
        unknown = {column for row in rows for column in row.cells} - {*COLUMNS, "split"}
        if unknown:
            name = sorted(unknown)[0]
            hint = "; cells are separated by commas" if ";" in name or "\t" in name else ""
            raise ValueError(
                f"{self.path} has the unknown column {name!r}; known columns: "
                f"{', '.join(COLUMNS)}, split{hint}"
            )
        present = [column for column in COLUMNS if any(_given(row, column) for row in rows)]
        if not present:
            raise ValueError(
                f"{self.path} has no values in the columns {', '.join(COLUMNS)}; fill at least one"
            )
        features = {
            "image": Feature((self.size, self.size, self.channels)),
            "audio": Feature((self.samples,), dtype="int16"),
            "text": Feature((self.length,)),
            "label": _label(rows),
        }
        return Named({column: features[column] for column in present})

    def examples(self) -> Mapping[str, Iterable[Mapping[str, Any]]]:
        rows = self._rows()
        if any(_given(row, "split") for row in rows):
            parts: dict[str, list[Row]] = {split: [] for split in SPLITS}
            for row in rows:
                split = str(row.cells["split"]) if _given(row, "split") else ""
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
        else:
            numbers = divide(len(rows), self.path)
            parts = {split: [rows[number] for number in numbers[split]] for split in SPLITS}
        classes = self.columns().get("label", Feature(())).names
        return {split: self._read(part, classes) for split, part in parts.items()}

    def _read(self, rows: list[Row], classes: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
        size = (self.size, self.size)
        for row in rows:
            example: dict[str, Any] = {}
            try:
                if _given(row, "image"):
                    picture = self._named(row, "image")
                    example["image"] = read_picture(picture, size, self.channels)
                if _given(row, "audio"):
                    sound = self._named(row, "audio")
                    example["audio"] = read_sound(sound, self.samples, self.rate)
                if _given(row, "text"):
                    example["text"] = to_bytes(str(row.cells["text"]), self.length)
            except (ValueError, FileNotFoundError) as error:
                raise type(error)(f"{row.place}: {error}") from error
            if _given(row, "label"):
                example["label"] = classes.index(_class(row))
            yield example

    def _named(self, row: Row, column: str) -> Path:
        return self._file().parent / str(row.cells[column])

    def _file(self) -> Path:
        file = Path(self.path).expanduser()
        if not file.is_file():
            raise FileNotFoundError(f"no table {file}; give the path {OPTION} of a .jsonl or .csv")
        if file.suffix.lower() not in (".jsonl", ".csv"):
            raise ValueError(f"the table {file} must end in .jsonl or .csv")
        return file

    def _rows(self) -> list[Row]:
        file = self._file()
        read = _read_csv if file.suffix.lower() == ".csv" else _read_json_lines
        try:
            with file.open(newline="", encoding="utf-8-sig") as lines:  # "-sig" skips a BOM
                return read(file, lines)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"cannot read the table {file}: line {_first_undecoded(file)} is not UTF-8; save "
                "the table as UTF-8"
            ) from error
        except csv.Error as error:
            raise ValueError(f"cannot read the table {file}: {error}") from error


def _first_undecoded(file: Path) -> int:
    """Returns the number of the first line that is not UTF-8."""
    lines = file.read_bytes().split(b"\n")
    is_text = [line.decode(errors="ignore").encode() == line for line in lines]
    return is_text.index(False) + 1


def _read_csv(file: Path, lines: TextIO) -> list[Row]:
    reader = csv.DictReader(lines)
    rows, names = [], [*(reader.fieldnames or ())]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{file} has two columns {twice[0]!r}; give each column a different name")
    for row in reader:
        if None in row:  # DictReader stores surplus cells under this key
            raise ValueError(
                f"{file}:{reader.line_num} has more cells than there are columns; put cells that "
                "contain commas in quotes"
            )
        cells = {column: (value or "").strip() for column, value in row.items()}
        rows.append(Row(f"{file}:{reader.line_num}", cells))
    return rows


def _read_json_lines(file: Path, lines: TextIO) -> list[Row]:
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{file}:{number} is not JSON: {error.msg} at character {error.colno}"
            ) from error
        if not isinstance(row, dict):
            raise ValueError(f'{file}:{number} must be an object such as {{"image": ...}}')
        for column, value in row.items():
            if isinstance(value, (dict, list, bool)):
                raise ValueError(f"{file}:{number} must have text or a number as its {column}")
            if column in ("image", "audio") and isinstance(value, int | float) and value == value:
                raise ValueError(f"{file}:{number} must have a path as its {column}, got {value}")
        rows.append(Row(f"{file}:{number}", row))
    return rows


def _given(row: Row, column: str) -> bool:
    value = row.cells.get(column)
    return value not in (None, "") and value == value  # NaN is not itself


def _class(row: Row) -> str:
    """Returns the class name of a row; reads 3.0 as 3, as spreadsheets may write integers."""
    name = str(row.cells["label"])
    return name[:-2] if name.endswith(".0") and name[:-2].isdecimal() else name


def _label(rows: list[Row]) -> Feature:
    names = {_class(row) for row in rows if _given(row, "label")}
    numeric = all(name.isdecimal() for name in names)
    ordered = sorted(names, key=lambda name: (int(name), name)) if numeric else sorted(names)
    return Feature((), len(ordered), tuple(ordered))
