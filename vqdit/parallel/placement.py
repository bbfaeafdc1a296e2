"""Moves arrays from this process's memory to the devices of a mesh, and back."""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.parallel.layout import over_batch, replicated

T = TypeVar("T")


def put_batch(batch: T, mesh: jax.sharding.Mesh) -> T:
    """Makes global arrays from this process's rows of a batch."""
    sharding = over_batch(mesh)
    return jax.tree.map(
        lambda rows: jax.make_array_from_process_local_data(sharding, np.asarray(rows)), batch
    )


def put_replicated(tree: T, mesh: jax.sharding.Mesh) -> T:
    """Puts copies of the arrays on every device."""
    return jax.device_put(tree, replicated(mesh))


def put_examples(tree: T, count: int, mesh: jax.sharding.Mesh) -> T:
    """Splits arrays with `count` rows over the devices, and replicates all other arrays."""
    split, whole = over_batch(mesh), replicated(mesh)
    return jax.tree.map(
        lambda leaf: jax.device_put(leaf, split if jnp.shape(leaf)[:1] == (count,) else whole), tree
    )


def host(tree: T) -> T:
    """Returns NumPy copies of replicated arrays; every process must call this function."""
    return jax.tree.map(np.asarray, tree)
