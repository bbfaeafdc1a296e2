"""The maximum mean discrepancy (MMD) between two sets of features: KID, and a Gaussian kernel.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y)

Gretton et al., "A Kernel Two-Sample Test", JMLR 13, 2012.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vqdit.evaluation.intervals import Estimate
from vqdit.evaluation.rows import blocks, check_pair
from vqdit.typing import Float

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]
SUBSETS, SUBSET_SIZE = 100, 1000
"""Number and size of the random subsets whose mean is KID."""
SIGMA, SCALE = 10.0, 1000.0
"""Bandwidth of the Gaussian kernel, and the factor of the result, as in CMMD."""


def kid(
    samples: Float[np.ndarray, "n d"],
    reference: Float[np.ndarray, "m _"],
    subsets: int = SUBSETS,
    size: int = SUBSET_SIZE,
    seed: int = 2020,
) -> Estimate:
    """Returns the kernel distance, with its 95 % interval.

    It is the mean over random subsets of the unbiased estimate of MMD^2 with the kernel
    (x y / d + 1)^3, so it may be below 0. Binkowski et al., "Demystifying MMD GANs",
    arXiv:1801.01401, section 4.

    Args:
        samples: features of samples.
        reference: features of the reference.
        subsets: number of subsets.
        size: examples of each set in a subset; at most the number of examples.
        seed: seed of the subsets; the default gives the subsets of the package torch-fidelity.

    Raises:
        ValueError: there are fewer than two examples, widths differ, or a feature is not finite.
    """
    check_pair(samples, reference, 2, "kid")
    size = min(size, len(samples), len(reference))
    random, found = np.random.RandomState(seed), []
    for _ in range(subsets):
        chosen = [random.choice(len(x), size, replace=False) for x in (samples, reference)]
        first, second = samples[chosen[0]], reference[chosen[1]]
        found.append(mmd(first, second, polynomial, is_biased=False))
        if size == len(samples) == len(reference):  # all subsets are equal
            break
    parts = np.asarray(found)
    value, within = parts[:, 0].mean(), parts[:, 1:].mean(axis=0)
    # The variance falls from that of a subset to that of the whole set as subsets cover the set.
    covered = size / np.asarray([len(samples), len(reference)])
    variance = float(within @ (covered + (1.0 - covered) / len(parts)))
    half = 1.96 * math.sqrt(variance)
    return Estimate(float(value), float(value) - half, float(value) + half, len(samples))


def gaussian_mmd(
    samples: Float[np.ndarray, "n d"],
    reference: Float[np.ndarray, "m _"],
    sigma: float = SIGMA,
    scale: float = SCALE,
) -> Estimate:
    """Returns scale * MMD^2 with the kernel exp(-|x - y|^2 / (2 sigma^2)), with its interval.

    It is the biased estimate, which is 0 for equal sets and never negative. With embeddings of CLIP
    of length 1 this is CMMD: Jayasumana et al., "Rethinking FID", arXiv:2401.09603, section 5.

    Raises:
        ValueError: there are fewer than two examples, widths differ, or a feature is not finite.
    """
    check_pair(samples, reference, 2, "mmd")
    if not 0.0 < sigma < math.inf:
        raise ValueError(f"mmd needs a bandwidth above 0, got {sigma}")

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        squares = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)
        return np.exp(np.minimum(x @ y.T - squares / 2.0, 0.0) / sigma**2)

    found = mmd(samples, reference, kernel, is_biased=True)
    value, half = scale * max(0.0, found.value), scale * 1.96 * math.sqrt(sum(found[1:]))
    return Estimate(value, max(0.0, value - half), value + half, len(samples))


def polynomial(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> np.ndarray:
    """Returns the kernel (x y / d + 1)^3 of all pairs."""
    return (x @ y.T / x.shape[1] + 1.0) ** 3


class Discrepancy(NamedTuple):
    """MMD^2, and the variances that are due to the examples of each set, to first order."""

    value: float
    first: float
    second: float


def mmd(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"], kernel: Kernel, *, is_biased: bool
) -> Discrepancy:
    """Returns MMD^2 of two sets; needs memory for a block of rows of the kernel.

    Args:
        x: features of one set.
        y: features of the other set.
        kernel: maps two blocks of rows to the matrix of all pairs.
        is_biased: whether pairs of an example with itself count.
    """
    own_x, own_y = (_own_means(z, kernel, is_biased) for z in (x, y))
    cross_x, cross_y = np.empty(len(x)), np.zeros(len(y))
    for rows, first in blocks(x):
        sums = np.zeros(len(first))
        for columns, second in blocks(y):
            values = kernel(first, second)
            sums += values.sum(axis=1)
            cross_y[columns] += values.sum(axis=0)
        cross_x[rows] = sums / len(y)
    cross_y /= len(x)
    value = own_x.mean() + own_y.mean() - cross_x.mean() - cross_y.mean()
    spread_x, spread_y = (
        float(4.0 * (own - cross).var(ddof=1) / len(own))
        for own, cross in ((own_x, cross_x), (own_y, cross_y))
    )
    return Discrepancy(float(value), spread_x, spread_y)


def _own_means(z: Float[np.ndarray, "n d"], kernel: Kernel, is_biased: bool) -> np.ndarray:
    """Returns, for each example, the mean of the kernel with the other examples of the same set."""
    means = np.empty(len(z))
    for rows, first in blocks(z):
        sums = np.zeros(len(first))
        for columns, second in blocks(z):
            values = kernel(first, second)
            if columns == rows and not is_biased:
                np.fill_diagonal(values, 0.0)
            sums += values.sum(axis=1)
        means[rows] = sums / (len(z) if is_biased else len(z) - 1)
    return means
