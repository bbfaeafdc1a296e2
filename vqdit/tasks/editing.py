"""Editing: regenerates a part of an example (in- and out-painting), or varies the whole example.

A user passes an `EditSpec`. `stored_edit` converts it to a `StoredEdit`, whose property `inputs` is
an `EditInputs`: the part of the request that is passed to the compiled program.

Kept tokens are known from the start. All other tokens start at the time `strength` instead of 1, as
the example noised to that time: Meng et al., "SDEdit", arXiv:2108.01073. If the network was not
trained with clean latents among noisy ones, the kept latents are noised to the time of the other
latents in each step: Lugmayr et al., "RePaint", arXiv:2201.09865, without its resampling.
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
from vqdit.ragged import is_ragged, padded
from vqdit.ragged import lengths as ragged_lengths
from vqdit.tasks.token_space import TokenSpace
from vqdit.typing import Array, Bool, Float, Key


class EditSpec(NamedTuple):
    """An edit of one modality, as a user passes it.

    Attributes:
        value: one example, or a stack of F examples; sample i starts from item i mod F. Samples of
            variable length have the length of their example, rounded up to whole tokens.
        mask: bool array of the data's size ([h, w] of an image), or a stack of them. The data are
            regenerated where it is True, and are unchanged bit for bit elsewhere. None regenerates
            all, and is the only choice for data of variable length.
        strength: time in (0, 1] to which the example is noised; 1 is pure noise.
    """

    value: Any
    mask: Any = None
    strength: float = 1.0


class EditInputs(NamedTuple):
    """An edit of one modality for a batch of samples; a pytree.

    Attributes:
        value: stored examples.
        keep: True at tokens that are kept.
        strength: time at which the other tokens start, in (0, 1]; 1 is pure noise.
        unended: True at tokens of a text that must not be the end code; None if all may be.
        real: True at the stored positions that are not padding; None if there is no padding.
    """

    value: Array
    keep: Bool[Array, "b l"]
    strength: Float[Array, ""]
    unended: Bool[Array, "b l"] | None = None
    real: Bool[Array, "b n"] | None = None

    def start(self, encode: Callable[..., X], process: Process, keys: Key[Array, " b"]) -> X:
        """Returns the tokens noised to time `strength`; kept tokens have no noise.

        `encode` maps stored examples, and the mask `real`, to their tokens.
        """
        x_0 = encode(self.value, self.real)
        x_t, _ = process.noise(keys, x_0, jnp.full((len(keys), 1), self.strength))
        return jnp.where(self.keep[..., None], x_0, x_t)


class StoredEdit(NamedTuple):
    """An `EditSpec` in stored form: values [f, ...], mask [f, *size], kept tokens [f, l].

    If examples differ in length, values, mask and `real` (True at positions that are not padding)
    are padded to one length, and `lengths` has the numbers of tokens, int32 [f].
    """

    values: np.ndarray
    mask: np.ndarray
    keep: np.ndarray
    strength: float
    unended: np.ndarray | None = None
    lengths: np.ndarray | None = None
    real: np.ndarray | None = None

    def take(self, index: np.ndarray) -> "StoredEdit":
        """Returns the edit of the samples with these indices."""
        arrays = {
            name: part for name, part in self._asdict().items() if isinstance(part, np.ndarray)
        }
        return self._replace(**{name: part[index % len(part)] for name, part in arrays.items()})

    def cut(self, positions: int, tokens: int) -> "StoredEdit":
        """Returns the edit with only the first positions and tokens of every example."""
        return self._replace(
            values=self.values[:, :positions],
            mask=self.mask[:, :positions],
            keep=self.keep[:, :tokens],
            unended=None if self.unended is None else self.unended[:, :tokens],
            real=None if self.real is None else self.real[:, :positions],
        )

    @property
    def inputs(self) -> EditInputs:
        """The edit as a part of a request."""
        values, keep = jnp.asarray(self.values), jnp.asarray(self.keep)
        unended = None if self.unended is None else jnp.asarray(self.unended)
        real = None if self.real is None else jnp.asarray(self.real)
        return EditInputs(values, keep, jnp.float32(self.strength), unended, real)

    def pasted(self, generated: np.ndarray) -> np.ndarray:
        """Returns the generated data inside the mask, and the original values outside."""
        mask = self.mask.reshape(*self.mask.shape, *(1,) * (generated.ndim - self.mask.ndim))
        return np.where(mask, generated, self.values)


def stored_edit(
    spec: EditSpec, values: np.ndarray, modality: Modality, space: TokenSpace
) -> StoredEdit:
    """Returns an edit in stored form.

    Args:
        spec: the edit as a user passes it.
        values: the value of the edit in stored form.
        modality: modality of the value.
        space: the modality's tokens.

    Raises:
        ValueError: the mask or the strength is out of range, or a mask is given for data of
            variable length.
    """
    real, lengths = None, None
    if is_ragged(values):
        if spec.mask is not None:
            raise ValueError(
                "a mask is only for data of one size, and these vary in length; leave it out"
            )
        lengths = np.asarray(space.token_lengths(jnp.asarray(ragged_lengths(values))))
        values, real = padded(values, modality.shape[0])
    rules.check(rules.number, strength=spec.strength)
    if not 0.0 < spec.strength <= 1.0:
        raise ValueError(f"strength must be in (0, 1], got {spec.strength}")
    if spec.mask is None:
        mask = np.ones((1, *modality.grid), bool)
        keep = np.zeros((1, math.prod(space.grid)), bool)
        return StoredEdit(values, mask, keep, spec.strength, lengths=lengths, real=real)
    mask = np.asarray(spec.mask)
    mask = mask[None] if mask.shape == modality.grid else mask
    if mask.dtype != bool or mask.shape[1:] != modality.grid or not len(mask):
        size = "x".join(map(str, modality.grid))
        raise ValueError(
            f"the mask must be bool of size {size}, got {mask.dtype} {list(mask.shape)}"
        )
    if not mask.any():
        raise ValueError(
            "the mask is False everywhere, so nothing would change; set it to True where to "
            "regenerate"
        )
    return StoredEdit(values, mask, kept_tokens(modality, space.grid, mask), spec.strength)


def kept_tokens(
    modality: Modality, grid: tuple[int, ...], mask: Bool[np.ndarray, "b *size"]
) -> Bool[np.ndarray, "b l"]:
    """Returns which tokens are kept: those for which the whole patch of the data is kept.

    Args:
        modality: modality of the data.
        grid: grid of the modality's tokens.
        mask: True where the data are regenerated, such as [b, h, w] of an image.

    Raises:
        ValueError: the tokens do not correspond to patches of the data.
    """
    size = modality.grid
    if len(grid) != len(size) or any(s % g for s, g in zip(size, grid, strict=True)):
        raise ValueError(
            f"the grid of tokens, {'x'.join(map(str, grid))}, does not divide data of size "
            f"{'x'.join(map(str, size))} into patches, so no part of the data can be kept; leave "
            "the mask out"
        )
    cells = [part for s, g in zip(size, grid, strict=True) for part in (g, s // g)]
    inner = tuple(range(2, 2 * len(grid) + 1, 2))
    return ~mask.reshape(len(mask), *cells).any(axis=inner).reshape(len(mask), -1)


def some_tokens(keys: Key[Array, " b"], grid: tuple[int, ...]) -> Bool[Array, "b l"]:
    """Draws a mask [b, l] that is True in a random box of tokens, or outside it."""

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
