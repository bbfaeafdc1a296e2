"""Features as rows of a matrix: checks, and blocks of rows in float64."""

from collections.abc import Iterator

import numpy as np

from vqdit.typing import Float

BLOCK = 1024
"""Number of rows that are converted to float64 at a time."""


def blocks(features: Float[np.ndarray, "n d"]) -> Iterator[tuple[slice, Float[np.ndarray, "b d"]]]:
    """Yields consecutive rows in float64, at most `BLOCK` at a time, and their positions."""
    for start in range(0, len(features), BLOCK):
        rows = slice(start, min(start + BLOCK, len(features)))
        yield rows, np.asarray(features[rows], np.float64)


def check_pair(
    first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "m d2"], least: int, what: str
) -> None:
    """Checks two sets of features that are compared.

    Args:
        first: features of one set.
        second: features of the other set.
        least: smallest number of rows of each set.
        what: name of the comparison, for the error message.

    Raises:
        ValueError: a set has too few rows, the widths differ, or a feature is not finite.
    """
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"{what} needs features of one network, got {first.shape[1]} features per example in "
            f"one set and {second.shape[1]} in the other"
        )
    for features in (first, second):
        if len(features) < least:
            raise ValueError(f"{what} needs at least {least} examples, got {len(features)}")
        check_finite(features)


def check_finite(features: Float[np.ndarray, "n d"], start: int = 0) -> None:
    """Raises ValueError if a feature is NaN or infinite; `start` is the number of the first row."""
    for rows, block in blocks(features):
        bad = ~np.isfinite(block).all(axis=1)
        if bad.any():
            raise ValueError(
                f"the features of at least {bad.sum()} examples are not finite, the first being "
                f"example {start + rows.start + int(bad.argmax())}; check the feature network and "
                "the range of its input"
            )
