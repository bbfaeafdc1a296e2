"""Memorisation: samples that are copies of training examples, by nearest neighbours of features.

Held-out examples, which cannot be copies, show how near to the training set new examples are. A
sample counts as a copy if it is nearer to a training example than nearly all held-out examples are;
without memorisation, the fraction of such samples is that of the held-out examples.
"""

from typing import NamedTuple

import numpy as np

from vqdit.evaluation.intervals import Estimate, rate
from vqdit.evaluation.neighbours import squared_distances
from vqdit.evaluation.rows import blocks, check_pair
from vqdit.typing import Float, Int

NEAR = 0.01
"""Fraction of the held-out examples that are as near to the training set as a copy."""


class Copies(NamedTuple):
    """The copies among samples.

    Attributes:
        share: fraction of the samples that are copies.
        of_held_out: the same fraction of the held-out examples; about `NEAR`, more if some of them
            are in the training set.
        limit: largest distance of a copy to its nearest training example.
        nearest: position of the nearest training example of each sample.
        distances: Euclidean distance of each sample to its nearest training example.
    """

    share: Estimate
    of_held_out: Estimate
    limit: float
    nearest: Int[np.ndarray, " n"]
    distances: Float[np.ndarray, " n"]

    def closest(self, count: int) -> Int[np.ndarray, " c"]:
        """Returns the positions of the samples with the smallest distances, in their order."""
        return np.argsort(self.distances, kind="stable")[:count]


def copies(
    samples: Float[np.ndarray, "n d"],
    training: Float[np.ndarray, "m _"],
    held_out: Float[np.ndarray, "h _"],
) -> Copies:
    """Finds the samples that are copies of training examples.

    Args:
        samples: features of samples.
        training: features of the whole training set, as copies of a missing example are not found.
        held_out: features of examples of the same kind that were not used in training.

    Raises:
        ValueError: there are no samples, less than 1 / `NEAR` held-out examples, widths differ, or
            a feature is not finite.
    """
    check_pair(samples, training, 1, "the search for copies")
    check_pair(held_out, training, 1, "the search for copies")
    if len(held_out) < 1 / NEAR:
        raise ValueError(
            f"copies needs at least {round(1 / NEAR)} held-out examples, got {len(held_out)}"
        )
    _, usual = nearest(held_out, training)
    limit = float(np.quantile(usual, NEAR, method="lower"))
    found, distances = nearest(samples, training)
    return Copies(rate(distances <= limit), rate(usual <= limit), limit, found, distances)


def nearest(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Returns for each row of x the position of the nearest row of y, and their distance."""
    found, distances = np.zeros(len(x), int), np.zeros(len(x))
    for rows, first in blocks(x):
        least = np.full(len(first), np.inf)
        for columns, second in blocks(y):
            squares = squared_distances(first, second)
            column = squares.argmin(axis=1)
            square = squares[np.arange(len(first)), column]
            is_nearer = square < least
            found[rows] = np.where(is_nearer, columns.start + column, found[rows])
            least = np.minimum(least, square)
        # The difference itself is exactly 0 for equal features.
        distances[rows] = np.linalg.norm(first - np.asarray(y[found[rows]], np.float64), axis=1)
    return found, distances
