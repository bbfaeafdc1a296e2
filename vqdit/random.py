"""Random keys by name: each use has a name, so adding a use leaves the keys of others unchanged.

The keys of a training step are derived only from the run's key, the data step, the name of the use,
and the global index of each example. So a resumed run draws the same numbers.
"""

import zlib

import jax
import jax.numpy as jnp

from vqdit.typing import Array, Float, Int, Key


def stream(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """Returns the key for the use called `name`."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def per_example(key: Key[Array, ""], index: Int[Array, " b"]) -> Key[Array, " b"]:
    """Returns one key per example, derived only from `key` and the example's global index."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index)


def streams(keys: Key[Array, " b"], name: str) -> Key[Array, " b"]:
    """Returns the keys for the use called `name`, one per example."""
    return jax.vmap(lambda key: stream(key, name))(keys)


def normal(keys: Key[Array, " b"], shape: tuple[int, ...]) -> Float[Array, "b ..."]:
    """Draws standard normal noise of the given shape for every key: [b, *shape]."""
    return jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))(keys)
