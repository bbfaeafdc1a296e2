"""Converts trees of arrays to flat maps from path to array, which checkpoints store."""

from typing import Any

import jax
import jax.numpy as jnp

from vqdit.parallel import one_device
from vqdit.typing import Array


def flatten(tree: Any) -> dict[str, Any]:
    """Returns the leaves by path ("params/encoder/in/kernel"); random keys become integers."""
    flat = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = "/".join(_part(part) for part in path)
        is_key = isinstance(leaf, jax.Array) and _is_key(leaf)
        flat[name] = jax.random.key_data(leaf) if is_key else leaf
    return flat


def stored(leaf: Any) -> jax.ShapeDtypeStruct:
    """Returns the shape, dtype and sharding (default: one device) in which a leaf is stored."""
    data = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=leaf.sharding or one_device())


def from_stored(array: Array, leaf: Any) -> Array:
    """Converts a stored array to the type of an abstract leaf, which may be a random key."""
    return jax.random.wrap_key_data(array) if _is_key(leaf) else array


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _part(part: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(part, attribute):
            return str(getattr(part, attribute))
    return str(part)
