"""Editing: an example is changed in part (in- and out-painting), or as a whole but slightly.

What is kept of the tokens is known from the start; the rest begins at the time `strength` instead
of 1, as the example with that much noise: Meng et al., "SDEdit", arXiv:2108.01073. A network that
never saw clean latents among noisy ones is shown the kept ones with as much noise as the others
have: Lugmayr et al., "RePaint", arXiv:2201.09865, without its resampling.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.modalities import Modality
from vqdit.processes import Process
from vqdit.processes.base import X
from vqdit.typing import Array, Bool, Float, Key


class EditInputs(NamedTuple):
    """How a modality is changed; a pytree.

    Attributes:
        value: the stored examples.
        keep: True at tokens that stay.
        strength: the time at which the others begin, in (0, 1]: 1 is from noise.
    """

    value: Array
    keep: Bool[Array, "b l"]
    strength: Float[Array, ""]

    def start(self, encode: Callable[[Array], X], process: Process, keys: Key[Array, " b"]) -> X:
        """Returns the tokens at time `strength`, and those that stay."""
        x_0 = encode(self.value)
        x_t, _ = process.noise(keys, x_0, jnp.full((len(keys), 1), self.strength))
        return jnp.where(self.keep[..., None], x_0, x_t)


class EditSpec(NamedTuple):
    """How a modality is to be changed.

    Attributes:
        value: one example, or a stack whose item i mod F sample i starts from.
        mask: bool, of the data's size ([h, w] of an image), or a stack: True where it is generated
            anew; everything else stays bit for bit. None changes all of it.
        strength: in (0, 1]: how far it goes towards noise before it comes back; 1 keeps nothing.
    """

    value: Any
    mask: Any = None
    strength: float = 1.0


class StoredEdit(NamedTuple):
    """An `EditSpec` in stored form: values [f, ...], mask [f, *size], kept tokens [f, l]."""

    values: np.ndarray
    mask: np.ndarray
    keep: np.ndarray
    strength: float

    def take(self, index: np.ndarray) -> "StoredEdit":
        """Returns the rows of samples of these numbers."""
        values, mask, keep = (x[index % len(x)] for x in (self.values, self.mask, self.keep))
        return StoredEdit(values, mask, keep, self.strength)

    @property
    def edit(self) -> EditInputs:
        """What the task takes."""
        values, keep = jnp.asarray(self.values), jnp.asarray(self.keep)
        return EditInputs(values, keep, jnp.float32(self.strength))

    def pasted(self, generated: np.ndarray) -> np.ndarray:
        """Returns what was generated, within the values that stay."""
        mask = self.mask.reshape(*self.mask.shape, *(1,) * (generated.ndim - self.mask.ndim))
        return np.where(mask, generated, self.values)


def changed(
    change: EditSpec, values: np.ndarray, modality: Modality, tokens: tuple[int, ...], count: int
) -> StoredEdit:
    """Returns a change in stored form.

    Args:
        change: as a caller gives it.
        values: its value, stored.
        modality: of the data.
        tokens: the grid of their tokens.
        count: how many there are.

    Raises:
        ValueError: the mask or the strength are out of range.
    """
    if not 0.0 < change.strength <= 1.0:
        raise ValueError(f"strength must be in (0, 1], got {change.strength}")
    if change.mask is None:
        mask = np.ones((1, *modality.grid), bool)
        return StoredEdit(values, mask, np.zeros((1, count), bool), change.strength)
    mask = np.asarray(change.mask)
    mask = mask[None] if mask.shape == modality.grid else mask
    if mask.dtype != bool or mask.shape[1:] != modality.grid or not len(mask):
        size = "x".join(map(str, modality.grid))
        raise ValueError(f"the mask must be bool and {size}, got {mask.dtype} {list(mask.shape)}")
    if not mask.any():
        raise ValueError("the mask changes nothing; it is True where to change")
    return StoredEdit(values, mask, kept_tokens(modality, tokens, mask), change.strength)


def kept_tokens(
    modality: Modality, grid: tuple[int, ...], mask: Bool[np.ndarray, "b *size"]
) -> Bool[np.ndarray, "b l"]:
    """Returns which tokens stay: those no part of which is to be changed.

    Args:
        modality: of the data.
        grid: of its tokens.
        mask: True where the data are to be changed, such as [b, h, w] of an image.

    Raises:
        ValueError: the tokens have no places in the data.
    """
    size = modality.grid
    if len(grid) != len(size) or any(s % g for s, g in zip(size, grid, strict=True)):
        raise ValueError(
            f"tokens on a grid {'x'.join(map(str, grid))} have no places in data of size "
            f"{'x'.join(map(str, size))}, so no part of them can be kept; leave the mask out"
        )
    cells = [part for s, g in zip(size, grid, strict=True) for part in (g, s // g)]
    inner = tuple(range(2, 2 * len(grid) + 1, 2))
    return ~mask.reshape(len(mask), *cells).any(axis=inner).reshape(len(mask), -1)


def some_tokens(keys: Key[Array, " b"], grid: tuple[int, ...]) -> Bool[Array, "b l"]:
    """Draws, for every example, a box of tokens or all that lie outside of one."""

    def draw(key: Key[Array, ""]) -> Bool[Array, " l"]:
        k_ends, k_side = jax.random.split(key)
        ends = jnp.sort(jax.random.uniform(k_ends, (len(grid), 2)), axis=1)
        inside = jnp.ones(grid, bool)
        for axis, size in enumerate(grid):
            place = (jnp.arange(size) + 0.5) / size
            within = (place >= ends[axis, 0]) & (place <= ends[axis, 1])
            inside &= within.reshape([-1 if a == axis else 1 for a in range(len(grid))])
        return (inside ^ jax.random.bernoulli(k_side)).reshape(math.prod(grid))

    return jax.vmap(draw)(keys)
