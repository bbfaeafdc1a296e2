"""Heun: second-order steps along the probability-flow ODE, with two network evaluations each.

A step makes an Euler step to s, evaluates the network there, and repeats the step with the mean of
both slopes (see `ode.py`). The step to s = 0 is an Euler step, as there is no noise at s. Karras et
al., "Elucidating the Design Space of Diffusion-Based Generative Models", arXiv:2206.00364,
algorithm 1.
"""

import jax.numpy as jnp

from vqdit.processes.base import Latents, Prediction, Process
from vqdit.samplers.base import Carry, Step
from vqdit.samplers.gaussian import GaussianSampler, gaussian
from vqdit.samplers.ode import along, slope
from vqdit.typing import Array, Float


class Heun(GaussianSampler):
    """Heun's method: two network evaluations in every step except the last.

    Attributes:
        steps: number of steps; 20 is usual.
        spacing: spacing of the times.
    """

    steps: int = 20

    @property
    def evaluations(self) -> int:
        return 2

    def init(self, process: Process, x_1: Latents, times: Float[Array, " times"]) -> Carry:
        """Returns the carry, which holds the slope at t from the first step on; initially 0."""
        del process, times
        return jnp.zeros_like(x_1)

    def step(self, step: Step) -> tuple[Latents, Carry]:
        process = gaussian(step.process)
        direction = slope(process, step.prediction, step.x_t, step.t)
        return along(process, step.x_t, direction, step.t, step.s), direction

    def correct(
        self, step: Step, x_s: Latents, prediction_at_s: Prediction
    ) -> tuple[Latents, Carry]:
        process = gaussian(step.process)
        mean = 0.5 * (step.carry + slope(process, prediction_at_s, x_s, step.s))
        return along(process, step.x_t, mean, step.t, step.s), step.carry
