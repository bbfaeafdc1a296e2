"""Named key streams: every use of randomness has a name, so a new use changes no other.

``fold_in(state.key, data_step)``, then a name per use, then the global index of each example:
a training step draws from these alone, so a resumed run draws the same numbers.
"""

import zlib

import jax

from vqdit.typing import Array, Float, Int, Key


def stream(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """Returns the key for the use called `name`."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def per_example(key: Key[Array, ""], index: Int[Array, " b"]) -> Key[Array, " b"]:
    """Returns one key per example, from its global index: independent of batch order and size."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index)


def streams(keys: Key[Array, " b"], name: str) -> Key[Array, " b"]:
    """Returns the keys for the use called `name`, one per example."""
    return jax.vmap(lambda key: stream(key, name))(keys)


def normal(keys: Key[Array, " b"], shape: tuple[int, ...]) -> Float[Array, "b ..."]:
    """Draws standard normal noise of the given shape for every key."""
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
