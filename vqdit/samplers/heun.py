"""Heun: second-order steps along the probability-flow ODE, with two looks of the network.

An Euler step to s, a second look there, and the same step again with the mean of both slopes (see
`ode.py`). The step to s = 0 is Euler's: there is no noise left to look at. Karras et al.,
"Elucidating the Design Space of Diffusion-Based Generative Models", arXiv:2206.00364, algorithm 1.
"""

import jax.numpy as jnp

from vqdit.processes.base import Process
from vqdit.samplers.base import Carry
from vqdit.samplers.gaussian import GaussianSampler, gaussian
from vqdit.samplers.ode import along, slope
from vqdit.typing import Array, Float, Key


class Heun(GaussianSampler):
    """Heun's method: two network evaluations in every step but the last.

    Attributes:
        steps: number of steps; 20 is usual.
        spacing: where they lie.
    """

    steps: int = 20

    @property
    def evaluations(self) -> int:
        return 2

    def init(
        self, process: Process, x_1: Float[Array, "b l d"], times: Float[Array, " times"]
    ) -> Carry:
        """Keeps the slope at t."""
        del process, times
        return jnp.zeros_like(x_1)

    def step(
        self,
        keys: Key[Array, " b"],
        process: Process,
        prediction: Float[Array, "b l w"],
        x_t: Float[Array, "b l d"],
        t: Float[Array, ""],
        s: Float[Array, ""],
        carry: Carry,
    ) -> tuple[Float[Array, "b l d"], Carry]:
        del keys, carry
        process = gaussian(process)
        direction = slope(process, prediction, x_t, t)
        return along(process, x_t, direction, t, s), direction

    def correct(
        self,
        keys: Key[Array, " b"],
        process: Process,
        prediction_at_s: Float[Array, "b l w"],
        x_s: Float[Array, "b l d"],
        x_t: Float[Array, "b l d"],
        t: Float[Array, ""],
        s: Float[Array, ""],
        carry: Carry,
    ) -> tuple[Float[Array, "b l d"], Carry]:
        del keys
        process = gaussian(process)
        mean = 0.5 * (carry + slope(process, prediction_at_s, x_s, s))
        return along(process, x_t, mean, t, s), carry
