"""Devices: the mesh, where arrays lie on it, and how functions are compiled for it.

The only module that lays arrays on devices. Models and losses are written for one device; under
`jax.jit` on global arrays their sums are global by construction.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

from vqdit.platform import compiled_for, platform
from vqdit.typing import Array, Component

T = TypeVar("T")
SMALL = 2**16
"""Arrays with fewer elements are replicated: gathering them costs more than holding them."""


BATCH = ("data", "fsdp")
"""The axes that examples are divided over."""
SPLITS = {
    **{"qkv": -1, "kv": -1, "cross_q": -1, "mlp_in": -1},
    **{"out": -2, "cross_out": -2, "mlp_out": -2},
}
"""Which axis of a product's weights the axis `tensor` divides, by the end of the product's name.

It is the outputs of those that widen and the inputs of those that narrow again: what is between the
two stays where it is, and only the sum is exchanged. Shoeybi et al., "Megatron-LM",
arXiv:1909.08053, section 3.
"""


class Mesh(Component):
    """How the devices are arranged.

    Attributes:
        data: groups that work on different examples and hold the same parameters; -1 takes all
            devices that the others leave.
        fsdp: devices over which every large array of the state is split (they work on different
            examples too). Zhao et al., "PyTorch FSDP", arXiv:2304.11277.
        tensor: devices that work on the same examples, each on some of the attention heads and of
            the MLP's hidden channels; for networks that are too large for the others.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        if min(self.fsdp, self.tensor) < 1 or (self.data < 1 and self.data != -1):
            raise ValueError(
                "Mesh needs fsdp >= 1, tensor >= 1 and data >= 1 (or -1), got "
                f"data={self.data} fsdp={self.fsdp} tensor={self.tensor}"
            )

    def build(self, devices: list[Any] | None = None) -> jax.sharding.Mesh:
        """Returns the mesh over all devices.

        Raises:
            ValueError: if the axes do not multiply to the number of devices.
        """
        devices = devices or jax.devices()
        count, others = len(devices), self.fsdp * self.tensor
        data = count // others if self.data == -1 else self.data
        if data * others != count:
            raise ValueError(
                f"the mesh data={self.data} x fsdp={self.fsdp} x tensor={self.tensor} does not fit "
                f"{count} devices; their product must be that number, or set data=-1 and others "
                "that divide it"
            )
        # Explicit axes, the default, break gathers; Auto leaves the layout to the compiler.
        return jax.make_mesh(
            (data, self.fsdp, self.tensor),
            (*BATCH, "tensor"),
            axis_types=(AxisType.Auto,) * 3,
            devices=devices,
        )


def check_batch(batch_size: int, mesh: jax.sharding.Mesh) -> int:
    """Returns how many devices examples go to.

    Raises:
        ValueError: the global batch does not divide by them.
    """
    count = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % count:
        below, above = batch_size // count * count, -(-batch_size // count) * count
        near = f"{below} or {above}" if below else f"{above}"
        raise ValueError(
            f"the global batch_size {batch_size} does not divide by the {count} devices; "
            f"nearest: {near}"
        )
    return count


def divisible(count: int, mesh: jax.sharding.Mesh) -> int:
    """Returns the least number from `count` on that the devices divide equally."""
    devices = mesh.shape["data"] * mesh.shape["fsdp"]
    return -(-count // devices) * devices


def of_process() -> jax.sharding.Mesh:
    """Returns the mesh of this process's devices alone: for generation."""
    return Mesh().build(None if jax.process_count() == 1 else jax.local_devices())


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def one_device() -> SingleDeviceSharding:
    """This process's first device holds the whole array: for inference."""
    return SingleDeviceSharding(jax.local_devices()[0])


def over_batch(mesh: jax.sharding.Mesh) -> NamedSharding:
    """The leading axis is split over the devices that examples go to."""
    return NamedSharding(mesh, PartitionSpec(BATCH))


def of_state(abstract: T, mesh: jax.sharding.Mesh) -> T:
    """Returns a sharding per leaf: large arrays are split, small ones are replicated.

    `tensor` splits the weights of attention and MLP as `SPLITS` says, and `fsdp` the largest other
    axis that divides (the last of equals).
    """

    def rule(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        names = [str(getattr(part, "key", getattr(part, "name", ""))) for part in path]
        module = names[-2] if len(names) > 1 else ""
        is_weight = names[-1:] == ["kernel"] and leaf.ndim > 1
        split = _split(module) if is_weight else None
        return NamedSharding(mesh, _stored(leaf.shape, split, mesh))

    return jax.tree_util.tree_map_with_path(rule, abstract)


def _stored(shape: tuple[int, ...], split: int | None, mesh: jax.sharding.Mesh) -> PartitionSpec:
    """Returns how an array of the state lies on the devices.

    Args:
        shape: of the array.
        split: the axis that `tensor` divides; None: none.
        mesh: of the devices.
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


def weights(kernel: Array, name: str) -> Array:
    """Returns the weights [in, out] of a product as it uses them: split over `tensor` alone.

    Left to itself, the compiler may rather gather the examples than the weights. Of the gradient
    each device gets its part.

    Args:
        kernel: the weights, as they are stored.
        name: of the product.
    """
    mesh = _parallel()
    return kernel if mesh is None else _used(kernel, _split(name), _split(name), mesh)


def several_weights(kernel: Array, name: str, count: int) -> list[Array]:
    """Returns the weights of several products that are stored side by side; see `weights`."""
    mesh = _parallel()
    if mesh is None:
        return jnp.split(kernel, count, axis=1)
    # The borders between them are not those between devices.
    pieces = jnp.split(_used(kernel, None, _split(name), mesh), count, axis=1)
    if mesh.shape["tensor"] == 1:
        return pieces
    layout = NamedSharding(mesh, _at_use(pieces[0].shape, _split(name), mesh))
    return [jax.lax.with_sharding_constraint(piece, layout) for piece in pieces]


def _parallel() -> jax.sharding.Mesh | None:
    """Returns the mesh, if weights are divided over it."""
    mesh = platform().mesh
    is_divided = mesh is not None and mesh.shape["fsdp"] * mesh.shape["tensor"] > 1
    return mesh if is_divided else None


def _split(name: str) -> int | None:
    ends = [end for end in SPLITS if name == end or name.endswith(f"_{end}")]
    return SPLITS[max(ends, key=len)] if ends else None


def _at_use(shape: tuple[int, ...], split: int | None, mesh: jax.sharding.Mesh) -> PartitionSpec:
    spec: list[str | None] = [None] * len(shape)
    if split is not None and shape[split] % mesh.shape["tensor"] == 0:
        spec[split] = "tensor"
    return PartitionSpec(*spec)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _used(kernel: Array, used: int | None, stored: int | None, mesh: jax.sharding.Mesh) -> Array:
    """Returns stored weights, gathered but for the axis that `tensor` splits in use."""
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
    layout = NamedSharding(mesh, _stored(g.shape, stored, mesh))
    return (jax.lax.with_sharding_constraint(g, layout),)


_used.defvjp(_used_forward, _used_backward)


def per_device(function: Callable[..., Array], *arrays: Array) -> Array:
    """Runs a function that the compiler cannot divide on each device with its own share.

    Args:
        function: of attention; its result is like its first argument.
        arrays: heads [b, l, h, d], which go by examples and heads, and rows [b, m] by examples.
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
    """Returns activations [b, ...], each device with its own examples."""
    mesh = platform().mesh
    if mesh is None or mesh.size == 1 or x.shape[0] % platform().devices:
        return x
    return jax.lax.with_sharding_constraint(x, over_batch(mesh))


def abstract(function: Callable[..., T], mesh: jax.sharding.Mesh, *args: Any) -> T:
    """Returns shapes, dtypes and shardings of what `function` gives, without computing it."""
    shapes = jax.eval_shape(function, *args)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        of_state(shapes, mesh),
    )


def create(function: Callable[..., T], mesh: jax.sharding.Mesh, *args: Any) -> T:
    """Computes `function` with its results sharded from the start, never whole on one device."""
    shardings = of_state(jax.eval_shape(function, *args), mesh)
    # It runs once: on a CPU, compiling it well would take ten times as long as running it.
    is_cpu = mesh.devices.flat[0].platform == "cpu"
    options = {"xla_backend_optimization_level": 0} if is_cpu else None
    return jax.jit(function, out_shardings=shardings, compiler_options=options)(*args)


def compile_step(function: Callable[..., Any], state: Any) -> Callable[..., Any]:
    """Compiles (state, ...) -> (state, metrics): the state keeps its layout and is donated."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    mesh = jax.tree.leaves(shardings)[0].mesh
    return jax.jit(_for(function, mesh), donate_argnums=0, out_shardings=(shardings, None))


def compile_on(function: Callable[..., T], mesh: jax.sharding.Mesh) -> Callable[..., T]:
    """Compiles a function for the devices of the mesh; its arguments say what lies where."""
    return jax.jit(_for(function, mesh))


def compile_whole(function: Callable[..., T], mesh: jax.sharding.Mesh) -> Callable[..., T]:
    """Compiles a function whose results every process needs whole, such as metrics."""
    return jax.jit(_for(function, mesh), out_shardings=replicated(mesh))


def _for(function: Callable[..., T], mesh: jax.sharding.Mesh) -> Callable[..., T]:
    """Returns the function, traced for the devices of the mesh."""

    def traced(*args: Any) -> T:
        with compiled_for(mesh):
            return function(*args)

    return traced


def put_batch(batch: T, mesh: jax.sharding.Mesh) -> T:
    """Makes global arrays of the rows that this process holds of a batch."""
    sharding = over_batch(mesh)
    return jax.tree.map(
        lambda rows: jax.make_array_from_process_local_data(sharding, np.asarray(rows)), batch
    )


def put_replicated(tree: T, mesh: jax.sharding.Mesh) -> T:
    """Puts the same arrays on every device."""
    return jax.device_put(tree, replicated(mesh))


def put_examples(tree: T, count: int, mesh: jax.sharding.Mesh) -> T:
    """Divides arrays of that many rows over the devices, and puts all others on each."""
    split, whole = over_batch(mesh), replicated(mesh)
    return jax.tree.map(
        lambda leaf: jax.device_put(leaf, split if jnp.shape(leaf)[:1] == (count,) else whole), tree
    )


def host(tree: T) -> T:
    """Returns NumPy copies; every process must call it, and arrays must be replicated."""
    return jax.tree.map(np.asarray, tree)


def process() -> tuple[int, int]:
    """Returns this process's number and how many there are."""
    return jax.process_index(), jax.process_count()


def all_agree(verdict: bool) -> bool:
    """Returns whether the verdict of every process is True; every process must call it."""
    if jax.process_count() == 1:
        return verdict
    return bool(np.all(multihost_utils.process_allgather(np.asarray(verdict))))


def together(name: str) -> None:
    """Returns when every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
