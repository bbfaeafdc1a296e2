"""Statistics of texts: diversity, and copies of training data.

A text is given as its bytes in UTF-8, without end codes and padding. Words are separated by white
space.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from vqdit.evaluation.intervals import Estimate, mean, rate, ratio
from vqdit.typing import Float

SEPARATOR = b"\0"
"""Separates the texts of training data, so that no match spans two of them."""


class Distinct(NamedTuple):
    """Distinct-n, and the total number of n-grams."""

    value: float
    ngrams: int


def distinct(texts: Iterable[bytes], n: int) -> Distinct | None:
    """Returns distinct-n: the number of different n-grams of words divided by their total number.

    N-grams do not span texts. Distinct-n falls as the number of texts grows: compare only equal
    numbers of texts of similar lengths. Li et al., "A Diversity-Promoting Objective Function for
    Neural Conversation Models", arXiv:1510.03055, section 5.2.

    Returns:
        None if no text has n words.
    """
    found = Counter(
        tuple(words[at : at + n])
        for words in (text.split() for text in texts)
        for at in range(len(words) - n + 1)
    )
    return Distinct(len(found) / found.total(), found.total()) if found else None


def entropy(text: bytes) -> float | None:
    """Returns the entropy of the bytes of a text, in bits per byte; None if it is empty."""
    shares = np.bincount(np.frombuffer(text, np.uint8)) / max(len(text), 1)
    shares = shares[shares > 0.0]
    return max(0.0, -float(shares @ np.log2(shares))) if len(text) else None


def entropies(texts: Sequence[bytes]) -> Estimate | None:
    """Returns the mean over texts of the entropy of the bytes of each, in bits per byte.

    Repetition within a text lowers the entropy, which cannot exceed log2 of the length. Empty texts
    do not count. Zheng et al., "Masked Diffusion Models are Secretly Time-Agnostic Masked Models
    and Exploit Inaccurate Categorical Sampling", arXiv:2409.02908, section 4, where the entropy is
    measured over tokens and in nats.

    Returns:
        None if fewer than two texts are not empty.
    """
    values = [value for value in map(entropy, texts) if value is not None]
    return mean(np.asarray(values)) if len(values) > 1 else None


def by_length(texts: Iterable[bytes]) -> dict[tuple[int, int], list[bytes]]:
    """Returns texts by (least, largest) number of bytes: 1, 2 to 3, 4 to 7, and so on.

    Empty texts do not count.
    """
    found: dict[tuple[int, int], list[bytes]] = {}
    for text in sorted((text for text in texts if text), key=len):
        low = 1 << int(math.log2(len(text)))
        found.setdefault((low, 2 * low - 1), []).append(text)
    return found


class Verbatim(NamedTuple):
    """Proportions of texts that are copied from training data.

    Attributes:
        texts: proportion of the texts that are a part or the whole of a training text.
        windows: proportion of the windows of `window` bytes that occur in a training text; None if
            fewer than two texts are long enough. The interval is over texts, as the windows of a
            text are not independent.
        window: length of a window in bytes.
    """

    texts: Estimate
    windows: Estimate | None
    window: int


def verbatim(texts: Sequence[bytes], train: bytes, window: int) -> Verbatim | None:
    """Returns the proportions of texts that occur verbatim in training data.

    A window begins at every byte of a text. Empty texts do not count. Lee et al. use windows of
    50 tokens: "Deduplicating Training Data Makes Language Models Better", arXiv:2107.06499, section
    5.1.

    Args:
        texts: texts without end codes.
        train: the training texts, separated by `SEPARATOR`.
        window: length of a window in bytes.

    Returns:
        None if all texts are empty.
    """
    texts = [text for text in texts if text]
    if not texts:
        return None
    own = [list(_windows(text, window)) for text in texts]
    wanted = {part for parts in own for part in parts}
    # The windows of the training data are not stored, as one begins at every byte.
    copied = wanted.intersection(_windows(train, window)) if wanted else set()
    whole = [
        all(part in copied for part in parts) and text in train
        for text, parts in zip(texts, own, strict=True)
    ]
    counts = np.asarray([sum(part in copied for part in parts) for parts in own if parts], float)
    sizes = np.asarray([len(parts) for parts in own if parts], float)
    return Verbatim(rate(np.asarray(whole)), _share(counts, sizes), window)


def _share(counts: Float[np.ndarray, " b"], sizes: Float[np.ndarray, " b"]) -> Estimate | None:
    """Returns the sum of counts divided by the sum of sizes; None for fewer than two texts."""
    if len(sizes) < 2:
        return None
    found = ratio(counts, sizes)
    if found.value in (0.0, 1.0):  # all texts agree, so there is no spread
        return rate(counts > 0.0)
    return found._replace(low=max(found.low, 0.0), high=min(found.high, 1.0))


def _windows(text: bytes, size: int) -> Iterator[bytes]:
    return (text[at : at + size] for at in range(len(text) - size + 1))
