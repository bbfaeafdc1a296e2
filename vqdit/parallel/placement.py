"""Placing arrays: from this process's memory onto the devices of a mesh, and back."""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.parallel.layout import over_batch, replicated

T = TypeVar("T")


def put_batch(batch: T, mesh: jax.sharding.Mesh) -> T:
    """Makes global arrays from the rows of a batch that this process holds."""
    sharding = over_batch(mesh)
    return jax.tree.map(
        lambda rows: jax.make_array_from_process_local_data(sharding, np.asarray(rows)), batch
    )


def put_replicated(tree: T, mesh: jax.sharding.Mesh) -> T:
    """Puts the same arrays on every device."""
    return jax.device_put(tree, replicated(mesh))


def put_examples(tree: T, count: int, mesh: jax.sharding.Mesh) -> T:
    """Splits arrays of `count` rows over the devices, and replicates all others."""
    split, whole = over_batch(mesh), replicated(mesh)
    return jax.tree.map(
        lambda leaf: jax.device_put(leaf, split if jnp.shape(leaf)[:1] == (count,) else whole), tree
    )


def host(tree: T) -> T:
    """Returns NumPy copies; every process must call it, and arrays must be replicated."""
    return jax.tree.map(np.asarray, tree)
