"""Editing: regenerating part of an example (in- and out-painting), or varying all of it slightly.

A caller gives an `EditSpec`; `stored_edit` makes a `StoredEdit` of it, whose `inputs` are the
`EditInputs` that a request carries into the compiled program.

Kept tokens are known from the start. The others begin at the time `strength` instead of 1, as the
example with that much noise: Meng et al., "SDEdit", arXiv:2108.01073. A network that never saw
clean latents among noisy ones sees the kept ones with as much noise as the others have: Lugmayr et
al., "RePaint", arXiv:2201.09865, without its resampling.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vqdit import rules
from vqdit.modalities import Modality
from vqdit.processes import Process
from vqdit.processes.base import X
from vqdit.typing import Array, Bool, Float, Key


class EditSpec(NamedTuple):
    """An edit of one modality, as a caller gives it.

    Attributes:
        value: one example, or a stack whose item i mod F sample i starts from.
        mask: bool array of the data's size ([h, w] of an image), or a stack: True where the data
            are regenerated; everything else stays bit for bit. None regenerates everything.
        strength: time in (0, 1] to which the example is noised; 1 keeps nothing of it.
    """

    value: Any
    mask: Any = None
    strength: float = 1.0


class EditInputs(NamedTuple):
    """An edit of one modality for a batch of samples; a pytree.

    Attributes:
        value: stored examples.
        keep: True at tokens that stay.
        strength: time at which the other tokens begin, in (0, 1]; 1 is pure noise.
        unended: True at tokens of a text that are not its end, if there are any such.
    """

    value: Array
    keep: Bool[Array, "b l"]
    strength: Float[Array, ""]
    unended: Bool[Array, "b l"] | None = None

    def start(self, encode: Callable[[Array], X], process: Process, keys: Key[Array, " b"]) -> X:
        """Returns the tokens at time `strength`; kept tokens are without noise."""
        x_0 = encode(self.value)
        x_t, _ = process.noise(keys, x_0, jnp.full((len(keys), 1), self.strength))
        return jnp.where(self.keep[..., None], x_0, x_t)


class StoredEdit(NamedTuple):
    """An `EditSpec` in stored form: values [f, ...], mask [f, *size], kept tokens [f, l].

    If examples differ in length, `lengths` are their numbers of stored positions, int32 [f].
    """

    values: np.ndarray
    mask: np.ndarray
    keep: np.ndarray
    strength: float
    unended: np.ndarray | None = None
    lengths: np.ndarray | None = None

    def take(self, index: np.ndarray) -> "StoredEdit":
        """Returns the rows of the samples with these numbers."""
        return self._each(lambda rows: rows[index % len(rows)])

    def cut(self, room: int) -> "StoredEdit":
        """Returns the first `room` positions of examples that differ in length."""
        return self._each(lambda rows: rows[:, :room] if rows.ndim > 1 else rows)

    def _each(self, change: Callable[[np.ndarray], np.ndarray]) -> "StoredEdit":
        parts = (self.values, self.mask, self.keep, self.unended, self.lengths)
        values, mask, keep, *more = (None if part is None else change(part) for part in parts)
        return StoredEdit(values, mask, keep, self.strength, *more)  # pyright: ignore

    @property
    def inputs(self) -> EditInputs:
        """The edit as a request carries it."""
        values, keep = jnp.asarray(self.values), jnp.asarray(self.keep)
        unended = None if self.unended is None else jnp.asarray(self.unended)
        return EditInputs(values, keep, jnp.float32(self.strength), unended)

    def pasted(self, generated: np.ndarray) -> np.ndarray:
        """Returns the generated data inside of the mask, and the original values outside."""
        mask = self.mask.reshape(*self.mask.shape, *(1,) * (generated.ndim - self.mask.ndim))
        return np.where(mask, generated, self.values)


def stored_edit(
    spec: EditSpec, values: np.ndarray, modality: Modality, grid: tuple[int, ...]
) -> StoredEdit:
    """Returns an edit in stored form.

    Args:
        spec: the edit as a caller gives it.
        values: its value in stored form.
        modality: modality of the value.
        grid: grid of the modality's tokens.

    Raises:
        ValueError: the mask or the strength is out of range.
    """
    rules.check(rules.number, strength=spec.strength)
    if not 0.0 < spec.strength <= 1.0:
        raise ValueError(f"strength must be in (0, 1], got {spec.strength}")
    if spec.mask is None:
        mask = np.ones((1, *modality.grid), bool)
        return StoredEdit(values, mask, np.zeros((1, math.prod(grid)), bool), spec.strength)
    mask = np.asarray(spec.mask)
    mask = mask[None] if mask.shape == modality.grid else mask
    if mask.dtype != bool or mask.shape[1:] != modality.grid or not len(mask):
        size = "x".join(map(str, modality.grid))
        raise ValueError(f"the mask must be bool and {size}, got {mask.dtype} {list(mask.shape)}")
    if not mask.any():
        raise ValueError("the mask changes nothing; it is True where to change")
    return StoredEdit(values, mask, kept_tokens(modality, grid, mask), spec.strength)


def kept_tokens(
    modality: Modality, grid: tuple[int, ...], mask: Bool[np.ndarray, "b *size"]
) -> Bool[np.ndarray, "b l"]:
    """Returns which tokens stay: those whose whole patch of the data stays.

    Args:
        modality: modality of the data.
        grid: grid of its tokens.
        mask: True where the data are regenerated, such as [b, h, w] of an image.

    Raises:
        ValueError: the tokens do not correspond to patches of the data.
    """
    size = modality.grid
    if len(grid) != len(size) or any(s % g for s, g in zip(size, grid, strict=True)):
        raise ValueError(
            f"tokens on a grid {'x'.join(map(str, grid))} are not patches of data of size "
            f"{'x'.join(map(str, size))}, so no part of the data can be kept; leave the mask out"
        )
    cells = [part for s, g in zip(size, grid, strict=True) for part in (g, s // g)]
    inner = tuple(range(2, 2 * len(grid) + 1, 2))
    return ~mask.reshape(len(mask), *cells).any(axis=inner).reshape(len(mask), -1)


def some_tokens(keys: Key[Array, " b"], grid: tuple[int, ...]) -> Bool[Array, "b l"]:
    """Draws a random box of tokens for every example, or all tokens outside of one."""

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
