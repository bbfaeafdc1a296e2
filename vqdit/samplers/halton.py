"""The Halton order of a grid, in which every prefix is spread evenly over the grid.

Point i has the coordinates phi_2(i), phi_3(i), ..., where phi_b mirrors the base-b digits of i at
the radix point: 1, 2, 3, 4 become 1/2, 1/4, 3/4, 1/8 in base 2. Cells are ordered by the first
point that falls into them. Besnier et al., "Halton Scheduler for Masked Generative Image
Transformer", arXiv:2503.17076; in one dimension it is van der Corput's sequence.
"""

import functools
import math

import numpy as np

from vqdit.typing import Float, Int

BASES = (2, 3, 5)
"""The bases of the axes."""


def radical_inverse(index: Int[np.ndarray, " n"], base: int) -> Float[np.ndarray, " n"]:
    """Returns phi_b of every index for b = `base`; the results are in [0, 1)."""
    result, scale, rest = np.zeros(len(index)), 1.0, index.copy()
    while rest.any():
        scale /= base
        result += scale * (rest % base)
        rest //= base
    return result


@functools.lru_cache(maxsize=32)
def halton_order(grid: tuple[int, ...]) -> Int[np.ndarray, " l"]:
    """Returns the positions of a grid (row-major token numbers) in Halton order.

    Raises:
        ValueError: the grid has more than three axes.
    """
    if len(grid) > len(BASES):
        raise ValueError(
            f"the Halton order is only for grids of 1 to {len(BASES)} axes, got {grid}"
        )
    length, count = math.prod(grid), 4 * math.prod(grid)
    while True:
        index = np.arange(1, count + 1)
        cells = [
            np.floor(radical_inverse(index, base) * size).astype(np.int64)
            for base, size in zip(BASES, grid, strict=False)
        ]
        visits = np.ravel_multi_index(cells, grid)
        _, first = np.unique(visits, return_index=True)
        if len(first) == length:
            return visits[np.sort(first)]
        count *= 2
