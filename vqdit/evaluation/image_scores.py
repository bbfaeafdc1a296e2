"""Diversity (coverage) and quality (Frechet distance) of generated images."""

import math

import numpy as np

from vqdit.evaluation.frechet import Moments, frechet_distance
from vqdit.evaluation.resizing import resize
from vqdit.typing import Float, Int, UInt8

MAX_FITTED = 10_000
"""Largest number of training examples for classifiers of images and sounds.

The cost of fitting a kernel machine grows with the square of this number.
"""
MAX_EDGE = 32
"""Largest edge in pixels of the pictures that classifiers and coverage see."""


def pixels(images: UInt8[np.ndarray, "b *size"]) -> Float[np.ndarray, "b d"]:
    """Returns pictures as rows of pixels in [0, 1]; large pictures are resized to `MAX_EDGE`."""
    if images.ndim == 4 and max(images.shape[1:3]) > MAX_EDGE:
        return resize(images, MAX_EDGE, "clean").reshape(len(images), -1) / 255.0
    return images.reshape(len(images), -1) / 255.0


def coverage(
    held_out: Float[np.ndarray, "b d"], samples: Float[np.ndarray, "n d"], k: int = 5
) -> float:
    """Returns the fraction of the real examples that have a sample within their radius.

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

    See `vqdit.evaluation.frechet`.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(
            f"frechet needs at least two examples in each set, got {len(a)} and {len(b)}"
        )
    return frechet_distance(Moments.of(a).gaussian(), Moments.of(b).gaussian())


class ImageFeatures:
    """The hidden layer of a classifier of real pictures, as features for `frechet`.

    The classifier is a perceptron with 64 rectified units. A tenth of the pictures is held out for
    early stopping. If a tenth has fewer pictures than there are classes, training ends when the
    loss no longer falls. Classes with a single picture are left out.

    Distances in the features of different classifiers cannot be compared.

    Args:
        images: real training pictures, in random order.
        labels: their classes.
    """

    def __init__(self, images: UInt8[np.ndarray, "b *size"], labels: Int[np.ndarray, " b"]) -> None:
        from sklearn.neural_network import MLPClassifier

        images, labels = images[:MAX_FITTED], labels[:MAX_FITTED]
        _, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
        if (counts > 1).sum() > 1:  # a class of one picture cannot be in both parts
            images, labels = images[counts[places] > 1], labels[counts[places] > 1]
        stops = math.ceil(len(labels) / 10) >= (counts > 1).sum() > 1
        model = MLPClassifier(
            (64,),
            learning_rate_init=3e-3,
            early_stopping=bool(stops),
            max_iter=1000,
            random_state=0,
        )
        model.fit(pixels(images), labels)
        self._model = model
        self._weight, self._bias = model.coefs_[0], model.intercepts_[0]

    def __call__(self, images: UInt8[np.ndarray, "b *size"]) -> Float[np.ndarray, "b d"]:
        """Returns the features of pictures."""
        return np.maximum(pixels(images) @ self._weight + self._bias, 0.0)

    def logits(self, features: Float[np.ndarray, "b d"]) -> Float[np.ndarray, "b k"]:
        """Returns the classifier's logits, given the features of pictures."""
        found = features @ self._model.coefs_[1] + self._model.intercepts_[1]
        if found.shape[1] == 1:  # of two classes, which have one logistic unit
            return np.concatenate([np.zeros_like(found), found], axis=1)
        return found

    def predict(self, images: UInt8[np.ndarray, "b *size"]) -> Int[np.ndarray, " b"]:
        """Returns the most probable class of each picture."""
        return self._model.classes_[self.logits(self(images)).argmax(axis=1)]
