"""The platform for which programs are compiled: local devices, or the devices of `compiled_for`.

Networks choose their attention kernel and loop unrolling by this platform, so a laptop can compile
for a TPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax


class Platform(NamedTuple):
    """The platform of a program.

    Attributes:
        name: "tpu", "cuda", "rocm", "cpu" or another; "counted" if only FLOPs are counted.
        mesh: the mesh over which the batch is split; None for one device.
    """

    name: str
    mesh: jax.sharding.Mesh | None = None

    @property
    def is_counted(self) -> bool:
        """Whether the program is only traced, to count its FLOPs."""
        return self.name == "counted"

    @property
    def devices(self) -> int:
        """Number of devices over which the batch is split."""
        return 1 if self.mesh is None else self.mesh.shape["data"] * self.mesh.shape["fsdp"]


_PLATFORM: ContextVar[Platform | None] = ContextVar("platform", default=None)


def platform() -> Platform:
    """Returns the current platform."""
    return _PLATFORM.get() or Platform(_name(jax.devices()[0]))


@contextmanager
def compiled_for(mesh: jax.sharding.Mesh) -> Iterator[None]:
    """Traces functions for the devices of a mesh, which need not be local."""
    token = _PLATFORM.set(Platform(_name(mesh.devices.flat[0]), mesh))
    try:
        yield
    finally:
        _PLATFORM.reset(token)


@contextmanager
def counted() -> Iterator[None]:
    """Traces functions without fused kernels and rematerialization, to count their FLOPs."""
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
