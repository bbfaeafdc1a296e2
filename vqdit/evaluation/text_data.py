"""Real examples for metrics of text: held-out rows, training texts, and their sizes in bytes."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vqdit.data import Source
from vqdit.data.sources import PRESENT, Arrays, Split, take
from vqdit.evaluation.text_statistics import SEPARATOR
from vqdit.modalities import Text
from vqdit.modalities.units import END
from vqdit.typing import Int, Named

CHUNK = 256
"""Number of examples that are read at a time."""


class Rows(NamedTuple):
    """Examples that have all wanted columns.

    Attributes:
        stored: columns in stored form, keyed by name.
        count: number of examples.
    """

    stored: Mapping[str, np.ndarray]
    count: int


def rows(
    source: Source, splits: Collection[str], names: Collection[str], count: int | None
) -> Rows:
    """Returns at most `count` random examples of some splits, the same in repeated calls.

    Args:
        source: the data.
        splits: names of the splits.
        names: columns that every example must have; others are not returned.
        count: number of examples; None returns all, in their order.

    Raises:
        ValueError: the data lack a column, or no example has all of them.
    """
    features = source.features()
    for name in names:
        if name not in features:
            raise ValueError(
                f"{type(source).__name__} has no column {name!r}; it has {', '.join(features)}"
            )
    wanted = Named({name: features[name] for name in names})
    parts = [source.split(split) for split in splits]
    found: list[Arrays] = []
    left = count
    for part, numbers in _chunks(parts, is_shuffled=count is not None):
        arrays = take(part, numbers, wanted)
        keep = np.flatnonzero(np.all([arrays[PRESENT + name] for name in names], axis=0))[:left]
        found.append({name: arrays[name][keep] for name in names})
        left = None if left is None else left - len(keep)
        if left == 0:
            break
    stored = {name: np.concatenate([one[name] for one in found]) for name in names if found}
    total = len(next(iter(stored.values()), ()))
    if not total:
        raise ValueError(
            f"no example of {' and '.join(splits)} has all of "
            f"{' and '.join(map(repr, names))}; use other data"
        )
    return Rows(stored, total)


def _chunks(parts: Sequence[Split], is_shuffled: bool) -> Iterator[tuple[Split, np.ndarray]]:
    """Yields pairs of a split and some of its rows; the rows may be in random order."""
    ends = np.cumsum([0, *map(len, parts)])
    order = np.arange(ends[-1])
    if is_shuffled:
        order = np.random.default_rng(0).permutation(ends[-1])
    for start in range(0, len(order), CHUNK):
        numbers = order[start : start + CHUNK]
        for part, first, end in zip(parts, ends[:-1], ends[1:], strict=True):
            own = numbers[(numbers >= first) & (numbers < end)] - first
            if len(own):
                yield part, own


def texts_of(modality: Text, stored: np.ndarray) -> list[bytes]:
    """Returns stored texts as bytes in UTF-8, without end codes and padding."""
    return [str(text).encode() for text in modality.unpack(stored)]


def sizes_of(modality: Text, stored: np.ndarray) -> Int[np.ndarray, " b"]:
    """Returns the number of bytes of stored texts; every end code counts as one byte.

    A text of variable length has no end code. A padded text has one end code, unless it has the
    largest length. A window of a packed stream has one end code for every document that ends in the
    window, and the last window of a stream ends with an end code.
    """
    if modality.lengths:
        return np.asarray([len(modality.units.decode(row)) for row in stored], int)
    found = []
    for row in stored:
        content = row[: np.flatnonzero(row != END).max(initial=-1) + 1]
        size = len(modality.units.decode(content[content != END]))
        found.append(size + np.sum(content == END) + (len(content) < len(row)))
    return np.asarray(found, int)


def corpus(source: Source, split: str, name: str, modality: Text) -> bytes:
    """Returns the texts of a split in their order, each followed by byte 0."""
    feature = source.features()[name]
    columns = []
    for part, numbers in _chunks([source.split(split)], is_shuffled=False):
        arrays = take(part, numbers, Named({name: feature}))
        columns.append(arrays[name][arrays[PRESENT + name]])
    stored = np.concatenate(columns)
    if not feature.packed:
        return b"".join(text + SEPARATOR for text in texts_of(modality, stored))
    codes = stored.ravel()  # consecutive windows form the stream
    documents = np.split(codes, np.flatnonzero(codes == END))
    found = SEPARATOR.join(modality.units.decode(part[part != END]) for part in documents)
    return found.rstrip(SEPARATOR) + SEPARATOR  # the last window is padded
