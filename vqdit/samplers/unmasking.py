"""Unmasking: iterative parallel decoding of masked codes.

Every step draws codes for all masked positions from the network's prediction. It masks the fraction
m(s) / m(t) of these positions again, where m(t) is the expected fraction of masked codes at t, and
keeps the codes with the largest

    log p(code) + noise * t * Gumbel        (order "confidence"),

or those at the next positions in an order that does not depend on the codes: the Halton sequence
over the grid, or a random order, which is ancestral sampling that reveals exactly the expected
number of codes. Chang et al., "MaskGIT: Masked Generative Image Transformer", arXiv:2202.04200,
section 3.2; the Halton order is from Besnier et al., arXiv:2503.17076.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.processes.base import Codes
from vqdit.processes.categorical import MASK
from vqdit.random import streams
from vqdit.samplers.base import Carry, Step
from vqdit.samplers.drawing import check_drawing, draw, gumbel, tempered
from vqdit.samplers.halton import halton_order
from vqdit.samplers.masked import MaskedSampler, masked
from vqdit.typing import Array, Bool, Float, Key


class Unmasking(MaskedSampler):
    """Iterative unmasking for the Masked process.

    Attributes:
        steps: number of network evaluations; 8 to 16 are usual. More steps than positions are
            useless.
        temperature: temperature of the codes' distribution; 0 takes the most likely code.
        noise: weight of the Gumbel noise that is added to the confidence; MaskGIT uses 4.5. It is
            multiplied by t, the time at which the step starts (MaskGIT's code multiplies by the
            time at which the step ends). Larger values give more varied samples.
        top_p: in (0, 1], nucleus of the codes' distribution, see `tempered`; 1 keeps all codes.
        order: order in which positions are revealed: "confidence" (most confident codes first,
            which favours likely samples), "halton" or "random". Only the last two sample from the
            network's distribution.
        grid: grid of the positions, for the Halton order; set by the task. () means a sequence.
    """

    steps: int = 12
    temperature: float = 1.0
    noise: float = 4.5
    top_p: float = 1.0
    order: Literal["confidence", "halton", "random"] = "confidence"
    grid: tuple[int, ...] = ()

    each_codebook = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_drawing("Unmasking", self.temperature, self.top_p)
        self.require("noise >= 0", self.noise >= 0.0)

    def bind(self, grid: tuple[int, ...]) -> "Unmasking":
        return dataclasses.replace(self, grid=grid)

    def step(self, step: Step) -> tuple[Codes, Carry]:
        process, x_t, t, s = masked(step.process), step.x_t, step.t, step.s
        logits = process.logits(step.prediction, x_t.shape[-1])  # b l q k
        code_keys, order_keys = streams(step.keys, "code"), streams(step.keys, "order")
        drawn = draw(code_keys, tempered(logits, self.temperature, self.top_p))
        is_masked = x_t == MASK
        # One time for all codes of a position, or one for each codebook.
        t, s = process.code_times(t), process.code_times(s)
        first = jnp.where(is_masked, self._first(order_keys, logits, drawn, t), jnp.inf)
        share = process.mask_probability(s) / jnp.maximum(process.mask_probability(t), 1e-9)
        if len(share) == 1:
            shape = len(x_t), -1
            stays = _stay(is_masked.reshape(shape), first.reshape(shape), share[0])
        else:
            stays = jax.vmap(_stay, -1, -1)(is_masked, first, share)
        return jnp.where(is_masked & ~stays.reshape(x_t.shape), drawn, x_t), step.carry

    def _first(
        self,
        keys: Key[Array, " b"],
        logits: Float[Array, "b l q k"],
        drawn: Codes,
        t: Float[Array, " #q"],
    ) -> Float[Array, "#b l q"]:
        """Returns the priority of each code; codes with large priorities are revealed first."""
        if self.order == "halton":
            visits = halton_order(self.grid or drawn.shape[1:2])
            rank = np.argsort(visits)[:, None] * drawn.shape[2] + np.arange(drawn.shape[2])
            return -jnp.asarray(rank, jnp.float32)[None]
        noise = gumbel(keys, drawn.shape[1:])
        if self.order == "random":
            return noise
        log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), drawn[..., None], axis=-1)[..., 0]
        return log_p + self.noise * t * noise


def _stay(
    is_masked: Bool[Array, "b n"], first: Float[Array, "b n"], share: Float[Array, ""]
) -> Bool[Array, "b n"]:
    """Returns which codes stay masked: the fraction `share` of masked codes with lowest priority.

    `first` is the priority of each code.

    At least one code is revealed if the share is below 1.
    """
    left = jnp.sum(is_masked, axis=1)
    stay = jnp.minimum(jnp.round(share * left), left - (share < 1.0)).astype(jnp.int32)
    rank = jnp.argsort(jnp.argsort(first, axis=-1), axis=-1)
    return is_masked & (rank < stay[:, None])
