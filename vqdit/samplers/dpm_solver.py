"""DPM-Solver++: multistep solvers of order 2 and 3, for the ODE or the SDE.

With h = lambda_s - lambda_t, the current estimate m_0 of x_0, the previous ones m_1 and m_2, and
the ratios r_0, r_1 of earlier step sizes to h,

    D_1 = (m_0 - m_1) / r_0,
    x_s = (sigma_s / sigma_t) x_t + alpha_s (1 - e^-h) (m_0 + D_1 / 2)                   order 2,

and order 3 computes D_1 and D_2 from all three. Lu et al., "DPM-Solver++", arXiv:2211.01095,
algorithm 2 and appendix B. For the SDE (section 5 there), h is replaced by 2 h in the factors of
x_0, and added noise compensates for the smaller factor of x_t.

In the paper and in other libraries, D_2 is half the second derivative that the formula needs, so
"3M" converges only with order 2. With the doubled value it converges with order 3.
"""

from typing import Literal

import jax.numpy as jnp

from vqdit.processes.base import Latents, Process
from vqdit.random import normal
from vqdit.samplers.base import Carry, Step
from vqdit.samplers.gaussian import GaussianSampler, gaussian, log_snr
from vqdit.samplers.multistep import History, phi
from vqdit.typing import Array, Float, Int

FEW = 15
"""With fewer steps than this number, the last steps have a lower order, which is more stable."""


class DPMSolver(GaussianSampler):
    """DPM-Solver++(2M) and (3M), and SDE-DPM-Solver++ of both orders.

    Attributes:
        steps: number of network evaluations, typically 20.
        spacing: spacing of the times.
        order: 2 or 3; 3 is recommended for sampling without guidance.
        stochastic: True solves the SDE, whose steps draw the noise of the posterior; False solves
            the ODE.
        corrected: True uses twice the published D_2; only then is the order 3. Needs order=3.
    """

    steps: int = 20
    order: Literal[2, 3] = 2
    stochastic: bool = False
    corrected: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.corrected and self.order == 2:
            raise ValueError("DPMSolver with corrected=True needs order 3, got 2; set order=3")

    def init(self, process: Process, x_1: Latents, times: Float[Array, " times"]) -> Carry:
        """Returns the carry: a history of estimates that is still empty."""
        del process
        return History.begin(x_1, times, self.order - 1)

    def step(self, step: Step) -> tuple[Latents, Carry]:
        process, x_t, t, s = gaussian(step.process), step.x_t, step.t, step.s
        history: History = step.carry
        x_0, _ = process.x_0_and_eps(step.prediction, x_t, t)
        h = log_snr(process, s) - log_snr(process, t)
        past = log_snr(process, history.times)
        gaps = jnp.append(log_snr(process, t), past[:-1]) - past
        whole = 2.0 * h if self.stochastic else h
        added = self._higher(x_0, history, whole, gaps / h, self._order_now(history, s))

        scale = process.sigma(s) / process.sigma(t)
        x_s = scale * jnp.exp(h - whole) * x_t
        x_s = x_s + process.alpha(s) * (-jnp.expm1(-whole) * x_0 + added)
        if self.stochastic:
            std = process.sigma(s) * jnp.sqrt(-jnp.expm1(-2.0 * h))
            x_s = x_s + std * normal(step.keys, x_t.shape[1:])
        return x_s, history.append(x_0, t)

    def _order_now(self, history: History, s: Float[Array, ""]) -> Int[Array, ""]:
        order = jnp.minimum(self.order, history.taken + 1)
        few = history.total < FEW
        order = jnp.where(few & (history.left == 2), jnp.minimum(order, 2), order)
        return jnp.where((s <= 0.0) | (few & (history.left == 1)), 1, order)

    def _higher(
        self,
        x_0: Latents,
        history: History,
        h: Float[Array, ""],
        ratios: Float[Array, " m"],
        order: Int[Array, ""],
    ) -> Latents:
        """Returns the contribution of the terms of order 2 and 3 to x_s / alpha_s."""
        before = history.estimates
        r_0 = jnp.where(order >= 2, ratios[0], 1.0)
        d_1 = (x_0 - before[0]) / r_0
        second = -0.5 * jnp.expm1(-h) * d_1
        second = jnp.where(order >= 2, second, 0.0)
        if self.order == 2:
            return second
        r_1 = jnp.where(order >= 3, ratios[1], 1.0)
        change = d_1 - (before[0] - before[1]) / r_1
        d_2 = change / (r_0 + r_1) * (2.0 if self.corrected else 1.0)
        d_1 = d_1 + r_0 / (r_0 + r_1) * change
        return jnp.where(order >= 3, -phi(2, -h) * d_1 - phi(3, -h) * d_2, second)
