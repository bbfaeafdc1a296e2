"""Patches: neighbouring positions of a grid folded into one token with more channels."""

import math

from vqdit.typing import Array


def nearest(size: tuple[int, ...], factor: int) -> str:
    """Returns, as text, the nearest sizes that a factor divides, such as "8x8 or 10x8"."""
    choices = zip(
        *((edge // factor * factor or factor, -(-edge // factor) * factor) for edge in size),
        strict=True,
    )
    return " or ".join(dict.fromkeys("x".join(map(str, choice)) for choice in choices))


def fold(x: Array, grid: tuple[int, ...], patch: int) -> Array:
    """Folds each patch of a grid of n axes into one token: [b, l, c] -> [b, l / p^n, p^n c].

    p is `patch`, the edge of a patch in positions.
    """
    shape = [part for size in grid for part in (size // patch, patch)]
    x = x.reshape(x.shape[0], *shape, x.shape[-1])
    axes = len(grid)
    order = [0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1]
    x = x.transpose(order)
    return x.reshape(x.shape[0], math.prod(grid) // patch**axes, -1)


def unfold(x: Array, grid: tuple[int, ...], patch: int) -> Array:
    """Inverts `fold`: [b, l / p^n, p^n c] -> [b, l, c]."""
    axes = len(grid)
    x = x.reshape(x.shape[0], *(size // patch for size in grid), *(patch,) * axes, -1)
    order = [0, *(axis + part for axis in range(1, axes + 1) for part in (0, axes)), 2 * axes + 1]
    return x.transpose(order).reshape(x.shape[0], math.prod(grid), -1)
