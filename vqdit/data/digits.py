"""The built-in data set: the 1,797 handwritten digits of 8 x 8 pixels that scikit-learn includes.

Every digit comes with its telephone tone and its English name. The tone is a signal of dual-tone
multi-frequency signalling (ITU-T Q.23): one sine for the row of the key and one for its column.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from vqdit.data.recorded import Recorded
from vqdit.data.sources import SPLITS, Feature
from vqdit.modalities.texts import to_bytes
from vqdit.typing import Named

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
"""English name of each digit."""
RATE = 8000
"""Sampling rate of the audio in Hz."""
TONES = (
    (941, 1336),
    (697, 1209),
    (697, 1336),
    (697, 1477),
    (770, 1209),
    (770, 1336),
    (770, 1477),
    (852, 1209),
    (852, 1336),
    (852, 1477),
)
"""Frequencies of each digit's tone in Hz, for the row and the column of its telephone key."""
SAMPLES = 800


class Digits(Recorded):
    """Handwritten digits: `image` uint8 [8, 8, 1], `audio`, `text` and `label` 0 to 9.

    The images are the test set of Alpaydin & Kaynak's "Optical Recognition of Handwritten Digits",
    with ink values from 0 to 16 scaled to 0 to 255. Splits are stratified by digit: 1,437 examples
    for training, 180 for validation and 180 for test.

    `audio` is int16 [800], a tenth of a second of the digit's telephone tone: two sines, each with
    a random phase and amplitude (0.2 to 0.4 of full scale), and white noise of standard deviation
    0.01. `text` is uint8 [5], the ASCII bytes of the digit's name, padded with zeros.

    Attributes:
        seed: seed of the tones' phases, amplitudes and noise.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"Digits needs seed >= 0, got {self.seed}")

    def key(self) -> str:
        return f"digits_with_tones_{self.seed}"

    def raw_features(self) -> Named[Feature]:
        names = tuple(str(digit) for digit in range(10))
        return Named(
            image=Feature((8, 8, 1)),
            audio=Feature((SAMPLES,), dtype="int16"),
            text=Feature((max(map(len, WORDS)),)),
            label=Feature((), 10, names),
        )

    def examples(self) -> Mapping[str, Iterable[Mapping[str, Any]]]:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        images, labels = load_digits(return_X_y=True)
        images = np.round(images * 255.0 / 16.0).astype(np.uint8).reshape(-1, 8, 8, 1)
        train, rest = train_test_split(
            np.arange(len(labels)), train_size=1437, stratify=labels, random_state=0
        )
        validation, test = train_test_split(
            rest, train_size=180, stratify=labels[rest], random_state=0
        )

        def example(row: int) -> dict[str, Any]:
            digit = int(labels[row])
            generator = np.random.Generator(np.random.Philox([self.seed, row]))
            text = to_bytes(WORDS[digit], max(map(len, WORDS)))
            audio = _tone(TONES[digit], generator)
            return {"image": images[row], "audio": audio, "text": text, "label": digit}

        rows = zip(SPLITS, (train, validation, test), strict=True)
        return {split: [example(int(row)) for row in np.sort(part)] for split, part in rows}


def _tone(frequencies: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    seconds = np.arange(SAMPLES) / RATE
    wave = generator.normal(0.0, 0.01, SAMPLES)
    for frequency in frequencies:
        phase, amplitude = generator.uniform(0.0, 2.0 * np.pi), generator.uniform(0.2, 0.4)
        wave += amplitude * np.sin(2.0 * np.pi * frequency * seconds + phase)
    return np.round(32767.0 * wave).astype(np.int16)  # 2 * 0.4 + 19 * 0.01 < 1: no overflow
