"""Elementwise losses, averaged over the elements of each example; padding is ignored."""

import jax
import jax.numpy as jnp

from vqdit.masked_mean import mean_of_each
from vqdit.typing import Array, Bool, Float

Data = Float[Array, "b *size c"]
Mask = Bool[Array, "b n"] | None
"""False at padding of sequences; None without padding."""


def l1(x: Data, y: Data, mask: Mask = None) -> Float[Array, " b"]:
    """Returns the mean absolute error of each example."""
    return mean_of_each(jnp.abs(x - y), mask)


def l2(x: Data, y: Data, mask: Mask = None) -> Float[Array, " b"]:
    """Returns the mean squared error of each example."""
    return mean_of_each((x - y) ** 2, mask)


def huber(x: Data, y: Data, mask: Mask = None, delta: float = 0.1) -> Float[Array, " b"]:
    """Returns the mean Huber loss of each example.

    With e = x - y, the loss is e^2 / 2 where |e| <= delta, and delta (|e| - delta / 2) elsewhere.
    The default of delta is a twentieth of the data's range. Huber, "Robust Estimation of a Location
    Parameter", 1964.
    """
    error = jnp.abs(x - y)
    inner = jnp.minimum(error, delta)
    return mean_of_each(inner * (error - 0.5 * inner), mask)


def cross_entropy(x: Data, y: Data, mask: Mask = None) -> Float[Array, " b"]:
    """Returns the mean of -log p(x) over the positions of each example, in nats.

    x are one-hot codes, and y are logits.
    """
    surprise = -jnp.sum(x * jax.nn.log_softmax(y, axis=-1), axis=-1)
    return mean_of_each(surprise[..., None], mask)


def accuracy(x: Data, y: Data, mask: Mask = None) -> Float[Array, " b"]:
    """Returns the fraction of each example's positions at which the largest logit is the code's.

    x are one-hot codes, and y are logits.
    """
    is_right = jnp.argmax(x, axis=-1) == jnp.argmax(y, axis=-1)
    return mean_of_each(is_right[..., None].astype(jnp.float32), mask)


RECONSTRUCTION = {"l1": l1, "l2": l2, "huber": huber, "cross_entropy": cross_entropy}
"""The losses by name, as in configs."""
