"""The files of a table: one file, or a folder of shards whose names begin with the split."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection
from pathlib import Path

from vqdit.data.sources import OPTION, SPLITS
from vqdit.data.table_rows import ENDINGS, Row, read_rows
from vqdit.files import local_path
from vqdit.modalities.pictures import is_clutter

INSIDE = "data"
"""The name of the folder with the shards of data sets of the Hugging Face hub."""
OF_SPLIT = re.compile(rf"({'|'.join(SPLITS)})(?![a-zA-Z0-9])")
SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)(?!\d)")
KNOWN = f"{', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"


def table_files(path: str) -> dict[Path, str]:
    """Returns the sorted files of a table, and the split that each name begins with, or "".

    Args:
        path: a file; or a folder of files, such as train.csv and test.csv, or
            train-00000-of-00004.parquet, which may be in a sub-folder `data`.

    Raises:
        FileNotFoundError: there is no such file or folder, or a shard is missing.
        ValueError: files are of an unknown kind, or of several kinds.
    """
    place = local_path(path)
    if place.is_dir():
        return _shards(place)
    if not place.is_file():
        raise FileNotFoundError(f"no table {place}; give the path of a {KNOWN} file {OPTION}")
    if place.suffix.lower() not in ENDINGS:
        raise ValueError(f"the name of the table {place} must end in {KNOWN}; rename or convert it")
    return {place: ""}


def folder_of(path: str) -> Path:
    """Returns the folder of a table's files."""
    place = local_path(path)
    if not place.is_dir():
        return place.parent
    return place if _tables(place) else place / INSIDE


def is_sharded(files: Collection[Path]) -> bool:
    """Returns whether the names of all files begin with the name of a split."""
    return bool(files) and all(OF_SPLIT.match(file.stem) for file in files)


def read_table(
    files: dict[Path, str], wanted: Collection[str], split: str
) -> tuple[list[str], list[Row]]:
    """Returns the names of all columns of a table, and its rows with the wanted columns.

    Args:
        files: the split that the name of each file states, or "", by file.
        wanted: names of columns.
        split: name of the column with the split. If names of files state splits, this column is
            added.

    Raises:
        ValueError: a file or a wanted column cannot be read; the message has file and line.
    """
    found = {file: read_rows(file, wanted) for file in files}
    names = dict.fromkeys(name for each, _ in found.values() for name in each)
    rows = []
    for file, (own, each) in found.items():
        lacks = [name for name in names if name in wanted and name not in own]
        if lacks and each and file.suffix.lower() != ENDINGS[0]:
            raise ValueError(
                f"{file} has no column {lacks[0]!r}, which other files of the table have; add "
                "it, or move the file away"
            )
        if files[file]:
            each = [Row(row.place, {**row.cells, split: files[file]}) for row in each]
        rows += each
    if any(files.values()):
        names[split] = None
    return [*names], rows


def _shards(folder: Path) -> dict[Path, str]:
    for place in (folder, folder / INSIDE):
        if files := _tables(place):
            break
    else:
        raise FileNotFoundError(f"no table in the folder {folder}; give a {KNOWN} file {OPTION}")
    kinds = Counter(file.suffix.lower() for file in files)
    if len(kinds) > 1:
        endings = ", ".join(sorted(kinds))
        raise ValueError(
            f"the folder {place} has tables of several kinds ({endings}); give the path of one file"
        )
    splits = {file: match[1] if (match := OF_SPLIT.match(file.stem)) else "" for file in files}
    if any(splits.values()) and not all(splits.values()):
        other = next(file for file, split in splits.items() if not split)
        raise ValueError(
            f"the name of {other} has no split, unlike the names of other files; begin it with "
            f"{', '.join(SPLITS[:-1])} or {SPLITS[-1]}, or move the file away"
        )
    _check_shards(files)
    return splits


def _tables(folder: Path) -> list[Path]:
    named = (file for file in folder.glob("*") if file.suffix.lower() in ENDINGS)
    return sorted(file for file in named if file.is_file() and not is_clutter(file.name))


def _check_shards(files: Collection[Path]) -> None:
    """Raises FileNotFoundError if there are fewer shards than their names declare."""
    shards: dict[tuple[str, int], set[int]] = defaultdict(set)
    for file in files:
        if match := SHARD.match(file.stem):
            shards[match[1], int(match[3])].add(int(match[2]))
    for (name, count), there in shards.items():
        if len(there) < count:
            number = next(number for number in range(count) if number not in there)
            raise FileNotFoundError(
                f"{next(iter(files)).parent} has {len(there)} of the {count} shards of "
                f"{name!r}; add the missing ones, of which {number:05} is the first"
            )


def content(file: Path) -> bytes:
    """Returns bytes that change with a file: its content, or size and time of Parquet files."""
    if file.suffix.lower() != ".parquet":
        return file.read_bytes()
    stat = file.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}\n".encode()
