"""Ancestral sampling of codes: every code is drawn from p(x_s | x_t), each by itself.

With the network's belief in x_0 it is the reverse of the process itself, so that with many steps
the samples have the network's own distribution; with few, codes that change at once do not know
of each other. Austin et al., "Structured Denoising Diffusion Models in Discrete State-Spaces"
(D3PM), arXiv:2107.03006.
"""

import jax.numpy as jnp

from vqdit.processes.base import Process
from vqdit.processes.categorical import MASK, Categorical
from vqdit.samplers.base import Carry, Sampler
from vqdit.samplers.drawing import check_drawing, draw, tempered
from vqdit.typing import Array, Float, Int, Key


class DiscreteAncestral(Sampler):
    """Ancestral sampling for every process over codes.

    Attributes:
        steps: number of network evaluations; 64 and more are usual.
        temperature: of the belief in x_0; 0 takes the most likely code. When a code changes stays
            as random as it is.
        top_p: share of the belief from whose likeliest codes is drawn; 1 is all.
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
                f"DiscreteAncestral draws codes, got the process {type(process).__name__}; "
                "use Euler for latents"
            )

    def step(
        self,
        keys: Key[Array, " b"],
        process: Process,
        prediction: Float[Array, "b l w"],
        x_t: Int[Array, "b l q"],
        t: Float[Array, ""],
        s: Float[Array, ""],
        carry: Carry,
    ) -> tuple[Int[Array, "b l q"], Carry]:
        if not isinstance(process, Categorical):
            raise TypeError(f"DiscreteAncestral draws codes, got {type(process).__name__}")
        logits = process.logits(prediction, x_t.shape[-1])
        belief = tempered(logits, self.temperature, self.top_p)
        shape = (x_t.shape[0], 1, 1)
        p = process.posterior(belief, x_t, jnp.full(shape, t), jnp.full(shape, s))
        drawn = draw(keys, jnp.log(p))
        return jnp.where(drawn == logits.shape[-1], MASK, drawn), carry
