"""Layout constraints inside networks, which gather weights and split activations.

Models and losses are written for one device. These functions do nothing on one device; on a mesh
they tell the compiler how to shard weights and activations while they are used.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from vqdit.parallel.layout import over_batch, stored_layout, tensor_axis
from vqdit.parallel.mesh import BATCH
from vqdit.parallel.target_platform import platform
from vqdit.typing import Array


def weights(kernel: Array, name: str) -> Array:
    """Returns the weights [in, out] of a matrix product, gathered over all mesh axes but `tensor`.

    Without this constraint, the compiler may gather the examples instead of the weights. The
    gradient gets the sharding of the stored weights.

    Args:
        kernel: the weights with their stored sharding.
        name: name of the product, which selects its rule in `layout.SPLITS`.
    """
    mesh = _parallel()
    return kernel if mesh is None else _used(kernel, tensor_axis(name), tensor_axis(name), mesh)


def several_weights(kernel: Array, name: str, count: int) -> list[Array]:
    """Returns the weights of `count` products that are stored as one array; see `weights`."""
    mesh = _parallel()
    if mesh is None:
        return jnp.split(kernel, count, axis=1)
    # The borders between the products do not coincide with the borders between devices.
    pieces = jnp.split(_used(kernel, None, tensor_axis(name), mesh), count, axis=1)
    if mesh.shape["tensor"] == 1:
        return pieces
    layout = NamedSharding(mesh, _at_use(pieces[0].shape, tensor_axis(name), mesh))
    return [jax.lax.with_sharding_constraint(piece, layout) for piece in pieces]


def per_device(function: Callable[..., Array], *arrays: Array) -> Array:
    """Runs a function on each device with the device's shards, as the compiler cannot partition it.

    Args:
        function: a function such as attention, whose result has the shape of its first argument.
        arrays: [b, l, h, d], split over examples and heads, or [b, m], split over examples.
    """
    mesh = platform().mesh
    if mesh is None or mesh.size == 1:
        return function(*arrays)
    is_even = all(x.shape[2] % mesh.shape["tensor"] == 0 for x in arrays if x.ndim == 4)
    heads = PartitionSpec(BATCH, None, "tensor" if is_even else None)
    layouts = tuple(heads if x.ndim == 4 else PartitionSpec(BATCH) for x in arrays)
    divided = jax.shard_map(function, mesh=mesh, in_specs=layouts, out_specs=heads, check_vma=False)
    return divided(*arrays)


def activations(x: Array) -> Array:
    """Constrains activations [b, ...] to be split over examples."""
    mesh = platform().mesh
    if mesh is None or mesh.size == 1 or x.shape[0] % platform().devices:
        return x
    return jax.lax.with_sharding_constraint(x, over_batch(mesh))


def _parallel() -> jax.sharding.Mesh | None:
    """Returns the mesh if weights are split over it, else None."""
    mesh = platform().mesh
    is_divided = mesh is not None and mesh.shape["fsdp"] * mesh.shape["tensor"] > 1
    return mesh if is_divided else None


def _at_use(shape: tuple[int, ...], split: int | None, mesh: jax.sharding.Mesh) -> PartitionSpec:
    spec: list[str | None] = [None] * len(shape)
    if split is not None and shape[split] % mesh.shape["tensor"] == 0:
        spec[split] = "tensor"
    return PartitionSpec(*spec)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _used(kernel: Array, used: int | None, stored: int | None, mesh: jax.sharding.Mesh) -> Array:
    """Returns stored weights, gathered over all mesh axes but `tensor`.

    Args:
        kernel: the weights with their stored sharding.
        used: axis that `tensor` splits in the result; None for no axis.
        stored: axis that `tensor` splits in the stored weights and in their gradient.
        mesh: the mesh of devices.
    """
    del stored
    layout = NamedSharding(mesh, _at_use(kernel.shape, used, mesh))
    return jax.lax.with_sharding_constraint(kernel, layout)


def _used_forward(
    kernel: Array, used: int | None, stored: int | None, mesh: jax.sharding.Mesh
) -> tuple[Array, None]:
    return _used(kernel, used, stored, mesh), None


def _used_backward(
    used: int | None, stored: int | None, mesh: jax.sharding.Mesh, _: None, g: Array
) -> tuple[Array]:
    layout = NamedSharding(mesh, stored_layout(g.shape, stored, mesh))
    return (jax.lax.with_sharding_constraint(g, layout),)


_used.defvjp(_used_forward, _used_backward)
