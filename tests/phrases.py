"""A data set of texts of different lengths, small enough for a test."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from vqdit.data.sources import Arrays, Feature, Source
from vqdit.ragged import ragged
from vqdit.typing import Named

SIZES = {"train": 60, "validation": 10, "test": 10}
LONGEST = 24


def phrase(number: int) -> str:
    """Returns the text of an example: a letter, repeated up to LONGEST times."""
    return "abcde"[number % 5] * (number * 7 % (LONGEST + 1))


class Phrases(Source):
    """A letter, and a text that repeats it; the first text of every split is empty."""

    def features(self) -> Named[Feature]:
        return Named(text=Feature((LONGEST,), ragged=True), label=Feature((), 5))

    def split(self, name: str) -> "PhraseSplit":
        return PhraseSplit(SIZES[name])

    def fingerprint(self) -> dict[str, Any]:
        return {"phrases": 1}


class PhraseSplit:
    """A split of Phrases."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def take(self, rows: np.ndarray) -> Arrays:
        texts = [np.frombuffer(phrase(int(row)).encode(), np.uint8) for row in rows]
        return {"text": ragged(texts), "label": (rows % 5).astype(np.int32)}


def write_table(file: Path) -> Path:
    """Writes the same examples as a table, in which `split` divides them."""
    rows = [
        {"text": phrase(n), "label": n % 5, "split": split}
        for split, size in SIZES.items()
        for n in range(size)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file
