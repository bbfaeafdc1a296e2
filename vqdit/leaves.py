"""The leaves of a tree of arrays: what they are called, and whether their bits are the same."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp

from vqdit.typing import Array, UInt32


def flatten(tree: Any) -> dict[str, Any]:
    """Returns the leaves by path, in the order of the tree; keys of randomness as their data."""
    flat = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = "/".join(_part(part) for part in path)
        is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        flat[name] = jax.random.key_data(leaf) if is_key else leaf
    return flat


def _part(part: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(part, attribute):
            return str(getattr(part, attribute))
    return str(part)


def fingerprint(tree: Any) -> str:
    """Returns 16 letters that tell whether two trees of arrays are the same, bit for bit."""
    flat = flatten(tree)
    marks = fingerprints(flat)
    lines = [
        f"{path} {flat[path].dtype} {flat[path].shape} {marks[path]}\n" for path in sorted(flat)
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


@jax.jit
def fingerprints(flat: dict[str, Array]) -> dict[str, UInt32[Array, ""]]:
    """Returns sum_i bits_i (2 i + 1) mod 2^32 of each leaf.

    Sums of integers do not depend on how an array is laid out, and odd weights make every change
    of one bit visible.
    """

    def mark(leaf: Array) -> UInt32[Array, ""]:
        if leaf.dtype == jnp.bool_:
            bits = leaf.astype(jnp.uint32)
        else:
            width = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize]
            bits = jax.lax.bitcast_convert_type(leaf, width).astype(jnp.uint32)
        index = jnp.arange(leaf.size, dtype=jnp.uint32).reshape(leaf.shape)
        return jnp.sum(bits * (2 * index + 1), dtype=jnp.uint32)

    return {path: mark(leaf) for path, leaf in flat.items()}
