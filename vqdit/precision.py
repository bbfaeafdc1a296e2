"""The precision of vqdit: 32 bits, also in programs that switch JAX to 64."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")


def in_32_bits(function: Callable[P, R]) -> Callable[P, R]:
    """Returns a function that computes with 32-bit numbers, whatever `jax_enable_x64` is.

    With 64 bits, random numbers and so the samples of a seed would be others.
    """

    @functools.wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        with jax.enable_x64(False):
            return function(*args, **options)

    return call
