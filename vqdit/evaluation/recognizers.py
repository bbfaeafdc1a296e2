"""Recognisers: classifiers of generated data that are fitted on real data.

There is one recogniser per modality. It returns the class of an example and is independent of the
model. `recognizers_for` returns the recognisers of a data set.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vqdit.data import Digits, FashionMNIST, Missing, Source, SpokenFashion, digits, spoken_fashion
from vqdit.evaluation.image_scores import MAX_FITTED, pixels
from vqdit.nn.mel import mel_bands
from vqdit.typing import Float, Int, UInt8

Values = dict[str, np.ndarray]
"""Examples by modality, in the form that users of the library pass."""
CLASSES = "(classes)"
"""Key of the numbers of the examples' classes, which may differ from the values of their label; no
column has this name. Without it, the label is the class."""
UNKNOWN = -1
"""Class of an example in which no class is recognised."""


def classes_of(values: Values) -> Int[np.ndarray, " b"]:
    """Returns the number of the class of each example."""
    return values[CLASSES] if CLASSES in values else values["label"]


class Recognizer:
    """Base class of classifiers that are fitted on real examples when they are constructed."""

    def predict(self, values: np.ndarray) -> Int[np.ndarray, " b"]:
        """Returns the class of each example; -1 where no class is recognised."""
        raise TypeError(f"{type(self).__name__} must define the method 'predict'")


class ImageRecognizer(Recognizer):
    """An RBF support vector machine on pixels; it always returns a class.

    Args:
        images: real training pictures, in random order.
        labels: their classes.
    """

    def __init__(self, images: UInt8[np.ndarray, "b *size"], labels: Int[np.ndarray, " b"]) -> None:
        from sklearn.svm import SVC

        self._model = SVC(C=10.0, gamma="scale").fit(
            pixels(images[:MAX_FITTED]), labels[:MAX_FITTED]
        )

    def predict(self, values: UInt8[np.ndarray, "b *size"]) -> Int[np.ndarray, " b"]:
        return self._model.predict(pixels(values)).astype(np.int64)


class ToneRecognizer(Recognizer):
    """Decodes dual-tone multi-frequency signals (ITU-T Q.23) by Goertzel's algorithm.

    The power at every frequency is measured in frames of 25 ms and summed over the frames, so the
    phase may change between frames. The strongest row and column frequencies determine the key. As
    in a telephone exchange (ITU-T Q.24), a signal is rejected if the two frequencies have less than
    a fifth of the signal's energy (in white noise, they have a twentieth), or if one is 13 dB
    weaker than the other.

    Args:
        tones: the two frequencies of every class, in Hz: row and column.
        rate: samples per second, in Hz.
    """

    FRAME = 0.025
    SHARE = 0.2
    TWIST = 0.05

    def __init__(self, tones: Sequence[tuple[int, int]], rate: int) -> None:
        self.rate = rate
        self.rows, self.columns = (np.unique(part) for part in zip(*tones, strict=True))
        self.keys = np.full((len(self.rows), len(self.columns)), UNKNOWN)
        for number, (row, column) in enumerate(tones):
            place = np.searchsorted(self.rows, row), np.searchsorted(self.columns, column)
            if self.keys[place] != UNKNOWN:
                raise ValueError(
                    f"two classes have the tone {(row, column)}; give each class another tone"
                )
            self.keys[place] = number

    def predict(self, values: Int[np.ndarray, "b t"]) -> Int[np.ndarray, " b"]:
        length = min(round(self.FRAME * self.rate), values.shape[1])
        count = values.shape[1] // length
        frames = values[:, : count * length].reshape(len(values), count, length).astype(float)
        frequencies = np.concatenate([self.rows, self.columns])
        turns = np.outer(np.arange(length), frequencies) / self.rate
        # Scaled so that a pure sine has as much power as energy.
        power = 2.0 / length * (np.abs(frames @ np.exp(-2j * np.pi * turns)) ** 2).sum(axis=1)
        rows, columns = np.split(power, [len(self.rows)], axis=1)
        high, low = np.sort([rows.max(axis=1), columns.max(axis=1)], axis=0)[::-1]
        energy = (frames**2).sum(axis=(1, 2))
        is_tone = (energy > 0) & (high + low >= self.SHARE * energy) & (low >= self.TWIST * high)
        return np.where(is_tone, self.keys[rows.argmax(axis=1), columns.argmax(axis=1)], UNKNOWN)


class CaptionRecognizer(Recognizer):
    """Looks captions up among real captions; a caption that is not found has no class.

    Args:
        captions: real captions, at least one of each class.
        labels: their classes.
    """

    def __init__(self, captions: Sequence[str] | np.ndarray, labels: Any) -> None:
        self._classes: dict[str, int] = {}
        for caption, label in zip(map(str, captions), map(int, labels), strict=True):
            if self._classes.setdefault(caption, label) != label:
                known = self._classes[caption]
                raise ValueError(
                    f"the caption {caption!r} names class {known} and class {label}; a caption "
                    "must belong to one class to be recognised"
                )

    def predict(self, values: np.ndarray) -> Int[np.ndarray, " b"]:
        return np.asarray([self._classes.get(str(text), UNKNOWN) for text in values], np.int64)


class WordRecognizer(CaptionRecognizer):
    """Looks words up in a list with one word per class.

    Args:
        words: the words of classes 0, 1, ...
    """

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__(words, range(len(words)))


class SpeechRecognizer(Recognizer):
    """An RBF support vector machine on cepstra; silence has no class.

    Each cepstral coefficient is standardised over all frames together. If each frame were
    standardised, the noise of frames that are always silent would be amplified until it outweighed
    the speech.

    Args:
        sounds: real training recordings, all of one length, in random order; duplicates
            are dropped.
        labels: their classes.
        rate: samples per second, in Hz.
    """

    def __init__(
        self, sounds: Int[np.ndarray, "b t"], labels: Int[np.ndarray, " b"], rate: int
    ) -> None:
        from sklearn.svm import SVC

        self.rate = rate
        rows = {sound.tobytes(): row for row, sound in reversed(list(enumerate(sounds)))}
        kept = np.sort(list(rows.values()))[:MAX_FITTED]
        found = cepstra(sounds[kept], rate)
        self._mean, self._scale = found.mean(axis=(0, 1)), found.std(axis=(0, 1))
        self._model = SVC(C=10.0, gamma="scale").fit(self._features(found), labels[kept])

    def predict(self, values: Int[np.ndarray, "b t"]) -> Int[np.ndarray, " b"]:
        classes = self._model.predict(self._features(cepstra(values, self.rate)))
        return np.where(values.any(axis=1), classes, UNKNOWN).astype(np.int64)

    def _features(self, found: Float[np.ndarray, "b n c"]) -> Float[np.ndarray, "b d"]:
        return ((found - self._mean) / self._scale).reshape(len(found), -1)


class LabelRecognizer(Recognizer):
    """Recogniser of labels: the label is the class."""

    def predict(self, values: Int[np.ndarray, " b"]) -> Int[np.ndarray, " b"]:
        return values.astype(np.int64)


def cepstra(
    sounds: Int[np.ndarray, "b t"], rate: int, bands: int = 32, kept: int = 13
) -> Float[np.ndarray, "b n c"]:
    """Returns mel-frequency cepstral coefficients of every frame.

    The steps are: frames of 25 ms every 10 ms with a Hann window; triangular bands that are
    equidistant in mel (2595 log10(1 + f / 700 Hz)); logarithm; discrete cosine transform (Davis and
    Mermelstein, "Comparison of Parametric Representations for Monosyllabic Word Recognition",
    1980). Before the logarithm, a thousandth (-30 dB) of the recording's strongest power is added,
    so that the coefficients depend little on loudness and weak noise.

    Args:
        sounds: int16 waveforms of at least 25 ms.
        rate: samples per second, in Hz.
        bands: number of mel bands up to half the rate.
        kept: number of coefficients per frame; the first ones are kept.
    """
    from scipy.fft import dct

    length, hop = round(0.025 * rate), round(0.010 * rate)
    size = 1 << (length - 1).bit_length()
    triangles = mel_bands(size, rate, bands)
    frames = np.lib.stride_tricks.sliding_window_view(sounds, length, axis=1)[:, ::hop]
    parts = []
    for part in np.array_split(frames, -(-len(frames) // 256)):  # in parts, as spectra are large
        power = np.abs(np.fft.rfft(part * np.hanning(length), size)) ** 2 @ triangles
        power /= np.maximum(power.max(axis=(1, 2), keepdims=True), 1.0)
        parts.append(np.asarray(dct(np.log(power + 1e-3), norm="ortho"))[..., :kept])
    return np.concatenate(parts)


def complete_source(source: Source) -> Source:
    """Returns the data set without `Missing`, as recognisers are fitted on complete data."""
    return complete_source(source.source) if isinstance(source, Missing) else source


def recognizers_for(source: Source) -> dict[str, Callable[[Values], Recognizer]]:
    """Returns, by modality, functions that fit a data set's own recognisers; {} for most data.

    The functions take training values of all modalities.

    For all other data, see `vqdit.evaluation.general_recognizers`.
    """

    def picture(train: Values) -> Recognizer:
        return ImageRecognizer(train["image"], train["label"])

    def caption(train: Values) -> Recognizer:
        return CaptionRecognizer(train["text"], train["label"])

    def speech(train: Values) -> Recognizer:
        return SpeechRecognizer(train["audio"], train["label"], spoken_fashion.RATE)

    every = {"image": picture, "label": lambda train: LabelRecognizer()}
    found = {
        Digits: {
            **every,
            "audio": lambda train: ToneRecognizer(digits.TONES, digits.RATE),
            "text": lambda train: WordRecognizer(digits.WORDS),
        },
        FashionMNIST: every,
        SpokenFashion: {**every, "audio": speech, "text": caption},
    }
    return found.get(type(source), {})
