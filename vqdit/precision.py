"""Keeps computations of vqdit in 32 bits, even if a program enables 64 bits in JAX."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")


def in_32_bits(function: Callable[P, R]) -> Callable[P, R]:
    """Returns a function that computes with 32-bit numbers for any value of `jax_enable_x64`.

    With 64 bits, random numbers would differ, and so would the samples of a seed.
    """

    @functools.wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        with jax.enable_x64(False):
            return function(*args, **options)

    return call
