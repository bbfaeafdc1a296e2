"""Learns a codebook without gradients: moving averages, k-means, and revival of unused codes.

With n_k the number of vectors assigned to code k in this step and s_k their sum,

    N_k <- g N_k + (1 - g) n_k        m_k <- g m_k + (1 - g) s_k        e_k = m_k / N~_k,

where N~ is N after Laplace smoothing. van den Oord et al., arXiv:1711.00937, appendix A.1. k-means
and revival: Zeghidour et al., "SoundStream", arXiv:2107.03312.

All sums are over the global batch, as jit with sharded arrays computes them.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from vqdit.quantizers.nearest import nearest
from vqdit.typing import Array, Bool, Float, Int, Key

EPSILON = 1e-5
"""Constant that Laplace smoothing adds to the counts."""

Normalize = Callable[[Array], Array]


def assigned(
    z: Float[Array, "n d"], codes: Int[Array, " n"], weight: Float[Array, " n"], size: int
) -> tuple[Float[Array, " k"], Float[Array, "k d"]]:
    """Returns the number and the sum of each code's vectors. `weight` is 0 for padding."""
    count = jax.ops.segment_sum(weight, codes, size)
    return count, jax.ops.segment_sum(jnp.where(weight[:, None] > 0, z, 0.0), codes, size)


def moving(old: Array, new: Array, decay: float) -> Array:
    """Returns the next exponential moving average."""
    return decay * old + (1.0 - decay) * new


def centroids(count: Float[Array, " k"], total: Float[Array, "k d"]) -> Float[Array, "k d"]:
    """Returns m / N~."""
    everything = jnp.sum(count)
    smoothed = (count + EPSILON) / (everything + count.shape[0] * EPSILON) * everything
    return total / smoothed[:, None]


def dead(count: Float[Array, " k"], below: float) -> Bool[Array, " k"]:
    """Returns which codes are used less often than `below` times the uniform frequency."""
    return count < below * jnp.mean(count)


def draw(
    key: Key[Array, ""], z: Float[Array, "n d"], count: int, weight: Float[Array, " n"]
) -> Float[Array, "k d"]:
    """Draws `count` vectors that are not padding, without repetition if there are enough."""
    order = jnp.where(weight > 0, jax.random.uniform(key, weight.shape, jnp.float32), jnp.inf)
    real = jnp.maximum(jnp.sum(weight > 0), 1)  # padding comes last
    return z[jnp.argsort(order)[jnp.arange(count) % real]]


@functools.partial(jax.jit, static_argnames=("size", "iterations", "normalize", "shards"))
def kmeans(
    key: Key[Array, ""],
    z: Float[Array, "n d"],
    weight: Float[Array, " n"],
    size: int,
    iterations: int,
    normalize: Normalize,
    shards: int,
) -> tuple[Float[Array, "k d"], Float[Array, " k"]]:
    """Runs Lloyd's algorithm, which starts from `size` random vectors of the batch.

    `weight` is 0 for padding. `normalize` is applied to all centroids after every iteration.

    Returns:
        Centroids, and the number of vectors of each. A centroid without vectors does not move.
    """

    def iterate(centres: Float[Array, "k d"], _: None) -> tuple[Float[Array, "k d"], None]:
        count, total = assigned(z, nearest(z, centres, shards), weight, size)
        mean = normalize(total / jnp.maximum(count, 1.0)[:, None])
        return jnp.where(count[:, None] > 0, mean, centres), None

    centres, _ = jax.lax.scan(iterate, draw(key, z, size, weight), length=iterations)
    count, _ = assigned(z, nearest(z, centres, shards), weight, size)
    return centres, count
