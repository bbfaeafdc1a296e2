"""Fashion-MNIST with captions and synthetic speech.

Each of the 10 classes has 4 captions, such as "show me a sneaker". espeak-ng speaks each caption in
50 ways (10 English voices with 5 pairs of speed and pitch), which makes 10 x 4 x 50 = 2,000
utterances: 1,600 for training and 200 each for validation and test. Each combination of voice,
speed and pitch belongs to one split only.
"""

import hashlib
import itertools
import logging
import math
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from vqdit.data.espeak import VOICES, Way, check_speaker, speak
from vqdit.data.fashion_mnist import GARMENTS, FashionMNIST
from vqdit.data.recorded import Recorded
from vqdit.data.sources import SPLITS, Arrays, Feature, Source, Split, check_split, divide
from vqdit.modalities.texts import to_bytes
from vqdit.typing import Named, resumable

RATE = 8000
"""Sampling rate of the audio in Hz."""
SAMPLES = 8192
LENGTH = 24
"""Length of a caption in bytes."""
NOUNS = (
    "a t-shirt",
    "trousers",
    "a pullover",
    "a dress",
    "a coat",
    "a sandal",
    "a shirt",
    "a sneaker",
    "a bag",
    "an ankle boot",
)
WORDINGS = ("{}", "i see {}", "show me {}", "look at {}")
MANNERS = ((220, 50), (230, 25), (240, 75), (250, 40), (265, 60))
"""Pairs of speed in words per minute and pitch from 0 to 99; every utterance fits the audio."""
PEAK = 0.8
"""Peak amplitude of every utterance, as a fraction of full scale."""

log = logging.getLogger(__name__)


class SpokenFashion(Source):
    """Fashion-MNIST with captions and speech: `image`, `text`, `audio` and `label` 0 to 9.

    Images, uint8 [28, 28, 1], and splits are those of `FashionMNIST`. `text` is a caption as uint8
    [24], padded with zeros. `audio` is the spoken caption as int16 [8192] at 8 kHz, padded with
    silence. The utterance of an image is drawn at random from `seed` and the row of the image, and
    is the same in every epoch.

    Attributes:
        path: folder of the four IDX files, as in `FashionMNIST`.
        seed: seed of the choice of utterances.
    """

    path: str = resumable("")
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"SpokenFashion needs seed >= 0, got {self.seed}")

    def features(self) -> Named[Feature]:
        return Named({**self._garments().raw_features(), **Utterances().raw_features()})

    def split(self, name: str) -> Split:
        check_split(name)
        self._prepare()
        parts = self._garments().split(name), Utterances().split(name)
        return _Spoken(*parts, self.seed, SPLITS.index(name))

    def fingerprint(self) -> dict[str, Any]:
        self._prepare()
        garments, utterances = self._garments().fingerprint(), Utterances().fingerprint()
        return {"garments": garments, "utterances": utterances, "seed": self.seed}

    def _garments(self) -> FashionMNIST:
        return FashionMNIST(path=self.path)

    def _prepare(self) -> None:
        """Checks that both images and utterances can be prepared, and prepares them."""
        if not Utterances().is_prepared():
            check_speaker("SpokenFashion")
        self._garments().features()
        Utterances().features()


class Utterances(Recorded):
    """Spoken captions: `text` uint8 [24], `audio` int16 [8192] at 8 kHz and `label` 0 to 9.

    Every split is sorted by label and has equally many utterances of each label.
    """

    def key(self) -> str:
        content = (RATE, SAMPLES, LENGTH, NOUNS, WORDINGS, VOICES, MANNERS, PEAK)
        return f"spoken_fashion_{hashlib.sha256(repr(content).encode()).hexdigest()[:16]}"

    def raw_features(self) -> Named[Feature]:
        return Named(
            text=Feature((LENGTH,)),
            audio=Feature((SAMPLES,), dtype="int16"),
            label=Feature((), len(GARMENTS), GARMENTS),
        )

    def examples(self) -> Mapping[str, Iterable[Mapping[str, Any]]]:
        check_speaker("SpokenFashion")
        ways = [Way(voice, *manner) for voice, manner in itertools.product(VOICES, MANNERS)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return {
                split: list(pool.map(_example, _lines([ways[row] for row in rows])))
                for split, rows in divide(len(ways), "SpokenFashion").items()
            }


class _Spoken:
    def __init__(self, garments: Split, utterances: Split, seed: int, number: int) -> None:
        self._garments, self._utterances = garments, utterances
        self._seed, self._number = seed, number

    def __len__(self) -> int:
        return len(self._garments)

    def take(self, rows: np.ndarray) -> Arrays:
        garments = self._garments.take(rows)
        chosen = map(self._choose, rows.tolist(), garments["label"].tolist())
        return self._utterances.take(np.asarray(list(chosen))) | garments

    def _choose(self, row: int, label: int) -> int:
        each = len(self._utterances) // len(GARMENTS)
        generator = np.random.Generator(np.random.Philox([self._seed, self._number, row]))
        return label * each + int(generator.integers(each))


class _Line(NamedTuple):
    label: int
    text: str
    way: Way


def _lines(ways: list[Way]) -> list[_Line]:
    return [
        _Line(label, wording.format(noun), way)
        for label, noun in enumerate(NOUNS)
        for wording in WORDINGS
        for way in ways
    ]


def _example(line: _Line) -> dict[str, Any]:
    audio = _fit(*speak(line.text, line.way), line)
    return {"text": to_bytes(line.text, LENGTH), "audio": audio, "label": line.label}


def _fit(speech: np.ndarray, rate: int, line: _Line) -> np.ndarray:
    """Resamples speech to `RATE`, removes leading silence, sets its length and its peak.

    The length is `SAMPLES`, the peak `PEAK`. Samples below a hundredth of the peak are silence.
    """
    from scipy.signal import resample_poly

    common = math.gcd(RATE, rate)
    resampled = resample_poly(speech.astype(np.float64), RATE // common, rate // common)
    level = np.abs(resampled)
    if not level.size or not level.max():
        raise OSError(
            f"espeak-ng made no sound for {line.text!r} with {line.way}; check its installation"
        )
    audible = np.flatnonzero(level >= 0.01 * level.max())
    if audible[-1] - audible[0] >= SAMPLES:
        log.warning("the speech of %r with %s is too long; its end is cut off", line.text, line.way)
    scaled = 32767.0 * PEAK / level.max() * resampled[audible[0] :][:SAMPLES]
    return np.pad(np.round(scaled).astype(np.int16), (0, SAMPLES - len(scaled)))
