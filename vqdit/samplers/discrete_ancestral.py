"""Ancestral sampling of codes: every code is drawn from p(x_s | x_t), independently of the others.

This is the exact reverse process for the network's distribution of x_0, so with many steps the
samples follow the network's distribution. With few steps, codes that change in the same step are
not consistent with one another. Austin et al., "Structured Denoising Diffusion Models in Discrete
State-Spaces" (D3PM), arXiv:2107.03006.
"""

import jax.numpy as jnp

from vqdit.processes.base import Codes, Process
from vqdit.processes.categorical import MASK, Categorical
from vqdit.samplers.base import Carry, Sampler, Step
from vqdit.samplers.drawing import check_drawing, draw, tempered


class DiscreteAncestral(Sampler):
    """Ancestral sampling for every process over codes.

    Attributes:
        steps: number of network evaluations; 64 or more are usual.
        temperature: temperature of the network's distribution of x_0; 0 uses the most likely code,
            but the times at which codes change are still random.
        top_p: codes are drawn from the most likely codes that together have this probability; 1
            keeps all codes.
    """

    steps: int = 64
    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_drawing("DiscreteAncestral", self.temperature, self.top_p)

    def check(self, process: Process) -> None:
        if not isinstance(process, Categorical):
            raise ValueError(
                f"DiscreteAncestral needs a process over codes, got {type(process).__name__}; use "
                "Euler for latents"
            )

    def step(self, step: Step) -> tuple[Codes, Carry]:
        process, x_t = step.process, step.x_t
        if not isinstance(process, Categorical):
            raise TypeError(
                f"DiscreteAncestral needs a process over codes, got {type(process).__name__}; use "
                "Euler for latents"
            )
        logits = process.logits(step.prediction, x_t.shape[-1])
        belief = tempered(logits, self.temperature, self.top_p)
        shape = (x_t.shape[0], 1, 1)
        p = process.posterior(
            belief, x_t, jnp.full(shape, step.t, jnp.float32), jnp.full(shape, step.s, jnp.float32)
        )
        drawn = draw(step.keys, jnp.log(p))
        return jnp.where(drawn == logits.shape[-1], MASK, drawn), step.carry
