"""Shares with their confidence intervals."""

import math
from typing import NamedTuple

import numpy as np

from vqdit.typing import Bool


class Rate(NamedTuple):
    """A share, the limits of its 95 % interval, and the number of examples."""

    value: float
    low: float
    high: float
    count: int


def wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Returns the score interval of a share, which keeps its confidence level near 0 and 1.

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
    """Returns the share of True values."""
    successes, n = int(hits.sum()), len(hits)
    return Rate(successes / max(n, 1), *wilson(successes, n), n)
