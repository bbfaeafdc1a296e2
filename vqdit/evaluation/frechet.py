"""The Frechet distance between Gaussians fitted to two sets of features, and its interval.

    d^2 = |mu_a - mu_b|^2 + tr(C_a) + tr(C_b) - 2 tr((C_a^1/2 C_b C_a^1/2)^1/2)

Dowson and Landau, 1982; Heusel et al., "GANs Trained by a Two Time-Scale Update Rule",
arXiv:1706.08500, eq. 6. With the features of Inception this is FID.

With C = L L^T, where L has the eigenvectors of C scaled by the roots of the eigenvalues, the last
trace is the sum of the singular values of L_a^T L_b. No matrix is squared, and no root is taken of
a rounding error, so the distance is also exact if features are constant, linearly dependent or
outnumber the examples.
"""

import math
from functools import cached_property
from typing import NamedTuple

import numpy as np

from vqdit.evaluation.intervals import Estimate
from vqdit.evaluation.rows import blocks, check_finite, check_pair
from vqdit.typing import Float


class Gaussian(NamedTuple):
    """Mean and covariance of features, in float64."""

    mean: Float[np.ndarray, " d"]
    covariance: Float[np.ndarray, "d d"]


class Moments(NamedTuple):
    """Count, mean and scatter of features that are seen in parts, in float64.

    Parts of any sizes can be merged in any order: parts of batches, devices and processes. The
    sums are of deviations from the mean, so that a large mean costs no accuracy. Chan et al.,
    "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979, eq. 2.1.

    Attributes:
        count: number of examples.
        mean: mean of the examples, [d].
        scatter: sum over the examples of (x - mean) (x - mean)^T.
    """

    count: int
    mean: Float[np.ndarray, " d"]
    scatter: Float[np.ndarray, "d d"]

    @classmethod
    def zero(cls, width: int) -> "Moments":
        """Returns the moments of no examples."""
        return cls(0, np.zeros(width), np.zeros((width, width)))

    @classmethod
    def of(cls, features: Float[np.ndarray, "n d"]) -> "Moments":
        """Returns the moments of features.

        Raises:
            ValueError: a feature is not finite.
        """
        check_finite(features)
        found = cls.zero(features.shape[1])
        for _, rows in blocks(features):
            mean = rows.mean(axis=0)
            centred = rows - mean
            found = found.merge(cls(len(rows), mean, centred.T @ centred))
        return found

    def merge(self, other: "Moments") -> "Moments":
        """Returns the moments of the examples of both parts."""
        count = self.count + other.count
        if not self.count or not other.count:
            return self if self.count else other
        step = other.mean - self.mean
        shift = np.outer(step, step * (self.count * other.count / count))
        scatter = self.scatter + other.scatter + shift
        return Moments(count, self.mean + step * (other.count / count), scatter)

    def gaussian(self) -> Gaussian:
        """Returns the mean and the unbiased covariance.

        Raises:
            ValueError: there are fewer than two examples.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 examples, got {self.count}")
        return Gaussian(self.mean, self.scatter / (self.count - 1))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Returns the squared Frechet distance between two Gaussians.

    Raises:
        ValueError: the Gaussians have different numbers of dimensions.
    """
    if len(a.mean) != len(b.mean):
        raise ValueError(
            "frechet_distance needs features of the same network in both sets, got "
            f"{len(a.mean)} and {len(b.mean)} dimensions"
        )
    return _Coupling(a, b).distance


def frechet_estimate(
    samples: Float[np.ndarray, "n d"], reference: Float[np.ndarray, "m _"] | Gaussian
) -> Estimate:
    """Returns the squared Frechet distance of samples to a reference, with its 95 % interval.

    The interval is value +- 1.96 s, where s is the bootstrap's standard error to first order (the
    infinitesimal jackknife: Efron, "The Jackknife, the Bootstrap and Other Resampling Plans", 1982,
    chapter 6). If the weight of sample x increases by eps, the distance changes by eps times

        2 (mu_a - mu_b) (x - mu_a) + |x - mu_a|^2 - (x - mu_a)^T T (x - mu_a) - m,

    where T is the linear map that transports one Gaussian to the other, and m is the mean of the
    other terms over the samples. A bootstrap that draws examples is not used, as sets with repeated
    examples have a larger distance. The bias of the distance, which falls with the number of
    samples, is not in the interval. If the reference is a Gaussian, the interval does not include
    the error of the reference.

    Raises:
        ValueError: there are fewer than two examples, widths differ, or a feature is not finite.
    """
    if isinstance(reference, Gaussian):
        check_pair(samples, reference.mean[None].repeat(2, axis=0), 2, "frechet")
    else:
        check_pair(samples, reference, 2, "frechet")
    own = Moments.of(samples).gaussian()
    is_given = isinstance(reference, Gaussian)
    other = reference if is_given else Moments.of(reference).gaussian()
    coupling = _Coupling(own, other)
    variance = coupling.variance(samples)
    if not is_given:
        variance += coupling.reverse().variance(reference)
    value, half = coupling.distance, 1.96 * math.sqrt(variance)
    return Estimate(value, max(0.0, value - half), value + half, len(samples))


class _Coupling:
    """Two Gaussians, the roots L of their covariances, and the singular values of L_a^T L_b."""

    def __init__(self, a: Gaussian, b: Gaussian) -> None:
        self.a, self.b = a, b
        self.roots = _root(a.covariance), _root(b.covariance)
        first, second = self.roots
        self.left, self.shared, self.right = np.linalg.svd(first.T @ second, full_matrices=False)

    def reverse(self) -> "_Coupling":
        """Returns the coupling of b and a."""
        other = object.__new__(_Coupling)
        other.a, other.b, other.roots = self.b, self.a, self.roots[::-1]
        other.left, other.shared, other.right = self.right.T, self.shared, self.left.T
        return other

    @cached_property
    def distance(self) -> float:
        """The squared Frechet distance."""
        a, b = self.a, self.b
        traces = np.trace(a.covariance) + np.trace(b.covariance)
        means = float(((a.mean - b.mean) ** 2).sum())
        return max(0.0, means + float(traces) - 2.0 * float(self.shared.sum()))

    def variance(self, features: Float[np.ndarray, "n d"]) -> float:
        """Returns the variance of the distance that is due to a's examples, to first order."""
        own, other = self.roots
        inverse = own / np.maximum((own**2).sum(axis=0), np.finfo(float).tiny)
        transport = inverse @ (self.left @ self.right) @ other.T
        step = self.a.mean - self.b.mean
        influence = np.empty(len(features))
        for rows, block in blocks(features):
            x = block - self.a.mean
            moved = ((x @ transport) * x).sum(axis=1)
            influence[rows] = 2.0 * x @ step + (x**2).sum(axis=1) - moved
        return float(influence.var(ddof=1)) / len(features)


def _root(covariance: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d r"]:
    """Returns L with L L^T = covariance; eigenvalues that are only rounding errors are left out."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > len(values) * np.finfo(float).eps * max(values[-1], 0.0)
    return vectors[:, kept] * np.sqrt(values[kept])
