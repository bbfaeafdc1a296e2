"""Confidence intervals of proportions, ratios and means."""

import math
from typing import NamedTuple

import numpy as np

from vqdit.typing import Bool, Float, Int


class Estimate(NamedTuple):
    """A proportion, ratio or mean, the limits of its 95 % interval, and the number of examples."""

    value: float
    low: float
    high: float
    count: int


def wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Returns the score interval of a proportion; its confidence level holds even near 0 and 1.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.

    Args:
        successes: number of successful trials, 0 to n.
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


def rate(hits: Bool[np.ndarray, " b"]) -> Estimate:
    """Returns the proportion of True values, with its interval."""
    successes, n = int(hits.sum()), len(hits)
    return Estimate(successes / max(n, 1), *wilson(successes, n), n)


def ratio(
    amounts: Float[np.ndarray, " b"], sizes: Int[np.ndarray, " b"] | Float[np.ndarray, " b"]
) -> Estimate:
    """Returns the sum of amounts divided by the sum of sizes, such as bits per byte.

    The interval is over examples, which may differ in size. The variance of the ratio R is the
    variance of the mean of (amount - R size), divided by the square of the mean size; the quantile
    is from Student's t distribution. Cochran, "Sampling Techniques", 3rd edition, 1977, sections
    2.11 and 6.4.

    Args:
        amounts: amount of each example, such as its bits; at least two examples.
        sizes: sizes of the examples, whose sum is above 0.
    """
    from scipy.stats import t

    n, total = len(amounts), float(np.sum(sizes, dtype=np.float64))
    if n < 2 or total <= 0.0:
        raise ValueError(
            f"an interval needs at least two examples and a total size above 0, got {n} "
            f"examples of size {total:g}"
        )
    value = float(np.sum(amounts, dtype=np.float64)) / total
    spread = np.std(np.asarray(amounts, np.float64) - value * np.asarray(sizes), ddof=1)
    half = float(t.ppf(0.975, n - 1) * spread * math.sqrt(n) / total)
    return Estimate(value, value - half, value + half, n)


def mean(values: Float[np.ndarray, " b"]) -> Estimate:
    """Returns the mean of values, and its interval by Student's t."""
    return ratio(values, np.ones(len(values)))
