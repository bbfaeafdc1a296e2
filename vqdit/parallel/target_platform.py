"""What programs are compiled for: these devices, or others in `compiled_for`.

Networks ask which attention to use and whether to unroll; a plan for a TPU is made on a laptop.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax


class Platform(NamedTuple):
    """What a program runs on.

    Attributes:
        name: "tpu", "cuda", "rocm", "cpu" or another; "counted" is none.
        mesh: over which its batch is divided; None: it is for one device.
    """

    name: str
    mesh: jax.sharding.Mesh | None = None

    @property
    def is_counted(self) -> bool:
        """Whether the program is not run, but its arithmetic counted."""
        return self.name == "counted"

    @property
    def devices(self) -> int:
        """How many devices the batch is divided among."""
        return 1 if self.mesh is None else self.mesh.shape["data"] * self.mesh.shape["fsdp"]


_PLATFORM: ContextVar[Platform | None] = ContextVar("platform", default=None)


def platform() -> Platform:
    """Returns what is compiled for."""
    return _PLATFORM.get() or Platform(_name(jax.devices()[0]))


@contextmanager
def compiled_for(mesh: jax.sharding.Mesh) -> Iterator[None]:
    """Within it, functions are traced for the devices of a mesh, which need not be here."""
    token = _PLATFORM.set(Platform(_name(mesh.devices.flat[0]), mesh))
    try:
        yield
    finally:
        _PLATFORM.reset(token)


@contextmanager
def counted() -> Iterator[None]:
    """Within it, functions are traced to be counted: nothing is fused or computed again."""
    token = _PLATFORM.set(Platform("counted"))
    try:
        yield
    finally:
        _PLATFORM.reset(token)


def _name(device: Any) -> str:
    """Returns the device's platform; JAX calls the GPUs of all makers "gpu"."""
    if device.platform != "gpu":
        return device.platform
    return "rocm" if "AMD" in device.device_kind or "Radeon" in device.device_kind else "cuda"
