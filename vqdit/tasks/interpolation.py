"""Interpolation: examples on a path from one to another.

Both ends are noised to one time by the same noise and mixed there, and what comes of it is
generated from that time on: the noise hides that a mixture is no example. Ho et al., "Denoising
Diffusion Probabilistic Models", arXiv:2006.11239, section 4.4. Latents are mixed on the sphere, as
the norm of noisy latents hardly varies: Song et al., "Denoising Diffusion Implicit Models",
arXiv:2010.02502, appendix D.5,

    x(s) = sin((1 - s) theta) / sin(theta) a + sin(s theta) / sin(theta) b,

where theta is the angle between a and b, and s the share of the way from a to b. There is nothing
between two codes: those of a share s of the positions are b's, the others a's, and then noised.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.modalities import Image, Modality
from vqdit.processes import Process
from vqdit.processes.base import X
from vqdit.random import streams
from vqdit.typing import Array, Float, Int, Key

LEAST_SINE = 1e-6
"""Below it two latents have one direction, or opposite ones, and are mixed along the line."""


class InterpolationInputs(NamedTuple):
    """Where a modality begins that is generated between two examples; a pytree.

    Attributes:
        first: stored examples at the beginning of the path.
        second: those at its end.
        share: of the way that lies behind each sample, in [0, 1].
        strength: the time at which generation begins, in [0, 1]: 0 gives back what the tokenizer
            keeps of the mixture, 1 is from noise.
    """

    first: Array
    second: Array
    share: Float[Array, " b"]
    strength: Float[Array, ""]

    def start(self, encode: Callable[[Array], X], process: Process, keys: Key[Array, " b"]) -> X:
        """Returns the tokens at time `strength`; samples of one key have one noise."""
        first, second = encode(self.first), encode(self.second)
        noise_keys, t = streams(keys, "noise"), jnp.full((len(keys), 1), self.strength)
        if process.is_discrete:
            mixed = mixed_codes(streams(keys, "turns"), first, second, self.share)
            return process.noise(noise_keys, mixed, t)[0]
        first, _ = process.noise(noise_keys, first, t)
        second, _ = process.noise(jax.random.clone(noise_keys), second, t)
        return slerp(first, second, self.share)


class Interpolation(NamedTuple):
    """A path from one picture to another, which all samples divide into equal parts.

    Attributes:
        first: the picture at its beginning.
        second: the one at its end.
        strength: in [0, 1]: how far both go towards noise before they are mixed. The more, the
            more freely the samples between them are generated, and the less the ends keep.
    """

    first: Any
    second: Any
    strength: float


class StoredInterpolation(NamedTuple):
    """An `Interpolation` in stored form: the ends [1, ...], and the share of each sample [n]."""

    first: np.ndarray
    second: np.ndarray
    share: np.ndarray
    strength: float

    def take(self, index: np.ndarray) -> "StoredInterpolation":
        """Returns the rows of samples of these numbers."""
        first, second, share = (x[index % len(x)] for x in (self.first, self.second, self.share))
        return StoredInterpolation(first, second, share, self.strength)

    @property
    def edit(self) -> InterpolationInputs:
        """What the task takes."""
        first, second, share = (jnp.asarray(x) for x in self[:3])
        return InterpolationInputs(first, second, share, jnp.float32(self.strength))

    def pasted(self, generated: np.ndarray) -> np.ndarray:
        """Returns what was generated: nothing of the ends stays as it is."""
        return generated


def interpolated(
    path: Interpolation, first: np.ndarray, second: np.ndarray, modality: Modality, count: int
) -> StoredInterpolation:
    """Returns a path in stored form.

    Args:
        path: as a caller gives it.
        first: its beginning, stored.
        second: its end.
        modality: of both.
        count: samples on it.

    Raises:
        ValueError: they are no pictures or not one each, or a number is out of range.
    """
    if not isinstance(modality, Image):
        raise ValueError(f"only pictures are interpolated, and this is {type(modality).__name__}")
    if len(first) != 1 or len(second) != 1:
        raise ValueError(
            f"interpolation is from one picture to one other, got {len(first)} and {len(second)}"
        )
    if not 0.0 <= path.strength <= 1.0:
        raise ValueError(f"strength must be in [0, 1], got {path.strength}")
    if count < 2:
        raise ValueError(f"a path has two ends, so it takes at least 2 samples, got {count}")
    share = np.arange(count, dtype=np.float32) / (count - 1)
    return StoredInterpolation(first, second, share, path.strength)


def slerp(
    first: Float[Array, "b l d"], second: Float[Array, "b l d"], share: Float[Array, " b"]
) -> Float[Array, "b l d"]:
    """Returns latents on the arc from the first to the second, each example as one vector."""
    share = share[:, None, None]
    a, b = _unit(first), _unit(second)
    # Of unit vectors; unlike the arc cosine of their product it is accurate for small angles.
    theta = 2.0 * jnp.arctan2(_norm(a - b), _norm(a + b))
    sine = jnp.sin(theta)
    is_arc = sine > LEAST_SINE
    safe = jnp.where(is_arc, sine, 1.0)
    of_first = jnp.where(is_arc, jnp.sin((1.0 - share) * theta) / safe, 1.0 - share)
    of_second = jnp.where(is_arc, jnp.sin(share * theta) / safe, share)
    return of_first * first + of_second * second


def _norm(x: Float[Array, "b l d"]) -> Float[Array, "b 1 1"]:
    return jnp.sqrt(jnp.sum(x**2, axis=(1, 2), keepdims=True))


def _unit(x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
    norm = _norm(x)
    return x / jnp.where(norm > 0.0, norm, 1.0)


def mixed_codes(
    keys: Key[Array, " b"],
    first: Int[Array, "b l q"],
    second: Int[Array, "b l q"],
    share: Float[Array, " b"],
) -> Int[Array, "b l q"]:
    """Returns the second's codes at a share of the positions, and the first's elsewhere.

    A position turns where the share passes its uniform number, so for one key it turns once.
    """
    length = first.shape[1]
    turns = jax.vmap(lambda key: jax.random.uniform(key, (length, 1)))(keys)  # in [0, 1)
    return jnp.where(turns < share[:, None, None], second, first)
