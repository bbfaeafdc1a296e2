"""Rotary positions on grids with any number of axes, for one modality or several.

The channels of a head form pairs (x_1, x_2), half a head apart. A pair with frequency f is rotated
at position n by the angle n f::

    (x_1, x_2) -> (x_1 cos(n f) - x_2 sin(n f), x_2 cos(n f) + x_1 sin(n f))

so that the product of a query and a key depends only on the difference of their positions. Su et
al., "RoFormer", arXiv:2104.09864, eq. 34. Every axis of every modality has its own pairs, with
frequencies 10^4^(-i / pairs), so relative positions exist only within a modality.
"""

import jax.numpy as jnp
import numpy as np

from vqdit.typing import Array, Float


def rotation(grids: tuple[tuple[int, ...], ...], width: int) -> Float[np.ndarray, "2 l p"]:
    """Returns [2, l, p]: cosine and sine of the angles of p channel pairs at each of l tokens.

    Args:
        grids: grid of every modality, in the order of their tokens. An axis with one position gets
            no pairs.
        width: channels per head. Pairs that do not divide evenly among the axes are not rotated.

    Raises:
        ValueError: if the width is odd, or there are fewer pairs than axes.
    """
    if width % 2:
        raise ValueError(f"rotary positions need heads of an even width, got {width}")
    axes = sum(size > 1 for grid in grids for size in grid)
    pairs = width // 2 // axes if axes else 0
    if axes and not pairs:
        least = f"at least {2 * axes} channels per head"
        raise ValueError(f"rotary positions on {axes} axes need {least}, got {width}")
    frequency = 1e4 ** (-np.arange(pairs, dtype=np.float64) / max(pairs, 1))
    rows, first = [], 0
    for grid in grids:
        coordinates = np.meshgrid(*(np.arange(size) for size in grid), indexing="ij")
        angle = np.zeros((coordinates[0].size, width // 2))
        for coordinate, size in zip(coordinates, grid, strict=True):
            if size > 1:
                angle[:, first : first + pairs] = coordinate.reshape(-1, 1) * frequency
                first += pairs
        rows.append(angle)
    angles = np.concatenate(rows)
    return np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)


def rotate(x: Float[Array, "b l h d"], turn: Float[Array, "2 l p"]) -> Float[Array, "b l h d"]:
    """Rotates queries or keys by the angles whose cosine and sine are `turn`, in float32."""
    cos, sin = (part[None, :, None] for part in turn)  # 1 l 1 p
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)
