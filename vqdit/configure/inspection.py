"""Inspects data: determines the kind of a folder or file, and the content of its columns."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vqdit.configure.columns import Found, look_at_classes, look_at_pictures, training_rows
from vqdit.configure.documents import inspect_texts
from vqdit.configure.tables import inspect_rows, useless
from vqdit.data.sources import SPLITS
from vqdit.data.table_columns import SPLIT
from vqdit.data.table_files import INSIDE, is_sharded, read_table, table_files
from vqdit.data.table_rows import ENDINGS as TABLES
from vqdit.data.table_rows import unusable
from vqdit.data.text_files import ENDINGS as TEXTS
from vqdit.files import local_path
from vqdit.modalities.classes import class_name, shown
from vqdit.modalities.pictures import SUFFIXES as PICTURES
from vqdit.modalities.pictures import find_pictures
from vqdit.modalities.sounds import SUFFIXES as SOUNDS

NAMED = 5
"""Largest number of endings that a remark names."""


def inspect(given: str) -> Found:
    """Inspects a table, a text file, or a folder of tables, pictures, sounds or texts.

    Raises:
        ValueError: the data are unsuitable for training; the message names the known kinds of data.
        FileNotFoundError: there is no such file or folder.
    """
    path = local_path(given)
    if path.is_dir():
        return _inspect_folder(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file or folder {path}; give a table or a folder of files")
    if path.suffix.lower() in TABLES:
        return _inspect_table(path)
    if path.suffix.lower() in (*PICTURES, *SOUNDS):
        raise ValueError(f"{path} is a single example; give the folder that contains it")
    if path.suffix.lower() == ".json":
        raise ValueError(
            f"{path} is JSON; write a table as JSON Lines, with one object per line, and name it "
            ".jsonl"
        )
    with path.open("rb") as opened:
        is_text = b"\0" not in opened.read(2**16)
    if path.suffix.lower() in TEXTS or is_text:
        return inspect_texts(path, [path], ())
    raise ValueError(
        f"{path} is of an unknown kind; give a table ({', '.join(TABLES)}), a text, or a folder "
        "of pictures, sounds or texts"
    )


def _inspect_folder(folder: Path) -> Found:
    kinds = (PICTURES, SOUNDS, TEXTS, TABLES)
    walked = find_pictures(folder, tuple(itertools.chain(*kinds)))
    files = {kind: [f for f in walked.pictures if f.suffix.lower() in kind] for kind in kinds}
    pictures, sounds, texts = files[PICTURES], files[SOUNDS], files[TEXTS]
    tables = [file for file in files[TABLES] if file.parent == folder]
    shards = tables or [file for file in files[TABLES] if file.parent == folder / INSIDE]
    if is_sharded(shards):
        return _inspect_table(folder)
    if len(tables) == 1:
        return _inspect_table(tables[0])
    if len(tables) > 1:
        raise ValueError(
            f"{folder} has {len(tables)} tables; give one of them, such as {tables[0]}"
        )
    others = walked.left_out
    left_out = [f"{count} {ending}" for ending, count in others.most_common()]
    beside = {file.with_suffix("") for file in texts}
    captioned = sum(file.with_suffix("") in beside for file in pictures)
    if sounds or (captioned and 2 * captioned >= len(pictures)):
        return _inspect_files(folder, (*pictures, *sounds, *texts), left_out)
    if pictures:
        left_out = [f"{len(texts)} of text"] * bool(texts) + left_out
        return _inspect_pictures(folder, pictures, left_out)
    if texts:
        return inspect_texts(folder, texts, _by_ending(left_out))
    known = ", ".join(ending.removeprefix(".") for kind in kinds for ending in kind)
    found = f"no files that vqdit reads, only {', '.join(left_out[:5])}" if left_out else "no files"
    raise ValueError(f"{folder} has {found}; the names of files must end in {known}")


def _inspect_pictures(folder: Path, pictures: Sequence[Path], left_out: list[str]) -> Found:
    splits, groups = _groups(folder, pictures)
    used = [file for file in pictures if splits.get(file, "train") in SPLITS]
    found = look_at_pictures("image", used)
    if why := useless(found):
        raise ValueError(f"{folder} has {why}")
    columns = [found]
    if classes := [groups[file] for file in used if file in groups]:
        columns.append(look_at_classes("label", classes))
    train = Counter(splits.values())["train"] if splits else training_rows(len(used))
    return Found(
        folder, "image_folder", len(used), train, tuple(columns), left_out=_by_ending(left_out)
    )


def _inspect_files(folder: Path, files: Sequence[Path], left_out: list[str]) -> Found:
    """Inspects a folder where files with the same name but different endings form an example."""
    splits, groups = _groups(folder, files)
    rows: dict[Path, dict[str, Any]] = {}
    notes, empty = [*_by_ending(left_out)], 0
    for file in files:
        row = rows.setdefault(file.with_suffix(""), {})
        if file in groups:
            row["label"] = groups[file]
        if file in splits:
            row["split"] = splits[file]
        if file.suffix.lower() in TEXTS:
            text = _read_text(file)
            empty += not text
            row |= {"text": text} if text else {}
            continue
        column = "image" if file.suffix.lower() in PICTURES else "audio"
        if column in row:
            notes.append(f"{shown(file)}, because its example has another {column}")
        row.setdefault(column, str(file.absolute()))
    if empty:
        notes.append(f"{empty} empty texts")
    table = [row for row in rows.values() if {"image", "audio", "text"} & set(row)]
    known = ("image", "audio", "text", "label", "split")
    names = [name for name in known if any(name in row for row in table)]
    found = inspect_rows(folder, folder.parent, "files", names, table)
    return found._replace(left_out=(*notes, *found.left_out), table=found.table or tuple(table))


def _inspect_table(path: Path) -> Found:
    """Inspects a table: a file, or a folder with files of each split."""
    files = table_files(str(path))
    names, rows = read_table(files, (), SPLIT)
    unused: dict[str, str] = {}
    first = next(iter(files))
    if first.suffix.lower() == ".parquet":  # only the wanted columns are read
        unused = {name: why.removeprefix(f"{first} has ") for name, why in unusable(first).items()}
        names = [name for name in names if name not in unused]
        rows = read_table(files, names, SPLIT)[1]
    return inspect_rows(path, first.parent, "table", names, [row.cells for row in rows], unused)


def _by_ending(left_out: list[str]) -> tuple[str, ...]:
    """Returns a remark about the most frequent endings of files that vqdit does not read."""
    more = f" and {len(left_out) - NAMED} other endings" if len(left_out) > NAMED else ""
    return (f"because of their endings: {', '.join(left_out[:NAMED])}{more}",) if left_out else ()


def _groups(folder: Path, files: Iterable[Path]) -> tuple[dict[Path, str], dict[Path, str]]:
    """Returns two maps from files to their splits and classes, which are names of folders.

    There are splits if there is a folder for each split, and classes if there are at least two.
    """
    has_splits = all((folder / split).is_dir() for split in SPLITS)
    splits, groups = {}, {}
    for file in files:
        above = file.relative_to(folder).parts[:-1]
        if has_splits:
            splits[file] = above[0] if above else ""
            above = above[1:]
        if above:
            groups[file] = class_name(above[0], shown(file))
    return splits, groups if len(set(groups.values())) > 1 else {}


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the text {shown(file)} is not UTF-8 at byte {error.start}; save it as UTF-8"
        ) from error
