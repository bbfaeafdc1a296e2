"""Moving averages of parameters: exponential ones, and power functions chosen after training.

The exponential average at step n is

    theta' <- d theta' + (1 - d) theta,      d = min(decay, (1 + n) / (10 + n)),

so the weight of the first steps, whose parameters are far from the final ones, vanishes quickly.
Without this warm-up, d = decay in all steps.

A power-function average with exponent gamma weights the parameters of step tau by (tau / t)^gamma:

    theta' <- b_t theta' + (1 - b_t) theta,  b_t = (1 - 1 / t)^(gamma + 1).

A least-squares combination of two such averages, saved at some steps of training, approximates an
average of almost any other width, so the width can be chosen after training. Karras et al.,
"Analyzing and Improving the Training Dynamics of Diffusion Models" (EDM2), arXiv:2312.02696,
section 3 and appendix C.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.typing import Array, Component, Float, Int, Params

WIDEST = 0.28
"""Upper bound of widths, just below 1 / sqrt(12), the width of gamma = 0 (the mean of all
steps).
"""


class PosthocEMA(Component):
    """Averages from which `vqdit average` computes an average of any width after training.

    Attributes:
        widths: standard deviations of the two averages, as fractions of the number of steps.
        every: number of steps between saves; each save needs twice the disk space of the
            parameters.
    """

    widths: tuple[float, float] = (0.05, 0.10)
    every: int = 5000

    def __post_init__(self) -> None:
        rule, (low, high) = f"widths to be two increasing numbers in (0, {WIDEST})", self.widths
        self.require(rule, 0.0 < low < high < WIDEST, "(0.05, 0.1) is usual")
        self.require("every >= 1", self.every >= 1)


class Averaging(Component):
    """The moving averages of the parameters that training computes.

    Attributes:
        decay: decay of the exponential average for evaluation and sampling; 0 disables it.
        warmup: True begins with a smaller decay, which increases to `decay`, so that the average
            soon forgets the first steps.
        posthoc: power-function averages that are saved; None computes none.
    """

    decay: float = 0.0
    warmup: bool = True
    posthoc: PosthocEMA | None = None

    def __post_init__(self) -> None:
        self.require("decay in [0, 1)", 0.0 <= self.decay < 1.0)

    def init(self, params: Params) -> tuple[Params, tuple[Params, ...]]:
        """Returns the initial exponential average (() for none) and power-function averages."""
        widths = self.posthoc.widths if self.posthoc else ()
        average = jax.tree.map(jnp.copy, params) if self.decay else ()
        return average, tuple(jax.tree.map(jnp.copy, params) for _ in widths)

    def update(
        self, average: Params, profiles: tuple[Params, ...], params: Params, step: Int[Array, ""]
    ) -> tuple[Params, tuple[Params, ...]]:
        """Returns the exponential and the power-function averages after a step.

        Args:
            average: the exponential average before the step.
            profiles: the power-function averages before the step.
            params: parameters after the step.
            step: index of the step, from 0.
        """
        if self.decay:
            average = update(average, params, self.decay, step, warmup=self.warmup)
        if self.posthoc:
            profiles = update_power(profiles, params, self.posthoc.widths, step)
        return average, profiles


def update(
    average: Params, params: Params, decay: float, step: Int[Array, ""], *, warmup: bool = True
) -> Params:
    """Returns the exponential average after a step.

    Args:
        average: the average before the step.
        params: parameters after the step.
        decay: decay of the average in [0, 1).
        step: index of the step, from 0.
        warmup: whether the decay is smaller in the first steps; see the module.
    """
    n = step.astype(jnp.float32)
    d = jnp.minimum(decay, (1.0 + n) / (10.0 + n)) if warmup else jnp.float32(decay)
    return _towards(average, params, 1.0 - d)


def update_power(
    averages: tuple[Params, ...], params: Params, widths: Sequence[float], step: Int[Array, ""]
) -> tuple[Params, ...]:
    """Returns the power-function averages after a step, one per width.

    Args:
        averages: the averages before the step, one per width.
        params: parameters after the step.
        widths: widths of the averages, as fractions of the steps.
        step: index of the step, from 0.
    """
    t = step.astype(jnp.float32) + 1.0
    return tuple(
        _towards(average, params, 1.0 - (1.0 - 1.0 / t) ** (exponent(width) + 1.0))
        for average, width in zip(averages, widths, strict=True)
    )


def _towards(average: Params, params: Params, share: Float[Array, ""]) -> Params:
    return jax.tree.map(lambda mean, value: mean + share * (value - mean), average, params)


def exponent(width: float) -> float:
    """Returns the gamma of a width in (0, `WIDEST`), the real root of a cubic (EDM2, eq. 126).

    width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)).
    """
    inverse = width**-2.0
    roots = np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse])
    return float(np.max(roots[np.isreal(roots)].real))


def weights(kept: Sequence[tuple[int, float]], step: int, width: float) -> Float[np.ndarray, " n"]:
    """Returns least-squares weights of saved averages that approximate another average.

    EDM2, appendix C.3.

    Args:
        kept: number of finished steps and width of each saved average.
        step: number of finished steps of the approximated average.
        width: width of the approximated average.
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
    """Returns the integral over time of the product of the weight functions of two averages."""
    first = np.minimum(t_a, t_b)
    total = gamma_a + gamma_b + 1.0
    # first^total / (t_a^(gamma_a + 1) t_b^(gamma_b + 1)), in factors that cannot overflow.
    share = (first / t_a) ** (gamma_a + 1.0) * (first / t_b) ** (gamma_b + 1.0) / first
    return (gamma_a + 1.0) * (gamma_b + 1.0) / total * share
