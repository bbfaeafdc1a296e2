"""Devices: the mesh, where arrays lie on it, and how functions are compiled for it.

The only module that knows of devices. Models and losses are written for one device; under
`jax.jit` on global arrays their sums are global by construction.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

from vqdit.typing import Component

T = TypeVar("T")
SMALL = 2**16
"""Arrays with fewer elements are replicated: gathering them costs more than holding them."""


class Mesh(Component):
    """How the devices are arranged.

    Attributes:
        data: groups that work on different examples and hold the same parameters; -1 takes all
            devices that `fsdp` leaves.
        fsdp: devices over which every large array of the state is split (they work on different
            examples too).
    """

    data: int = -1
    fsdp: int = 1

    def __post_init__(self) -> None:
        if self.fsdp < 1 or (self.data < 1 and self.data != -1):
            raise ValueError(
                f"Mesh needs fsdp >= 1 and data >= 1 (or -1), got {self.data=} {self.fsdp=}"
            )

    def build(self, devices: list[Any] | None = None) -> jax.sharding.Mesh:
        """Returns the mesh over all devices.

        Raises:
            ValueError: if the axes do not multiply to the number of devices.
        """
        devices = devices or jax.devices()
        count = len(devices)
        data = count // self.fsdp if self.data == -1 else self.data
        if data * self.fsdp != count:
            raise ValueError(
                f"the mesh data={self.data} x fsdp={self.fsdp} does not fit {count} devices; "
                "their product must be that number, or set data=-1 and an fsdp that divides it"
            )
        # Explicit axes, the default, break gathers; Auto leaves the layout to the compiler.
        return jax.make_mesh(
            (data, self.fsdp), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2, devices=devices
        )


def check_batch(batch_size: int, mesh: jax.sharding.Mesh) -> None:
    """Raises ValueError unless the global batch divides by the number of devices."""
    count = mesh.size
    if batch_size % count:
        below, above = batch_size // count * count, -(-batch_size // count) * count
        near = f"{below} or {above}" if below else f"{above}"
        raise ValueError(
            f"the global batch_size {batch_size} does not divide by the {count} devices; "
            f"nearest: {near}"
        )


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def one_device() -> SingleDeviceSharding:
    """This process's first device holds the whole array: for inference."""
    return SingleDeviceSharding(jax.local_devices()[0])


def over_batch(mesh: jax.sharding.Mesh) -> NamedSharding:
    """The leading axis is split over all devices."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def of_state(abstract: T, mesh: jax.sharding.Mesh) -> T:
    """Returns a sharding per leaf: large arrays are split over fsdp along one axis.

    The axis is the largest that divides (the last of equals); small arrays are replicated.
    """
    fsdp = mesh.shape["fsdp"]

    def rule(leaf: Any) -> NamedSharding:
        size = int(np.prod(leaf.shape))
        axes = [axis for axis, length in enumerate(leaf.shape) if length % fsdp == 0]
        if fsdp == 1 or size < SMALL or not axes:
            return replicated(mesh)
        best = max(axes, key=lambda axis: (leaf.shape[axis], axis))
        spec = [None] * leaf.ndim
        spec[best] = "fsdp"
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map(rule, abstract)


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
    return jax.jit(function, donate_argnums=0, out_shardings=(shardings, None))


def compile_whole(function: Callable[..., T], mesh: jax.sharding.Mesh) -> Callable[..., T]:
    """Compiles a function whose results every process needs whole, such as metrics."""
    return jax.jit(function, out_shardings=replicated(mesh))


def put_batch(batch: T, mesh: jax.sharding.Mesh) -> T:
    """Makes global arrays of the rows that this process holds of a batch."""
    sharding = over_batch(mesh)
    return jax.tree.map(
        lambda rows: jax.make_array_from_process_local_data(sharding, np.asarray(rows)), batch
    )


def put_replicated(tree: T, mesh: jax.sharding.Mesh) -> T:
    """Puts the same arrays on every device."""
    return jax.device_put(tree, replicated(mesh))


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
