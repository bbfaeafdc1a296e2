"""Inspects long texts, and determines how they are divided into documents."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vqdit.configure.columns import Column, Documents, Found
from vqdit.data.sources import SPLITS
from vqdit.modalities.classes import shown

ENOUGH = 50
"""Smallest number of documents that are split at random; fewer are split by position."""
LONGEST_LINE = 400
"""Mean length of lines in bytes below which each line of a file is a document."""
MOST_BYTES = 2**26
"""Number of bytes of a file that are examined."""


def inspect_texts(path: Path, files: Sequence[Path], left_out: tuple[str, ...]) -> Found:
    """Inspects a text file, or the text files of a folder.

    Raises:
        ValueError: a file is not UTF-8, or there is no text.
    """
    sizes = np.asarray([file.stat().st_size for file in files], int)
    notes = [*left_out]
    if empty := int((sizes == 0).sum()):
        notes.append(f"{empty} empty files")
    if not sizes.sum():
        raise ValueError(f"{path} has only empty files; add some text")
    has_splits = path.is_dir() and all((path / split).is_dir() for split in SPLITS)
    facts = Documents(sizes[sizes > 0], "file", "documents")
    if len(files) == 1:
        facts = _one_file(files[0])
    if len(facts.lengths) < ENOUGH and not has_splits:
        facts = facts._replace(split_by="position")
    total = int(sizes.sum())
    train = total - total // 10
    column = Column("text", facts, total, len(files))
    return Found(path, "texts", total, train, (column,), left_out=tuple(notes))


def _one_file(file: Path) -> Documents:
    """Determines the documents of a file: lines, blocks between blank lines, or the whole file."""
    with file.open("rb") as opened:
        text = opened.read(MOST_BYTES)
    try:
        text.decode(errors="strict")
    except UnicodeDecodeError as error:
        if error.start < len(text) - 4:  # ignores a character that is cut off
            raise ValueError(
                f"{shown(file)} is not UTF-8 at byte {error.start}; save it as UTF-8"
            ) from error
    lines = [line for line in text.splitlines() if line.strip()]
    parts = [part for part in re.split(rb"\n\s*\n", text) if part.strip()]
    is_list = len(parts) < 2 and len(text) <= LONGEST_LINE * len(lines)
    if is_list and len(set(lines)) >= ENOUGH:  # equal documents are in one split
        return Documents(np.asarray([*map(len, lines)], int), "line", "documents")
    return Documents(np.asarray([file.stat().st_size], int), "file", "position")
