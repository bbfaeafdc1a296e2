"""ReMDM: unmasking that also remasks codes, so that more steps can correct mistakes.

A revealed code is masked again with probability sigma, and a masked one is revealed with

    (m(t) - m(s) + sigma (1 - m(t))) / m(t),

so that the expected fraction m(t) of masked codes is the same as in training at every time t. sigma
is at most min(1, m(s) / (1 - m(t))); sigma = 0 is ancestral sampling. Wang et al., "Remasking
Discrete Diffusion Models with Inference-Time Scaling", arXiv:2503.00307, section 4.1. Their
ReMDM-loop remasks codes only in a phase with a constant fraction of masked codes.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from vqdit.processes.base import Codes, Process
from vqdit.processes.categorical import MASK, TINY
from vqdit.random import streams
from vqdit.samplers.base import Carry, Step
from vqdit.samplers.drawing import check_drawing, draw, tempered
from vqdit.samplers.masked import MaskedSampler, masked
from vqdit.samplers.spacing import numbered
from vqdit.typing import Array, Bool, Float, Int, Key


class ReMDM(MaskedSampler):
    """Remasking sampling for the Masked process.

    Attributes:
        steps: number of network evaluations; more steps correct more mistakes.
        temperature: temperature of the codes' distribution; 0 uses the most likely code.
        top_p: nucleus of the codes' distribution, see `tempered`; 0.9 in the paper.
        variant: "cap": sigma is eta, limited by the maximum of sigma. "rescale": sigma is eta times
            this maximum. "confidence": as "rescale", but distributed over the revealed codes by the
            softmax of -p, where p is the probability with which a code was revealed; this remasks
            about eta codes.
        eta: in [0, 1]; usual values are 0.01 to 0.05 for "cap" and "rescale" (more for fewer
            steps), and 1 for "confidence".
        start: codes are remasked only at t <= `start`.
    """

    steps: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    variant: Literal["cap", "rescale", "confidence"] = "cap"
    eta: float = 0.02
    start: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_drawing("ReMDM", self.temperature, self.top_p)
        self.require("eta in [0, 1]", 0.0 <= self.eta <= 1.0)
        self.require("start in [0, 1]", 0.0 <= self.start <= 1.0)

    def init(self, process: Process, x_1: Codes, times: Float[Array, " times"]) -> Carry:
        """Returns the carry: each code's probability when it was revealed; inf for given codes."""
        del process, times
        return jnp.full(x_1.shape, jnp.inf, jnp.float32)

    def step(self, step: Step) -> tuple[Codes, Carry]:
        process, x_t, carry = masked(step.process), step.x_t, step.carry
        logits = process.logits(step.prediction, x_t.shape[-1])
        logits = tempered(logits, self.temperature, self.top_p)
        is_masked = x_t == MASK
        m_t, m_s = process.mask_probability(step.t), process.mask_probability(step.s)
        sigma = jnp.where(step.t <= self.start, self._sigma(m_t, m_s, carry, is_masked), 0.0)
        x_s, drawn = _remask(step.keys, logits, x_t, m_t, m_s, sigma)
        p = jnp.take_along_axis(jax.nn.softmax(logits), drawn[..., None], axis=-1)[..., 0]
        revealed, remasked = is_masked & (x_s != MASK), ~is_masked & (x_s == MASK)
        return x_s, jnp.where(revealed, p, jnp.where(remasked, jnp.inf, carry))

    def _sigma(
        self,
        m_t: Float[Array, ""],
        m_s: Float[Array, ""],
        confidence: Float[Array, "b l q"],
        is_masked: Bool[Array, "b l q"],
    ) -> Float[Array, "*b"]:
        """Returns the probability sigma of remasking: one number for all codes, or one per code."""
        most = _most(m_t, m_s)
        if self.variant == "cap":
            return jnp.minimum(self.eta, most)
        if self.variant == "rescale":
            return self.eta * most
        weight = jnp.where(is_masked, 0.0, jnp.exp(-confidence))  # exp(-inf) = 0: given
        total = jnp.sum(weight, axis=(1, 2), keepdims=True)
        return self.eta * most * weight / jnp.maximum(total, TINY)


class ReMDMLoop(MaskedSampler):
    """Remasking sampling for the Masked process, in a loop with a constant fraction of masks.

    A clock falls from 1 to 0 in equal steps. Before it reaches `loop_from`, codes are revealed
    until only the fraction `hold` is masked. From `loop_from` to `loop_to`, codes are remasked and
    revealed at this fraction. (The fraction falls by 1 % in the loop, because `generate` changes a
    modality only while its time falls.) After `loop_to`, the remaining codes are revealed.

    Attributes:
        steps: number of network evaluations; more steps correct more mistakes.
        temperature: temperature of the codes' distribution; 0 takes the most likely code.
        top_p: nucleus of the codes' distribution, see `tempered`; 0.9 in the paper.
        eta: in [0, 1], probability with which a code is remasked in a step of the loop, limited by
            the maximum of sigma.
        loop_from: clock value at which the loop begins; t_on in the paper.
        loop_to: clock value at which the loop ends; t_off in the paper.
        hold: fraction of masked codes in the loop; 1 - alpha(t_on) in the paper.
    """

    steps: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    eta: float = 0.02
    loop_from: float = 0.55
    loop_to: float = 0.05
    hold: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_drawing("ReMDMLoop", self.temperature, self.top_p)
        self.require("eta in [0, 1]", 0.0 <= self.eta <= 1.0)
        if not 0.0 < self.loop_to < self.loop_from < 1.0:
            raise ValueError(
                "ReMDMLoop needs 0 < loop_to < loop_from < 1, got "
                f"{self.loop_to} and {self.loop_from}"
            )
        self.require("hold in (0, 1)", 0.0 < self.hold < 1.0)

    def times(self, process: Process, times: Float[Array, " times"]) -> Float[Array, " times"]:
        number, count = numbered(times)
        clock = jnp.asarray([0.0, self.loop_to, self.loop_from, 1.0])
        share = jnp.asarray([0.0, 0.99 * self.hold, self.hold, 1.0])
        spaced = process.time_at(jnp.interp(_clock(number, count), clock, share))
        return jnp.where((number == 0) | (number == count), times, spaced)

    def init(self, process: Process, x_1: Codes, times: Float[Array, " times"]) -> Carry:
        """Returns the carry: the number of steps taken, and the total number of steps."""
        del process, x_1
        _, count = numbered(times)
        return jnp.zeros_like(count), count

    def step(self, step: Step) -> tuple[Codes, Carry]:
        process, (number, count) = masked(step.process), step.carry
        logits = process.logits(step.prediction, step.x_t.shape[-1])
        logits = tempered(logits, self.temperature, self.top_p)
        m_t, m_s = process.mask_probability(step.t), process.mask_probability(step.s)
        clock = _clock(number, count)
        loops = (clock <= self.loop_from) & (clock > self.loop_to)
        sigma = jnp.where(loops, jnp.minimum(self.eta, _most(m_t, m_s)), 0.0)
        x_s, _ = _remask(step.keys, logits, step.x_t, m_t, m_s, sigma)
        return x_s, (number + 1, count)


def _clock(number: Int[Array, "*b"], count: Int[Array, ""]) -> Float[Array, "*b"]:
    return 1.0 - number / jnp.maximum(count, 1)


def _most(m_t: Float[Array, ""], m_s: Float[Array, ""]) -> Float[Array, ""]:
    """Returns the maximum of sigma, min(1, m(s) / (1 - m(t)))."""
    return jnp.minimum(m_s / jnp.maximum(1.0 - m_t, TINY), 1.0)


def _remask(
    keys: Key[Array, " b"],
    logits: Float[Array, "b l q k"],
    x_t: Codes,
    m_t: Float[Array, ""],
    m_s: Float[Array, ""],
    sigma: Float[Array, "*b"],
) -> tuple[Codes, Codes]:
    """Remasks codes with probability sigma; returns x_s, and the codes drawn for all positions."""
    drawn, is_masked = draw(streams(keys, "code"), logits), x_t == MASK
    reveal = (m_t - m_s + sigma * (1.0 - m_t)) / jnp.maximum(m_t, TINY)
    u = jax.vmap(lambda key: jax.random.uniform(key, x_t.shape[1:], jnp.float32))(
        streams(keys, "change")
    )
    revealed, remasked = is_masked & (u < reveal), ~is_masked & (u < sigma)
    return jnp.where(revealed, drawn, jnp.where(remasked, MASK, x_t)), drawn
