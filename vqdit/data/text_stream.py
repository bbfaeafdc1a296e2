"""Sources of long texts: concatenated documents, cut into windows of one length.

The stream of a split is the concatenation of its documents, each followed by the end code. A
document that does not fit into a window continues in the next one, so every byte is seen once per
epoch. Attention and losses do not cross documents: `document_numbers` returns the document of every
position.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from vqdit.data.builders.records import Example
from vqdit.data.recorded import Recorded
from vqdit.data.sources import Feature
from vqdit.modalities import Bytes, Units
from vqdit.modalities.units import END
from vqdit.typing import Named

Codes = Any
"""A NumPy or JAX array [b, l]."""
LONGEST = 2**20
"""Largest length of a window in units."""


class TextStream(Recorded):
    """Base class of sources with one column, `text`: windows of `length` codes, one code per unit.

    Attributes:
        length: number of units in a window.
        units: what a code stands for: a byte, or a unit of a `BPE`, which is learned from the
            training documents when the data are prepared. The `Text` of the task must use the same
            units.
    """

    length: int = 1024
    units: Units = Bytes()

    def __post_init__(self) -> None:
        self.require(f"length from 2 to {LONGEST}", 2 <= self.length <= LONGEST)
        if self.units.learned:
            raise ValueError(
                f"{type(self).__name__} learns the merges of its units from the data; leave "
                "merges empty"
            )

    @property
    def form(self) -> str:
        """Length and units as a text, which is a part of `key`."""
        kind = type(self.units).__name__.lower()
        return (
            f"{self.length}"
            if self.units == Bytes()
            else f"{self.length}_{kind}{self.units.vocabulary}"
        )

    def raw_features(self) -> Named[Feature]:
        units = _learned(self, self.key())
        dtype = str(units.dtype)
        return Named(text=Feature((self.length,), dtype=dtype, packed=True, units=units.learned))

    def examples(self) -> Mapping[str, Iterable[Example]]:
        units = _learned(self, self.key())
        return {s: windows(found, self.length, units) for s, found in self.streams().items()}

    def streams(self) -> Mapping[str, Iterable[bytes | str]]:
        """Returns the documents of every split; no document is empty or contains the end code.

        A str in place of a document is a remark, such as what was left out and why.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'streams'")


@functools.lru_cache(maxsize=4)
def _learned(source: TextStream, key: str) -> Units:
    """Returns the units of a source's text, with merges learned from its training documents.

    Args:
        source: the source.
        key: key of the source, which changes with the content of its files.
    """
    del key
    documents = (d.decode() for d in source.streams()["train"] if isinstance(d, bytes))
    return source.units.learn(documents)


def windows(documents: Iterable[bytes | str], length: int, units: Units) -> Iterator[Example]:
    """Yields the windows of a stream and its remarks; the last window is padded with end codes."""
    rest, end = np.zeros(0, units.dtype), np.full(1, END, units.dtype)
    for document in documents:
        if isinstance(document, str):
            yield document
            continue
        rest = np.concatenate([rest, units.encode(document.decode()), end])
        whole = len(rest) - len(rest) % length
        yield from ({"text": window} for window in rest[:whole].reshape(-1, length))
        rest = rest[whole:]
    if len(rest):
        yield {"text": np.pad(rest, (0, length - len(rest)))}


def document_numbers(windows: Codes, xp: ModuleType = np) -> Codes:
    """Returns the number of the document within its window at every position: int32 [b, l].

    The end code of a document belongs to the document. The padding after the last document of a
    stream is -1. Padding is recognised as an end code after an end code, as no document is empty.

    Args:
        windows: codes [b, l].
        xp: `numpy`, or `jax.numpy` for arrays of JAX.
    """
    is_end = windows == END
    ends = xp.cumsum(is_end, axis=1)
    before = ends - is_end
    follows = xp.concatenate([xp.zeros_like(is_end[:, :1]), is_end[:, :-1]], axis=1)
    return xp.where(is_end & follows, -1, before).astype(xp.int32)
