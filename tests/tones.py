"""A data set of tones of different lengths, small enough for a test."""

from typing import Any

import numpy as np

from vqdit.data.sources import Arrays, Feature, Source
from vqdit.modalities import Audio
from vqdit.ragged import ragged
from vqdit.typing import Named

SIZES = {"train": 48, "validation": 8, "test": 8}
SHORTEST, LONGEST, RATE = 40, 100, 1000


SOUND = Audio(rate=RATE, seconds=(SHORTEST / RATE, LONGEST / RATE))


def tone(number: int) -> np.ndarray:
    """Returns the sound of an example; its length is seldom a whole number of tokens."""
    length = SHORTEST + number * 17 % (LONGEST - SHORTEST + 1)
    times = np.arange(length) / RATE
    return np.round(12000 * np.sin(2 * np.pi * (50 + 40 * (number % 5)) * times)).astype(np.int16)


class Tones(Source):
    """Five pitches in many lengths."""

    def features(self) -> Named[Feature]:
        sound = Feature((LONGEST,), dtype="int16", ragged=True)
        return Named(audio=sound, label=Feature((), 5))

    def split(self, name: str) -> "ToneSplit":
        return ToneSplit(SIZES[name])

    def fingerprint(self) -> dict[str, Any]:
        return {"tones": 1}


class ToneSplit:
    """A split of Tones."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def take(self, rows: np.ndarray) -> Arrays:
        sounds = ragged(tone(int(row)) for row in rows)
        return {"audio": sounds, "label": (rows % 5).astype(np.int32)}
