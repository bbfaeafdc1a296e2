"""Diversity (coverage) and quality (Frechet distance) of generated images."""

import math

import numpy as np

from vqdit.typing import Float, Int, UInt8

MAX_FITTED = 10_000
"""Largest number of training examples for classifiers of images and sounds.

The cost of fitting a kernel machine grows with the square of this number.
"""


def pixels(images: UInt8[np.ndarray, "b *size"]) -> Float[np.ndarray, "b d"]:
    """Returns pictures as rows of pixels in [0, 1]."""
    return images.reshape(len(images), -1) / 255.0


def coverage(
    held_out: Float[np.ndarray, "b d"], samples: Float[np.ndarray, "n d"], k: int = 5
) -> float:
    """Returns the fraction of real examples with a sample no farther than the k-th neighbour.

    Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", arXiv:2002.09797,
    equation 10. Coverage grows with the number of samples: compare only equal numbers.

    Args:
        held_out: features of real examples, more than k.
        samples: features of generated examples.
        k: the distance of a real example to its k-th nearest real neighbour is its radius.
    """
    from sklearn.neighbors import NearestNeighbors

    if len(held_out) <= k:
        raise ValueError(f"coverage needs more than k={k} real examples, got {len(held_out)}")
    radius = NearestNeighbors(n_neighbors=k).fit(held_out).kneighbors()[0][:, -1]
    nearest = NearestNeighbors(n_neighbors=1).fit(samples).kneighbors(held_out)[0][:, 0]
    return float(np.mean(nearest <= radius))


def frechet(a: Float[np.ndarray, "b d"], b: Float[np.ndarray, "n d"]) -> float:
    """Returns the squared Frechet distance between Gaussians fitted to two sets of features.

        d^2 = |mu_a - mu_b|^2 + tr(C_a) + tr(C_b) - 2 tr((C_a^1/2 C_b C_a^1/2)^1/2)

    (Dowson and Landau, 1982; Heusel et al., arXiv:1706.08500.) With C = R^T R, the last trace is
    the sum of the singular values of R_a R_b^T. This avoids squared matrices and roots of rounding
    errors. It is also correct if features are constant or outnumber the examples.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(
            f"frechet needs at least two examples in each set, got {len(a)} and {len(b)}"
        )

    def factor(x: np.ndarray) -> np.ndarray:
        return np.asarray(np.linalg.qr(x - x.mean(axis=0), mode="r")) / math.sqrt(len(x) - 1)

    first, second = factor(a), factor(b)
    variances = (first**2).sum() + (second**2).sum()
    shared = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    means = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    return max(0.0, float(means + variances - 2.0 * shared))


class ImageFeatures:
    """The hidden layer of a classifier of real pictures, as features for `frechet`.

    A perceptron with 64 rectified units, trained with early stopping on a tenth of its pictures.
    Distances in the features of different classifiers cannot be compared.

    Args:
        images: real training pictures, in random order.
        labels: their classes.
    """

    def __init__(self, images: UInt8[np.ndarray, "b *size"], labels: Int[np.ndarray, " b"]) -> None:
        from sklearn.neural_network import MLPClassifier

        model = MLPClassifier(
            (64,), learning_rate_init=3e-3, early_stopping=True, max_iter=1000, random_state=0
        )
        model.fit(pixels(images[:MAX_FITTED]), labels[:MAX_FITTED])
        self._weight, self._bias = model.coefs_[0], model.intercepts_[0]

    def __call__(self, images: UInt8[np.ndarray, "b *size"]) -> Float[np.ndarray, "b d"]:
        """Returns the features of pictures."""
        return np.maximum(pixels(images) @ self._weight + self._bias, 0.0)
