"""Interpolation: generates examples on a path from one example to another.

Both ends are noised to the same time with the same noise and are then mixed. Generation continues
from that time. The noise hides that the mixture is not a real example. Ho et al., "Denoising
Diffusion Probabilistic Models", arXiv:2006.11239, section 4.4. Latents are interpolated on a
sphere, as all noisy latents have about the same norm: Song et al., "Denoising Diffusion Implicit
Models", arXiv:2010.02502, appendix D.5,

    x(s) = sin((1 - s) theta) / sin(theta) a + sin(s theta) / sin(theta) b,

where theta is the angle between a and b, and s in [0, 1] the position on the path. Codes cannot be
averaged. They are mixed before noise is added: a fraction s of the positions has the codes of b,
and the other positions have the codes of a.

A user passes an `Interpolation`. `stored_interpolation` converts it to a `StoredInterpolation`,
whose property `inputs` is an `InterpolationInputs`: the part of the request that is passed to the
compiled program.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vqdit import rules
from vqdit.modalities import Image, Modality
from vqdit.processes import Process
from vqdit.processes.base import X
from vqdit.random import streams
from vqdit.typing import Array, Float, Int, Key

LEAST_SINE = 1e-6
"""Latents whose angle has a smaller sine are (anti)parallel, and are interpolated linearly."""


class Interpolation(NamedTuple):
    """A request to interpolate between two pictures; the samples are evenly spaced on the path.

    Attributes:
        first: picture at the start of the path.
        second: picture at the end of the path.
        strength: time in [0, 1] to which both pictures are noised before they are mixed. With
            larger values, the samples vary more and resemble the two pictures less.
    """

    first: Any
    second: Any
    strength: float


class InterpolationInputs(NamedTuple):
    """An interpolation for a batch of samples; a pytree.

    Attributes:
        first: stored examples at the start of the path.
        second: stored examples at the end of the path.
        share: position of each sample on the path, in [0, 1].
        strength: time at which generation begins, in [0, 1]: 0 decodes the mixture itself, 1 starts
            from pure noise.
    """

    first: Array
    second: Array
    share: Float[Array, " b"]
    strength: Float[Array, ""]

    def start(self, encode: Callable[[Array], X], process: Process, keys: Key[Array, " b"]) -> X:
        """Returns the tokens at time `strength`; samples with equal keys have equal noise."""
        first, second = encode(self.first), encode(self.second)
        noise_keys, t = streams(keys, "noise"), jnp.full((len(keys), 1), self.strength)
        if process.is_discrete:
            mixed = mixed_codes(streams(keys, "turns"), first, second, self.share)
            return process.noise(noise_keys, mixed, t)[0]
        first, _ = process.noise(noise_keys, first, t)
        second, _ = process.noise(jax.random.clone(noise_keys), second, t)
        return slerp(first, second, self.share)


class StoredInterpolation(NamedTuple):
    """An `Interpolation` in stored form: the ends [1, ...], and the share of each sample [n]."""

    first: np.ndarray
    second: np.ndarray
    share: np.ndarray
    strength: float

    def take(self, index: np.ndarray) -> "StoredInterpolation":
        """Returns the interpolation of the samples with these indices."""
        first, second, share = (x[index % len(x)] for x in (self.first, self.second, self.share))
        return StoredInterpolation(first, second, share, self.strength)

    @property
    def inputs(self) -> InterpolationInputs:
        """The interpolation as a part of a request."""
        first, second, share = (jnp.asarray(x) for x in self[:3])
        return InterpolationInputs(first, second, share, jnp.float32(self.strength))

    def pasted(self, generated: np.ndarray) -> np.ndarray:
        """Returns the generated data unchanged, as an interpolation keeps no part of the ends."""
        return generated


def stored_interpolation(
    path: Interpolation, first: np.ndarray, second: np.ndarray, modality: Modality, count: int
) -> StoredInterpolation:
    """Returns an interpolation in stored form.

    Args:
        path: the interpolation as a user passes it.
        first: start of the path in stored form.
        second: end of the path in stored form.
        modality: modality of both ends.
        count: number of samples on the path.

    Raises:
        ValueError: the ends are not one picture each, or a number is out of range.
    """
    if not isinstance(modality, Image):
        raise ValueError(f"only images can be interpolated, got {type(modality).__name__}")
    if len(first) != 1 or len(second) != 1:
        raise ValueError(
            f"interpolation needs one picture at each end, got {len(first)} and {len(second)}"
        )
    rules.check(rules.number, strength=path.strength)
    if not 0.0 <= path.strength <= 1.0:
        raise ValueError(f"strength must be in [0, 1], got {path.strength}")
    if count < 2:
        raise ValueError(f"a path has two ends, so it needs at least 2 samples, got {count}")
    share = np.arange(count, dtype=np.float32) / (count - 1)
    return StoredInterpolation(first, second, share, path.strength)


def slerp(
    first: Float[Array, "b l d"], second: Float[Array, "b l d"], share: Float[Array, " b"]
) -> Float[Array, "b l d"]:
    """Interpolates spherically from the first latents to the second; each example is one vector."""
    share = share[:, None, None]
    a, b = _unit(first), _unit(second)
    # The angle of unit vectors; unlike arccos(a b) it is accurate for small angles.
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
    """Returns codes of `second` at a fraction `share` of the positions, of `first` elsewhere.

    Each position has a uniform random number, and has the codes of `second` if `share` exceeds it.
    """
    length = first.shape[1]
    turns = jax.vmap(lambda key: jax.random.uniform(key, (length, 1)))(keys)  # in [0, 1)
    return jnp.where(turns < share[:, None, None], second, first)
