"""The leaves of a tree of arrays: how they are called and stored, and whether two are the same."""

import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vqdit.parallel import one_device
from vqdit.typing import Array, UInt32


def flatten(tree: Any) -> dict[str, Any]:
    """Returns the leaves by path, in the order of the tree; keys of randomness as their data."""
    flat = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = "/".join(_part(part) for part in path)
        flat[name] = (
            jax.random.key_data(leaf) if isinstance(leaf, jax.Array) and _is_key(leaf) else leaf
        )
    return flat


def stored(leaf: Any) -> jax.ShapeDtypeStruct:
    """Returns shape, dtype and sharding (by default: one device) of an abstract leaf as stored."""
    data = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=leaf.sharding or one_device())


def typed(array: Array, leaf: Any) -> Array:
    """Returns what was stored as the abstract leaf has it."""
    return jax.random.wrap_key_data(array) if _is_key(leaf) else array


def differences(
    found: Mapping[str, Any], expected: Mapping[str, Any], *, is_part: bool = False
) -> list[str]:
    """Returns one line for each leaf, as it is stored, that is not the expected one.

    Args:
        found: leaves by path.
        expected: leaves by path.
        is_part: whether others may be found beside the expected ones.
    """

    def describe(leaves: Mapping[str, Any], path: str) -> str:
        if path not in leaves:
            return "nothing"
        return f"{jnp.dtype(leaves[path].dtype).name}{list(leaves[path].shape)}"

    paths = sorted(expected if is_part else {*found, *expected})
    pairs = [(path, describe(expected, path), describe(found, path)) for path in paths]
    return [f"{path}: expected {one}, found {other}" for path, one, other in pairs if one != other]


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


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
