"""Layout rules, which assign axes of arrays to axes of the mesh."""

import math
from typing import Any, TypeVar

import jax
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from vqdit.parallel.mesh import BATCH

T = TypeVar("T")

SMALL = 2**16
"""Arrays with fewer elements are replicated, as gathering costs more than storing copies."""

SPLITS = {
    **{"qkv": -1, "kv": -1, "cross_q": -1, "mlp_in": -1},
    **{"out": -2, "cross_out": -2, "mlp_out": -2},
}
"""The axis of a product's weights that `tensor` splits, by the end of the product's name.

Products that compute attention heads or hidden channels are split by outputs, and products that
consume these are split by inputs. So the values in between stay on their device, and only the sum
is communicated. Shoeybi et al., "Megatron-LM", arXiv:1909.08053, section 3.
"""


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Returns the layout with the whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def one_device() -> SingleDeviceSharding:
    """Returns the layout with the whole array on this process's first device."""
    return SingleDeviceSharding(jax.local_devices()[0])


def over_batch(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Returns the layout in which the mesh axes for examples split the leading axis."""
    return NamedSharding(mesh, PartitionSpec(BATCH))


def of_state(abstract: T, mesh: jax.sharding.Mesh) -> T:
    """Returns a sharding per leaf: large arrays are split, and small arrays are replicated.

    `tensor` splits the weights of attention and MLP by `SPLITS`. `fsdp` splits the largest other
    axis whose size is a multiple of `fsdp` (of equally large axes, the last one).
    """

    def rule(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        names = [str(getattr(part, "key", getattr(part, "name", ""))) for part in path]
        module = names[-2] if len(names) > 1 else ""
        is_weight = names[-1:] == ["kernel"] and leaf.ndim > 1
        split = tensor_axis(module) if is_weight else None
        return NamedSharding(mesh, stored_layout(leaf.shape, split, mesh))

    return jax.tree_util.tree_map_with_path(rule, abstract)


def stored_layout(
    shape: tuple[int, ...], split: int | None, mesh: jax.sharding.Mesh
) -> PartitionSpec:
    """Returns the layout of an array of the train state.

    Args:
        shape: shape of the array.
        split: the axis that `tensor` splits; None for no axis.
        mesh: the mesh of devices.
    """
    spec: list[str | None] = [None] * len(shape)
    if math.prod(shape) < SMALL:
        return PartitionSpec()
    tensor, fsdp = mesh.shape["tensor"], mesh.shape["fsdp"]
    if split is not None and tensor > 1 and shape[split] % tensor == 0:
        spec[split] = "tensor"
    axes = [n for n, size in enumerate(shape) if size % fsdp == 0 and spec[n] is None]
    if fsdp > 1 and axes:
        spec[max(axes, key=lambda axis: (shape[axis], axis))] = "fsdp"
    return PartitionSpec(*spec) if any(spec) else PartitionSpec()


def tensor_axis(name: str) -> int | None:
    """Returns the axis of a product's weights that `tensor` splits; None for no axis."""
    ends = [end for end in SPLITS if name == end or name.endswith(f"_{end}")]
    return SPLITS[max(ends, key=len)] if ends else None
