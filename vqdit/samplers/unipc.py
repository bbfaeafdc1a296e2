"""UniPC: a multistep predictor, and a corrector without additional network evaluations.

With the estimate m_0 of x_0 at t, the estimates m_k at other times, h = lambda_s - lambda_t, and
r_k = (lambda_k - lambda_t) / h,

    x_s = (sigma_s / sigma_t) x_t + alpha_s (1 - e^-h) (m_0 + sum_k w_k (m_k - m_0) / r_k),

with weights for which the step is exact for polynomials. The predictor uses earlier times. After
the network's evaluation at s, the corrector repeats the step, now also with the new estimate, and
the next step starts from its result. Zhao et al., "UniPC", arXiv:2302.04867, with B(h) = B_2(h) =
e^h - 1.
"""

import math
from typing import Literal, NamedTuple

import jax.numpy as jnp

from vqdit.processes.base import Latents, Process
from vqdit.processes.gaussian import Gaussian
from vqdit.samplers.base import Carry, Step
from vqdit.samplers.gaussian import GaussianSampler, gaussian, log_snr
from vqdit.samplers.multistep import History, phi
from vqdit.typing import Array, Float, Int


class Progress(NamedTuple):
    """The carry of UniPC.

    Attributes:
        history: the estimates of earlier steps.
        x: the x from which the last step started.
        order: the order of the last predictor step.
    """

    history: History
    x: Latents
    order: Int[Array, ""]


class UniPC(GaussianSampler):
    """UniPC-2 and UniPC-3.

    Attributes:
        steps: number of network evaluations; 10 to 20 are usual.
        spacing: spacing of the times.
        order: 2 or 3; 3 is recommended for sampling without guidance.
    """

    steps: int = 20
    order: Literal[2, 3] = 2

    def init(self, process: Process, x_1: Latents, times: Float[Array, " times"]) -> Carry:
        del process
        return Progress(History.begin(x_1, times, self.order), x_1, jnp.int32(0))

    def step(self, step: Step) -> tuple[Latents, Carry]:
        process, carry, t, s = gaussian(step.process), step.carry, step.t, step.s
        history = carry.history
        x_0, _ = process.x_0_and_eps(step.prediction, step.x_t, t)

        other = jnp.concatenate([x_0[None], history.estimates[1:]])
        times = jnp.concatenate([t[None], history.times[1:]])
        now = history.times[0], t
        corrected = _move(
            process, carry.x, history.estimates[0], *now, other, times, used=carry.order
        )
        x_t = jnp.where(history.taken > 0, corrected, step.x_t)

        order = jnp.minimum(jnp.minimum(self.order, history.taken + 1), history.left)
        before = history.estimates[:-1], history.times[:-1]
        x_s = _move(process, x_t, x_0, t, s, *before, used=order - 1)
        return x_s, Progress(history.append(x_0, t), x_t, order)


def _move(
    process: Gaussian,
    x_t: Latents,
    x_0: Latents,
    t: Float[Array, ""],
    s: Float[Array, ""],
    other: Float[Array, "m b l d"],
    times: Float[Array, " m"],
    *,
    used: Int[Array, ""],
) -> Latents:
    """Returns x_s from the estimate at t and the estimates at the first `used` other times."""
    start, h = log_snr(process, t), log_snr(process, s) - log_snr(process, t)
    is_used = jnp.arange(len(times)) < used
    ratios = jnp.where(is_used, (log_snr(process, times) - start) / h, 1.0)
    weights = jnp.where(is_used, _weights(ratios, h, used) / ratios, 0.0)
    mean = x_0 + jnp.einsum("m,mbld->bld", weights, other - x_0)
    return process.sigma(s) / process.sigma(t) * x_t - process.alpha(s) * jnp.expm1(-h) * mean


def _weights(
    ratios: Float[Array, " m"], h: Float[Array, ""], used: Int[Array, ""]
) -> Float[Array, " m"]:
    """Returns the weights w_k of the first `used` differences; the other weights are 0."""
    size = len(ratios)
    is_used = jnp.arange(size) < used
    rows = jnp.stack([ratios**power for power in range(size)])
    rows = jnp.where(is_used[:, None] & is_used, rows, jnp.eye(size, dtype=jnp.float32))
    right = jnp.stack([math.factorial(n) * phi(n + 1, -h) for n in range(1, size + 1)])
    right = jnp.where(is_used, right / jnp.expm1(-h), 0.0)
    # A single difference has the weight 1/2, as published, which is exact as h goes to 0.
    return jnp.where(used == 1, 0.5 * is_used, jnp.linalg.solve(rows, right))
