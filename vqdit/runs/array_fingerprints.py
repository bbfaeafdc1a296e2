"""Fingerprints of arrays: short integers that change if any bit of an array changes."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp

from vqdit.runs.array_trees import flatten
from vqdit.typing import Array, UInt32


def fingerprint(tree: Any) -> str:
    """Returns 16 hexadecimal digits that identify a tree of arrays, bit for bit."""
    flat = flatten(tree)
    marks = fingerprints(flat)
    lines = [
        f"{path} {flat[path].dtype} {flat[path].shape} {marks[path]}\n" for path in sorted(flat)
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


@jax.jit
def fingerprints(flat: dict[str, Array]) -> dict[str, UInt32[Array, ""]]:
    """Returns sum_i bits_i (2 i + 1) mod 2^32 of each array; bits_i are the bits of element i.

    An integer sum does not depend on how an array is sharded. The weights are odd, so a change of
    any single bit changes the sum.
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
