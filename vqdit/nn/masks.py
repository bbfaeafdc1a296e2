"""Masks of attention: which queries attend to which keys.

A mask is given as visible keys, as visible pairs of a query and a key, or as segments.
"""

from typing import NamedTuple

from vqdit.typing import Array, Bool, Int


class Segments(NamedTuple):
    """A mask of pairs as segment numbers: a query attends to keys with the same number.

    All implementations support this form, which needs the least memory.

    Attributes:
        queries: the number of each query, at least 0.
        keys: the number of each key; -1 hides it from all queries.
    """

    queries: Int[Array, "b l"]
    keys: Int[Array, "b m"]


Mask = Bool[Array, "b m"] | Bool[Array, "b _ m"] | Segments
"""True for keys that all queries attend to, or for pairs of a query and a key."""


def is_of_pairs(mask: Mask | None) -> bool:
    """Returns whether the mask has a value for every pair of a query and a key."""
    return mask is not None and not isinstance(mask, Segments) and mask.ndim == 3


def over_scores(mask: Mask) -> Bool[Array, "b 1 #l m"]:
    """Returns a mask in the form that broadcasts to the scores [b, h, l, m]."""
    if isinstance(mask, Segments):
        mask = mask.queries[:, :, None] == mask.keys[:, None, :]
    return mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]


def for_first_queries(mask: Mask | None, count: int) -> Mask | None:
    """Returns the mask for the first `count` queries; a mask of keys is unchanged."""
    if isinstance(mask, Segments):
        return mask._replace(queries=mask.queries[:, :count])
    return mask if mask is None or mask.ndim == 2 else mask[:, :count]
