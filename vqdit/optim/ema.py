"""Moving averages of parameters: exponential, and power functions that are chosen after training.

Exponential, at step n:

    theta' <- d theta' + (1 - d) theta,      d = min(decay, (1 + n) / (10 + n)),

so that the first steps, whose parameters are far off, are soon forgotten. Without that warm-up d
is the decay from the first step on.

A power function of exponent gamma weighs the parameters of step tau by (tau / t)^gamma:

    theta' <- b_t theta' + (1 - b_t) theta,  b_t = (1 - 1 / t)^(gamma + 1).

Two of them, kept at some steps, give nearly any other by least squares, so that the width of the
average need not be chosen before training. Karras et al., "Analyzing and Improving the Training
Dynamics of Diffusion Models" (EDM2), arXiv:2312.02696, section 3 and appendix C.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.typing import Array, Component, Float, Int, Params

WIDEST = 0.28
"""Widths are below that of gamma = 0, 1 / sqrt(12): the plain mean of all steps."""


class PosthocEMA(Component):
    """Averages from which `vqdit average` computes one of any width after training.

    Attributes:
        widths: standard deviations of the two averages, as fractions of the length of training.
        every: steps between saves, each of which takes twice the size of the parameters.
    """

    widths: tuple[float, float] = (0.05, 0.10)
    every: int = 5000

    def __post_init__(self) -> None:
        low, high = self.widths
        if not 0.0 < low < high < WIDEST:
            raise ValueError(
                f"PosthocEMA needs two rising widths in (0, {WIDEST}), got {self.widths}; "
                "(0.05, 0.1) is usual"
            )
        if self.every < 1:
            raise ValueError(f"PosthocEMA needs every >= 1, got {self.every}")


class Averaging(Component):
    """The moving averages of parameters that training keeps.

    Attributes:
        decay: decay of the exponential average for evaluation and sampling; 0 disables it.
        warmup: whether the decay grows at first, so that early steps are soon forgotten.
        posthoc: power-function averages.
    """

    decay: float = 0.0
    warmup: bool = True
    posthoc: PosthocEMA | None = None

    def init(self, params: Params) -> tuple[Params, tuple[Params, ...]]:
        """Returns the exponential average, () for none, and the power-function ones."""
        widths = self.posthoc.widths if self.posthoc else ()
        average = jax.tree.map(jnp.copy, params) if self.decay else ()
        return average, tuple(jax.tree.map(jnp.copy, params) for _ in widths)

    def update(
        self, average: Params, profiles: tuple[Params, ...], params: Params, step: Int[Array, ""]
    ) -> tuple[Params, tuple[Params, ...]]:
        """Returns both averages after a step, from the parameters after that step."""
        if self.decay:
            average = update(average, params, self.decay, step, warmup=self.warmup)
        if self.posthoc:
            profiles = update_power(profiles, params, self.posthoc.widths, step)
        return average, profiles


def update(
    average: Params, params: Params, decay: float, step: Int[Array, ""], *, warmup: bool = True
) -> Params:
    """Returns the next exponential average.

    Args:
        average: the previous average.
        params: parameters after the step.
        decay: d in the formula, in [0, 1).
        step: number of the step, from 0.
        warmup: whether the first steps are soon forgotten.
    """
    n = step.astype(jnp.float32)
    d = jnp.minimum(decay, (1.0 + n) / (10.0 + n)) if warmup else jnp.float32(decay)
    return _towards(average, params, 1.0 - d)


def update_power(
    averages: tuple[Params, ...], params: Params, widths: Sequence[float], step: Int[Array, ""]
) -> tuple[Params, ...]:
    """Returns the next power-function averages, one per width; the arguments are `update`'s."""
    t = step.astype(jnp.float32) + 1.0
    return tuple(
        _towards(average, params, 1.0 - (1.0 - 1.0 / t) ** (exponent(width) + 1.0))
        for average, width in zip(averages, widths, strict=True)
    )


def _towards(average: Params, params: Params, share: Float[Array, ""]) -> Params:
    return jax.tree.map(lambda mean, value: mean + share * (value - mean), average, params)


def exponent(width: float) -> float:
    """Returns gamma of a width, in (0, `WIDEST`): the real root of a cubic (eq. 126 there).

    width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)).
    """
    inverse = width**-2.0
    roots = np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse])
    return float(np.max(roots[np.isreal(roots)].real))


def weights(kept: Sequence[tuple[int, float]], step: int, width: float) -> Float[np.ndarray, " n"]:
    """Returns least-squares weights of kept averages that approximate another (appendix C.3).

    Args:
        kept: number of finished steps and width of each kept average.
        step: number of finished steps of the wanted average.
        width: width of the wanted average.
    """
    times = np.asarray([time for time, _ in kept], np.float64)
    gammas = np.asarray([exponent(each) for _, each in kept], np.float64)
    products = _product(times[:, None], gammas[:, None], times, gammas)
    end, gamma = np.full_like(times, step), np.full_like(times, exponent(width))
    wanted = _product(times, gammas, end, gamma)
    return np.linalg.lstsq(products, wanted, rcond=None)[0]


def _product(
    t_a: np.ndarray, gamma_a: np.ndarray, t_b: np.ndarray, gamma_b: np.ndarray
) -> np.ndarray:
    """Returns the integral of the product of two power functions' weights over time."""
    first = np.minimum(t_a, t_b)
    total = gamma_a + gamma_b + 1.0
    # first^total / (t_a^(gamma_a + 1) t_b^(gamma_b + 1)), in factors that cannot overflow.
    share = (first / t_a) ** (gamma_a + 1.0) * (first / t_b) ** (gamma_b + 1.0) / first
    return (gamma_a + 1.0) * (gamma_b + 1.0) / total * share
