"""Further distributions of training times; Uniform and LogitNormal are in `processes/base.py`.

Mode and CosMap are from Esser et al., "Scaling Rectified Flow Transformers", arXiv:2403.03206,
section 3.1. `Shifted` moves any distribution towards noise.
"""

import math

import jax.numpy as jnp

from vqdit.processes.base import TimeDistribution, Uniform, Values


class Mode(TimeDistribution):
    """t = u - scale (sin^2(pi u / 2) - u): favours the middle without neglecting the ends.

    Attributes:
        scale: from -1 to 2 / (pi - 2) = 1.75, so that t increases in u; negative values favour the
            ends. 1.29 in the paper.
    """

    scale: float = 1.29

    def __post_init__(self) -> None:
        holds = -1.0 <= self.scale <= 2.0 / (math.pi - 2.0)
        self.require("scale in [-1, 1.75]", holds, "1.29 is usual")

    def quantile(self, u: Values) -> Values:
        t = (1.0 + self.scale) * u - self.scale * jnp.sin(jnp.pi / 2 * u) ** 2
        return jnp.minimum(t, 1.0)


class CosMap(TimeDistribution):
    """t = tan(pi u / 2) / (1 + tan(pi u / 2)), which favours the ends.

    The path "linear" of `Flow` then has the distribution of signal-to-noise ratios that the path
    "gvp" has with t ~ U(0, 1).
    """

    def quantile(self, u: Values) -> Values:
        sine, cosine = jnp.sin(jnp.pi / 2 * u), jnp.cos(jnp.pi / 2 * u)
        return jnp.minimum(sine / (sine + cosine), 1.0)


class Shifted(TimeDistribution):
    """t' = s t / (1 + (s - 1) t): multiplies the odds t / (1 - t) of a distribution by s.

    Data with more positions or channels need more noise to become unrecognizable. SD3 shifts by s =
    sqrt(m / n) from n to m pixels (3 at 1024 x 1024; arXiv:2403.03206, section 5.3.2), RAE by s =
    sqrt(d / 4096) with d the number of elements of an example's latents (arXiv:2510.11690).

    Attributes:
        distribution: the distribution that is shifted.
        shift: s > 0; values above 1 favour noise (t = 1).
    """

    distribution: TimeDistribution = Uniform()
    shift: float = 3.0

    def __post_init__(self) -> None:
        self.require("shift > 0", self.shift > 0.0, "shift=1 changes nothing")

    def quantile(self, u: Values) -> Values:
        return jnp.minimum(shifted(self.distribution.quantile(u), self.shift), 1.0)


def shifted(t: Values, shift: float) -> Values:
    """Returns the times whose odds, t / (1 - t), are `shift` times those of t."""
    return shift * t / (1.0 + (shift - 1.0) * t)
