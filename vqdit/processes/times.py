"""Laws by which training draws its times, beside the two of `processes/base.py`.

Mode and CosMap are those of Esser et al., "Scaling Rectified Flow Transformers", arXiv:2403.03206,
section 3.1. `Shifted` moves any law towards noise.
"""

import math

import jax.numpy as jnp

from vqdit.processes.base import TimeDistribution, Uniform
from vqdit.typing import Array, Float


class Mode(TimeDistribution):
    """t = u - scale (sin^2(pi u / 2) - u): more training in the middle, yet the ends keep theirs.

    Attributes:
        scale: from -1 to 2 / (pi - 2) = 1.75, so that t rises in u; negative values move training
            to the ends. 1.29 in the paper.
    """

    scale: float = 1.29

    def __post_init__(self) -> None:
        if not -1.0 <= self.scale <= 2.0 / (math.pi - 2.0):
            raise ValueError(f"Mode needs scale in [-1, 1.75], got {self.scale}; 1.29 is usual")

    def quantile(self, u: Float[Array, "*b"]) -> Float[Array, "*b"]:
        t = (1.0 + self.scale) * u - self.scale * jnp.sin(jnp.pi / 2 * u) ** 2
        return jnp.minimum(t, 1.0)


class CosMap(TimeDistribution):
    """t = tan(pi u / 2) / (1 + tan(pi u / 2)): less training in the middle.

    On straight lines it visits the signal-to-noise ratios that u ~ U(0, 1) has on the path "gvp" of
    `Flow`.
    """

    def quantile(self, u: Float[Array, "*b"]) -> Float[Array, "*b"]:
        sine, cosine = jnp.sin(jnp.pi / 2 * u), jnp.cos(jnp.pi / 2 * u)
        return jnp.minimum(sine / (sine + cosine), 1.0)


class Shifted(TimeDistribution):
    """t' = s t / (1 + (s - 1) t): the odds of noise, t / (1 - t), are s times those of a law.

    The more positions or channels data have, the more noise it takes to hide them. SD3 shifts by
    s = sqrt(m / n) from n to m pixels (3 at 1024 x 1024; arXiv:2403.03206, section 5.3.2), RAE by
    s = sqrt(d / 4096) with d numbers in the latents of an example (arXiv:2510.11690).

    Attributes:
        law: what is shifted.
        shift: s; values above 1 move training towards noise (t = 1).
    """

    law: TimeDistribution = Uniform()
    shift: float = 3.0

    def __post_init__(self) -> None:
        if self.shift <= 0.0:
            raise ValueError(f"Shifted needs shift > 0, got {self.shift}; 1 shifts nothing")

    def quantile(self, u: Float[Array, "*b"]) -> Float[Array, "*b"]:
        return jnp.minimum(shifted(self.law.quantile(u), self.shift), 1.0)


def shifted(t: Float[Array, "*b"], shift: float) -> Float[Array, "*b"]:
    """Returns the times whose odds of noise, t / (1 - t), are `shift` times those of t."""
    return shift * t / (1.0 + (shift - 1.0) * t)
