"""Looking at long texts: how their documents are told apart."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vqdit.configure.columns import Column, Documents, Found
from vqdit.data.sources import SPLITS
from vqdit.modalities.classes import shown

ENOUGH = 50
"""Number of documents from which they are divided into splits, and not the text by position."""
LONGEST_LINE = 400
"""Mean number of bytes of a line below which a file without blank lines is a list of lines."""
MOST_BYTES = 2**26
"""Number of bytes of a file that are looked at."""


def inspect_texts(path: Path, files: Sequence[Path], left_out: tuple[str, ...]) -> Found:
    """Looks at a file of text, or at those of a folder.

    Raises:
        ValueError: a file is not UTF-8, or there is no text.
    """
    sizes = np.asarray([file.stat().st_size for file in files], int)
    notes = [*left_out]
    if empty := int((sizes == 0).sum()):
        notes.append(f"{empty} empty files")
    if not sizes.sum():
        raise ValueError(f"{path} has no text, only empty files")
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
    """Finds the documents of one file: lines, what is between blank lines, or all of it."""
    with file.open("rb") as opened:
        text = opened.read(MOST_BYTES)
    try:
        text.decode(errors="strict")
    except UnicodeDecodeError as error:
        if error.start < len(text) - 4:  # not a character that is cut off
            raise ValueError(
                f"{shown(file)} is not UTF-8 at byte {error.start}; save it as UTF-8"
            ) from error
    lines = [line for line in text.splitlines() if line.strip()]
    parts = [part for part in re.split(rb"\n\s*\n", text) if part.strip()]
    is_list = len(parts) < 2 and len(text) <= LONGEST_LINE * len(lines)
    if is_list and len(set(lines)) >= ENOUGH:  # equal documents stay together
        return Documents(np.asarray([*map(len, lines)], int), "line", "documents")
    return Documents(np.asarray([file.stat().st_size], int), "file", "position")
