"""Sources of long texts: documents one behind the other, cut into windows of one length.

The stream of a split is each of its documents followed by the end code, so that every byte is seen
once an epoch; a document continues in the next window where a window ends. Attention and losses do
not cross documents: `document_numbers` says which positions belong together.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from vqdit.data.builders.records import Example
from vqdit.data.recorded import Recorded
from vqdit.data.sources import Feature
from vqdit.typing import Int, Named, Shaped

END = 0
"""The code that ends a document, and fills the last window of a stream."""
LONGEST = 2**20
"""Largest length of a window."""


class TextStream(Recorded):
    """Base class of sources with one column, `text`: windows uint8 [length] of UTF-8 bytes.

    Attributes:
        length: bytes of a window.
    """

    length: int = 1024

    def __post_init__(self) -> None:
        self.require(f"length from 2 to {LONGEST}", 2 <= self.length <= LONGEST)

    def raw_features(self) -> Named[Feature]:
        return Named(text=Feature((self.length,), packed=True))

    def examples(self) -> Mapping[str, Iterable[Example]]:
        return {
            split: windows(documents, self.length) for split, documents in self.streams().items()
        }

    def streams(self) -> Mapping[str, Iterable[bytes | str]]:
        """Returns the documents of every split, none of them empty or with the end code in it.

        A str in the place of a document is a remark, such as what was left out and why.
        """
        raise TypeError(f"{type(self).__name__} must define the method streams")


def windows(documents: Iterable[bytes | str], length: int) -> Iterator[Example]:
    """Yields the windows of a stream; end codes fill the last one. Remarks pass through."""
    rest = b""
    for document in documents:
        if isinstance(document, str):
            yield document
            continue
        rest += document + bytes([END])
        whole = len(rest) - len(rest) % length
        for start in range(0, whole, length):
            yield {"text": np.frombuffer(rest, np.uint8, length, start)}
        rest = rest[whole:]
    if rest:
        yield {"text": np.frombuffer(rest.ljust(length, bytes([END])), np.uint8)}


def document_numbers(windows: Shaped[np.ndarray, "b l"]) -> Int[np.ndarray, "b l"]:
    """Returns the number of the document within its window at every position, int32.

    A document's end code belongs to it. What fills the window behind the last document of a stream
    is -1: an end code that follows another one, as no document is empty.
    """
    is_end = windows == END
    numbers = np.cumsum(is_end, axis=1) - is_end
    fills = is_end.copy()
    fills[:, 0] = False
    fills[:, 1:] &= is_end[:, :-1]
    return np.where(fills, -1, numbers).astype(np.int32)
