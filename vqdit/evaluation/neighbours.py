"""Fidelity and diversity by nearest neighbours: precision, recall, density and coverage.

The manifold of a set is the union of balls around its examples; the radius of a ball is the
distance to the k-th nearest neighbour. Kynkaanniemi et al., "Improved Precision and Recall
Metric", arXiv:1904.06991; Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative
Models", arXiv:2002.09797.
"""

import numpy as np

from vqdit.evaluation.intervals import Estimate, mean, rate
from vqdit.evaluation.rows import blocks, check_pair
from vqdit.typing import Float

K = 5
"""The radius of a ball is the distance to this nearest neighbour, as in the package prdc."""


def manifolds(
    samples: Float[np.ndarray, "n d"], reference: Float[np.ndarray, "m _"], k: int = K
) -> dict[str, Estimate]:
    """Returns four metrics, with their 95 % intervals.

    All of them depend on the numbers of samples and of real examples: compare only equal numbers.
    Intervals describe the variation of the counted examples, and treat the balls as constant.

    Args:
        samples: features of samples.
        reference: features of real examples.
        k: number of the nearest neighbour whose distance is the radius of a ball.

    Returns:
        Four estimates by name.

        - precision: fraction of the samples in the manifold of the reference.
        - recall: fraction of the reference in the manifold of the samples.
        - density: mean number of balls of the reference that contain a sample, divided by k.
        - coverage: fraction of the balls of the reference that contain a sample.

    Raises:
        ValueError: a set has at most k examples, widths differ, or a feature is not finite.
    """
    check_pair(samples, reference, k + 1, f"a manifold with k={k}")
    real, fake = squared_radii(reference, k), squared_radii(samples, k)
    inside = np.zeros(len(samples))
    is_recalled, is_covered = np.zeros(len(reference), bool), np.zeros(len(reference), bool)
    for rows, first in blocks(reference):
        for columns, second in blocks(samples):
            distances = squared_distances(first, second)
            holds = distances < real[rows, None]
            inside[columns] += holds.sum(axis=0)
            is_covered[rows] |= holds.any(axis=1)
            is_recalled[rows] |= (distances < fake[columns]).any(axis=1)
    return {
        "precision": rate(inside > 0),
        "recall": rate(is_recalled),
        "density": mean(inside / k),
        "coverage": rate(is_covered),
    }


def squared_radii(features: Float[np.ndarray, "n d"], k: int) -> Float[np.ndarray, " n"]:
    """Returns the squared distance of each example to its k-th nearest other example."""
    radii = np.empty(len(features))
    for rows, first in blocks(features):
        nearest = np.full((len(first), 0), np.inf)
        for columns, second in blocks(features):
            distances = squared_distances(first, second)
            if rows == columns:
                np.fill_diagonal(distances, np.inf)
            nearest = np.concatenate([nearest, distances], axis=1)
            if nearest.shape[1] > k:
                nearest = np.partition(nearest, k - 1, axis=1)[:, :k]
        radii[rows] = nearest.max(axis=1)
    return radii


def squared_distances(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, "n m"]:
    """Returns the squared Euclidean distances of all pairs of rows in float64."""
    squares = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)
    return np.maximum(squares - 2.0 * x @ y.T, 0.0)
