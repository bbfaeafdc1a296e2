"""Do modalities agree? Recognisers fitted on real data judge what was generated.

One example is one class in several forms: a picture, a tone, a word. A `Judge` per modality names
the class of an example without knowing the model. *Coherence* of text>image is the share of the
pictures generated from texts in which the judge sees the class of the text; *joint agreement* is
the share of samples, generated from nothing, in which all judges see the same class (Shi et al.,
"Variational Mixture-of-Experts Autoencoders for Multi-Modal Deep Generative Models",
arXiv:1911.03393, section 4). Every share comes with its 95 % interval.

How varied and lifelike pictures are is measured by `coverage` and by the Frechet distance.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vqdit.nn.mel import mel_bands
from vqdit.typing import Bool, Float, Int, UInt8

UNKNOWN = -1
"""The class of an example in which a judge recognises none."""
FITTED = 10_000
"""Judges that learn see the first so many examples: a kernel's cost grows with their square."""


class Judge:
    """Names the class of examples, after having been fitted on real ones."""

    def predict(self, values: np.ndarray) -> Int[np.ndarray, " b"]:
        """Returns the class of each example; -1 where none is recognised."""
        raise TypeError(f"{type(self).__name__} must define predict")


class PictureJudge(Judge):
    """An RBF support vector machine on the pixels; it always names a class.

    Args:
        images: real training pictures, in random order.
        labels: their classes.
    """

    def __init__(self, images: UInt8[np.ndarray, "b *size"], labels: Int[np.ndarray, " b"]) -> None:
        from sklearn.svm import SVC

        self._model = SVC(C=10.0, gamma="scale").fit(pixels(images[:FITTED]), labels[:FITTED])

    def predict(self, values: UInt8[np.ndarray, "b *size"]) -> Int[np.ndarray, " b"]:
        return self._model.predict(pixels(values)).astype(np.int64)


class ToneJudge(Judge):
    """Decodes dual-tone multi-frequency signals (ITU-T Q.23) by Goertzel's algorithm.

    The power at every frequency is taken in frames of 25 ms and summed over them, so that the
    frames need not be in phase with each other; the strongest row and column are the key. As in a
    telephone exchange (ITU-T Q.24), a signal is refused if the two hold less than a fifth of its
    energy (white noise: a twentieth), or if one is 13 dB weaker than the other.

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
                raise ValueError(f"two classes have the tone {(row, column)}; give each its own")
            self.keys[place] = number

    def predict(self, values: Int[np.ndarray, "b t"]) -> Int[np.ndarray, " b"]:
        length = min(round(self.FRAME * self.rate), values.shape[1])
        count = values.shape[1] // length
        frames = values[:, : count * length].reshape(len(values), count, length).astype(float)
        frequencies = np.concatenate([self.rows, self.columns])
        turns = np.outer(np.arange(length), frequencies) / self.rate
        # Scaled such that a sine alone has as much power as energy.
        power = 2.0 / length * (np.abs(frames @ np.exp(-2j * np.pi * turns)) ** 2).sum(axis=1)
        rows, columns = np.split(power, [len(self.rows)], axis=1)
        high, low = np.sort([rows.max(axis=1), columns.max(axis=1)], axis=0)[::-1]
        energy = (frames**2).sum(axis=(1, 2))
        is_tone = (energy > 0) & (high + low >= self.SHARE * energy) & (low >= self.TWIST * high)
        return np.where(is_tone, self.keys[rows.argmax(axis=1), columns.argmax(axis=1)], UNKNOWN)


class CaptionJudge(Judge):
    """Knows the real captions to the letter; any other is no class.

    Args:
        captions: real captions, in which each class has at least one wording.
        labels: their classes.
    """

    def __init__(self, captions: Sequence[str] | np.ndarray, labels: Any) -> None:
        self._classes: dict[str, int] = {}
        for caption, label in zip(map(str, captions), map(int, labels), strict=True):
            if self._classes.setdefault(caption, label) != label:
                known = self._classes[caption]
                raise ValueError(
                    f"the caption {caption!r} names class {known} and class {label}; captions "
                    "that are to be judged must name one"
                )

    def predict(self, values: np.ndarray) -> Int[np.ndarray, " b"]:
        return np.asarray([self._classes.get(str(text), UNKNOWN) for text in values], np.int64)


class WordJudge(CaptionJudge):
    """Knows one word per class, to the letter.

    Args:
        words: the words of classes 0, 1, ...
    """

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__(words, range(len(words)))


class SpeechJudge(Judge):
    """An RBF support vector machine on cepstra; it names a class unless there is no sound at all.

    A cepstral coefficient is standardised over all frames together. Frame by frame, those that are
    always silent would be blown up until a little noise in them outweighed the speech.

    Args:
        sounds: real training recordings, all of one length, in random order; of equal ones the
            first counts.
        labels: their classes.
        rate: samples per second, in Hz.
    """

    def __init__(
        self, sounds: Int[np.ndarray, "b t"], labels: Int[np.ndarray, " b"], rate: int
    ) -> None:
        from sklearn.svm import SVC

        self.rate = rate
        rows = {sound.tobytes(): row for row, sound in reversed(list(enumerate(sounds)))}
        kept = np.sort(list(rows.values()))[:FITTED]
        found = cepstra(sounds[kept], rate)
        self._mean, self._scale = found.mean(axis=(0, 1)), found.std(axis=(0, 1))
        self._model = SVC(C=10.0, gamma="scale").fit(self._features(found), labels[kept])

    def predict(self, values: Int[np.ndarray, "b t"]) -> Int[np.ndarray, " b"]:
        classes = self._model.predict(self._features(cepstra(values, self.rate)))
        return np.where(values.any(axis=1), classes, UNKNOWN).astype(np.int64)

    def _features(self, found: Float[np.ndarray, "b n c"]) -> Float[np.ndarray, "b d"]:
        return ((found - self._mean) / self._scale).reshape(len(found), -1)


class LabelJudge(Judge):
    """Takes a label at its word."""

    def predict(self, values: Int[np.ndarray, " b"]) -> Int[np.ndarray, " b"]:
        return values.astype(np.int64)


def pixels(images: UInt8[np.ndarray, "b *size"]) -> Float[np.ndarray, "b d"]:
    """Returns pictures as rows of pixels in [0, 1]."""
    return images.reshape(len(images), -1) / 255.0


def cepstra(
    sounds: Int[np.ndarray, "b t"], rate: int, bands: int = 32, kept: int = 13
) -> Float[np.ndarray, "b n c"]:
    """Returns mel-frequency cepstral coefficients, frame by frame.

    Frames of 25 ms, every 10 ms, under a Hann window; triangular bands equidistant in mel
    (2595 log10(1 + f / 700 Hz)); logarithm; discrete cosine transform (Davis and Mermelstein,
    "Comparison of Parametric Representations for Monosyllabic Word Recognition", 1980). Before the
    logarithm a thousandth (30 dB less) of the recording's strongest power is added: neither
    loudness nor a little noise changes them much.

    Args:
        sounds: int16 waveforms of at least 25 ms.
        rate: samples per second, in Hz.
        bands: number of mel bands up to half the rate.
        kept: coefficients per frame, from the first on.
    """
    from scipy.fft import dct

    length, hop = round(0.025 * rate), round(0.010 * rate)
    size = 1 << (length - 1).bit_length()
    triangles = mel_bands(size, rate, bands)
    frames = np.lib.stride_tricks.sliding_window_view(sounds, length, axis=1)[:, ::hop]
    parts = []
    for part in np.array_split(frames, -(-len(frames) // 256)):  # spectra are large
        power = np.abs(np.fft.rfft(part * np.hanning(length), size)) ** 2 @ triangles
        power /= np.maximum(power.max(axis=(1, 2), keepdims=True), 1.0)
        parts.append(np.asarray(dct(np.log(power + 1e-3), norm="ortho"))[..., :kept])
    return np.concatenate(parts)


class Rate(NamedTuple):
    """A share, the limits of its 95 % interval, and how many it is a share of."""

    value: float
    low: float
    high: float
    count: int


def wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Returns the score interval of a share, which keeps its level near 0 and 1 too.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.

    Args:
        successes: 0 to n.
        n: number of independent trials.
        z: quantile of the normal distribution; 1.96 for 95 %.
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"wilson needs 0 <= successes <= n and n >= 1, got {successes} of {n}")
    share, spread = successes / n, z**2 / n
    center = share + spread / 2.0
    half = z * math.sqrt(share * (1.0 - share) / n + spread / (4.0 * n))
    low, high = (center - half) / (1.0 + spread), (center + half) / (1.0 + spread)
    return (low if successes else 0.0), (high if successes < n else 1.0)  # exact at the ends


def rate(hits: Bool[np.ndarray, " b"]) -> Rate:
    """Returns the share of True."""
    successes, n = int(hits.sum()), len(hits)
    return Rate(successes / max(n, 1), *wilson(successes, n), n)


def coherence(classes: Int[np.ndarray, " b"], wanted: Int[np.ndarray, " b"]) -> Rate:
    """Returns the share of samples in which a judge saw the class that was wanted."""
    return rate((classes == wanted) & (classes != UNKNOWN))


def recognised(classes: Int[np.ndarray, " b"]) -> Rate:
    """Returns the share of samples with some class; for texts, the share of valid words."""
    return rate(classes != UNKNOWN)


def agreement(classes: Mapping[str, Int[np.ndarray, " b"]]) -> Rate:
    """Returns the share of samples in which all modalities have a class, and the same one.

    Args:
        classes: what each modality's judge saw in sample i, by name; at least two.
    """
    if len(classes) < 2:
        raise ValueError(f"agreement needs at least two modalities, got {', '.join(classes)!r}")
    first, *others = classes.values()
    return rate((first != UNKNOWN) & np.all([first == other for other in others], axis=0))


def coverage(
    held_out: Float[np.ndarray, "b d"], samples: Float[np.ndarray, "n d"], k: int = 5
) -> float:
    """Returns the share of real examples with a sample no farther than their k-th neighbour.

    Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models",
    arXiv:2002.09797, equation 10. It grows with the number of samples: compare equal numbers.

    Args:
        held_out: features of real examples, more than k.
        samples: features of what is judged.
        k: which neighbour among the real ones gives the radius.
    """
    from sklearn.neighbors import NearestNeighbors

    if len(held_out) <= k:
        raise ValueError(f"coverage needs more than k={k} real examples, got {len(held_out)}")
    radius = NearestNeighbors(n_neighbors=k).fit(held_out).kneighbors()[0][:, -1]
    nearest = NearestNeighbors(n_neighbors=1).fit(samples).kneighbors(held_out)[0][:, 0]
    return float(np.mean(nearest <= radius))


def frechet(a: Float[np.ndarray, "b d"], b: Float[np.ndarray, "n d"]) -> float:
    """Returns the squared Frechet distance between Gaussians fitted to two sets of features.

        d^2 = |mu_a - mu_b|^2 + tr(C_a) + tr(C_b) - 2 tr((C_a^1/2 C_b C_a^1/2)^1/2)

    (Dowson and Landau, 1982; Heusel et al., arXiv:1706.08500.) With C = R^T R, the last trace is
    the sum of the singular values of R_a R_b^T. So no matrix is squared and no root is taken of
    rounding errors, and features that are constant, or more than examples, do no harm.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"frechet needs two examples on each side, got {len(a)} and {len(b)}")

    def factor(x: np.ndarray) -> np.ndarray:
        return np.asarray(np.linalg.qr(x - x.mean(axis=0), mode="r")) / math.sqrt(len(x) - 1)

    first, second = factor(a), factor(b)
    variances = (first**2).sum() + (second**2).sum()
    shared = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    means = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    return max(0.0, float(means + variances - 2.0 * shared))


class PictureFeatures:
    """The hidden layer of a classifier of real pictures, as features for `frechet`.

    A perceptron with 64 rectified units, trained until a tenth of its pictures, held out, no longer
    gains. Distances in different classifiers' features cannot be compared.

    Args:
        images: real training pictures, in random order.
        labels: their classes.
    """

    def __init__(self, images: UInt8[np.ndarray, "b *size"], labels: Int[np.ndarray, " b"]) -> None:
        from sklearn.neural_network import MLPClassifier

        model = MLPClassifier(
            (64,), learning_rate_init=3e-3, early_stopping=True, max_iter=1000, random_state=0
        )
        model.fit(pixels(images[:FITTED]), labels[:FITTED])
        self._weight, self._bias = model.coefs_[0], model.intercepts_[0]

    def __call__(self, images: UInt8[np.ndarray, "b *size"]) -> Float[np.ndarray, "b d"]:
        """Returns the features of pictures."""
        return np.maximum(pixels(images) @ self._weight + self._bias, 0.0)
