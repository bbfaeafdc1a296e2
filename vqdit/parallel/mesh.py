"""The mesh: the arrangement of the devices, and the examples per device."""

from typing import Any

import jax
from jax.sharding import AxisType

from vqdit.typing import Component

BATCH = ("data", "fsdp")
"""The mesh axes over which examples are split."""


class Mesh(Component):
    """Arrangement of the devices.

    Attributes:
        data: number of groups of devices with different examples and the same parameters; -1 uses
            all remaining devices.
        fsdp: number of devices over which every large array of the state is split; they also have
            different examples. Zhao et al., "PyTorch FSDP", arXiv:2304.11277.
        tensor: number of devices that share the same examples and split attention heads and
            hidden channels of MLPs; for networks too large for `fsdp`.
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
                f"the mesh data={self.data} x fsdp={self.fsdp} x tensor={self.tensor} does not "
                f"fit {count} devices; their product must be {count}, or set data=-1 and others "
                "whose product divides it"
            )
        # With Explicit axes, the default, gathers fail; Auto leaves the layout to the compiler.
        return jax.make_mesh(
            (data, self.fsdp, self.tensor),
            (*BATCH, "tensor"),
            axis_types=(AxisType.Auto,) * 3,
            devices=devices,
        )


def check_batch(batch_size: int, mesh: jax.sharding.Mesh) -> int:
    """Returns the number of devices over which examples are split.

    Raises:
        ValueError: the global batch size is not a multiple of this number.
    """
    count = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % count:
        below, above = batch_size // count * count, -(-batch_size // count) * count
        near = f"{below} or {above}" if below else f"{above}"
        raise ValueError(
            f"the global batch_size {batch_size} is not divisible by the {count} devices; the "
            f"nearest possible sizes are {near}"
        )
    return count


def divisible(count: int, mesh: jax.sharding.Mesh) -> int:
    """Returns the smallest multiple of the number of devices that is at least `count`."""
    devices = mesh.shape["data"] * mesh.shape["fsdp"]
    return -(-count // devices) * devices


def of_process() -> jax.sharding.Mesh:
    """Returns a mesh of this process's own devices, for generation."""
    return Mesh().build(None if jax.process_count() == 1 else jax.local_devices())
