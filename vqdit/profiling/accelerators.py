"""Peak FLOP/s, memory and bandwidth of accelerator chips, from their data sheets."""

from typing import NamedTuple


class Chip(NamedTuple):
    """One accelerator chip.

    Attributes:
        flops: dense floating-point operations per second in bfloat16.
        memory: size of the memory in bytes.
        bandwidth: bytes per second between chip and memory.
        link: bytes per second to other chips of the slice or server, in one direction.
    """

    flops: float
    memory: float
    bandwidth: float
    link: float


CHIPS = {
    "H200": Chip(989e12, 141e9, 4800e9, 450e9),
    "H100": Chip(989e12, 80e9, 3350e9, 450e9),
    "A100": Chip(312e12, 80e9, 2039e9, 300e9),
    "TPU v6 lite": Chip(918e12, 32e9, 1640e9, 448e9),
    "TPU v5 lite": Chip(197e12, 16e9, 819e9, 200e9),
    "TPU v5": Chip(459e12, 95e9, 2765e9, 600e9),
    "TPU v4": Chip(275e12, 32e9, 1228e9, 300e9),
}
"""Chips by a part of JAX's `device_kind`; the first match is used."""


def find(kind: str) -> Chip | None:
    """Returns the chip of a `device_kind`; None if it is not listed."""
    return next((chip for name, chip in CHIPS.items() if name in kind), None)
