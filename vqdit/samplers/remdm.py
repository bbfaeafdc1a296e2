"""ReMDM: unmasking that masks again, so that mistakes can be mended and more steps help.

A code that is revealed is masked again with probability sigma, and a masked one is revealed with

    (m(t) - m(s) + sigma (1 - m(t))) / m(t),

so that at every time as many are masked as in training. sigma may be at most
min(1, m(s) / (1 - m(t))); sigma = 0 is ancestral sampling. Wang et al., "Remasking Discrete
Diffusion Models with Inference-Time Scaling", arXiv:2503.00307, section 4.1. In their ReMDM-loop
codes are masked again only while the share of masked ones is held.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from vqdit.processes.base import Process
from vqdit.processes.categorical import MASK, TINY
from vqdit.random import streams
from vqdit.samplers.base import Carry
from vqdit.samplers.drawing import check_drawing, draw, tempered
from vqdit.samplers.masked import MaskedSampler, masked
from vqdit.samplers.spacing import numbered
from vqdit.typing import Array, Bool, Float, Int, Key


class ReMDM(MaskedSampler):
    """Remasking sampling for the Masked process.

    Attributes:
        steps: number of network evaluations; the more, the more is mended.
        temperature: of the codes' distribution; 0 takes the most likely code.
        top_p: share of the probability from whose likeliest codes is drawn; 0.9 in the paper.
        variant: sigma is eta, but at most its maximum ("cap"); eta times its maximum ("rescale");
            or that, shared out among the revealed codes by the softmax of minus the probability
            that each had when it was revealed ("confidence"), which masks about `eta` codes.
        eta: in [0, 1]. 0.01 to 0.05 for "cap" and "rescale", fewer steps more; 1 for "confidence".
        start: the t from which on codes are masked again.
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
        for field in ("eta", "start"):
            if not 0.0 <= getattr(self, field) <= 1.0:
                raise ValueError(f"ReMDM needs {field} in [0, 1], got {getattr(self, field)}")

    def init(
        self, process: Process, x_1: Int[Array, "b l q"], times: Float[Array, " times"]
    ) -> Carry:
        """Keeps how probable every code was when it was revealed; what is given never wavers."""
        del process, times
        return jnp.full(x_1.shape, jnp.inf)

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
        process = masked(process)
        logits = tempered(process.logits(prediction, x_t.shape[-1]), self.temperature, self.top_p)
        is_masked = x_t == MASK
        m_t, m_s = process.mask_probability(t), process.mask_probability(s)
        sigma = jnp.where(t <= self.start, self._sigma(m_t, m_s, carry, is_masked), 0.0)
        x_s, drawn = _remask(keys, logits, x_t, m_t, m_s, sigma)
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
        """Returns the probability with which a code is masked again; of all, or of each."""
        most = _most(m_t, m_s)
        if self.variant == "cap":
            return jnp.minimum(self.eta, most)
        if self.variant == "rescale":
            return self.eta * most
        weight = jnp.where(is_masked, 0.0, jnp.exp(-confidence))  # exp(-inf) = 0: given
        total = jnp.sum(weight, axis=(1, 2), keepdims=True)
        return self.eta * most * weight / jnp.maximum(total, TINY)


class ReMDMLoop(MaskedSampler):
    """Remasking sampling for the Masked process, while the share of masked codes stays as it is.

    The clock, which falls from 1 to 0 in equal steps, has three phases: down to `loop_from` codes
    are revealed until a share `hold` is masked; down to `loop_to` it stays (but for a hundredth, as
    what stands still is not generated) while codes are masked and revealed again; then the rest is
    revealed.

    Attributes:
        steps: number of network evaluations; the more, the more is mended.
        temperature: of the codes' distribution; 0 takes the most likely code.
        top_p: share of the probability from whose likeliest codes is drawn; 0.9 in the paper.
        eta: the probability with which a code is masked again in a step of the loop; at most what
            leaves the share as it is.
        loop_from: where the loop begins; t_on in the paper.
        loop_to: where it ends; t_off.
        hold: share of masked codes in the loop: 1 - alpha(t_on) in the paper.
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
        if not 0.0 <= self.eta <= 1.0:
            raise ValueError(f"ReMDMLoop needs eta in [0, 1], got {self.eta}")
        if not 0.0 < self.loop_to < self.loop_from < 1.0:
            raise ValueError(
                "ReMDMLoop needs 0 < loop_to < loop_from < 1, got "
                f"{self.loop_to} and {self.loop_from}"
            )
        if not 0.0 < self.hold < 1.0:
            raise ValueError(f"ReMDMLoop needs hold in (0, 1), got {self.hold}")

    def times(self, process: Process, times: Float[Array, " times"]) -> Float[Array, " times"]:
        number, count = numbered(times)
        clock = jnp.asarray([0.0, self.loop_to, self.loop_from, 1.0])
        share = jnp.asarray([0.0, 0.99 * self.hold, self.hold, 1.0])
        spaced = process.time_at(jnp.interp(_clock(number, count), clock, share))
        return jnp.where((number == 0) | (number == count), times, spaced)

    def init(
        self, process: Process, x_1: Int[Array, "b l q"], times: Float[Array, " times"]
    ) -> Carry:
        """Keeps how many steps lie behind, and how many there are."""
        del process, x_1
        _, count = numbered(times)
        return jnp.zeros_like(count), count

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
        process, (number, count) = masked(process), carry
        logits = tempered(process.logits(prediction, x_t.shape[-1]), self.temperature, self.top_p)
        m_t, m_s = process.mask_probability(t), process.mask_probability(s)
        clock = _clock(number, count)
        loops = (clock <= self.loop_from) & (clock > self.loop_to)
        sigma = jnp.where(loops, jnp.minimum(self.eta, _most(m_t, m_s)), 0.0)
        x_s, _ = _remask(keys, logits, x_t, m_t, m_s, sigma)
        return x_s, (number + 1, count)


def _clock(number: Int[Array, "*b"], count: Int[Array, ""]) -> Float[Array, "*b"]:
    return 1.0 - number / jnp.maximum(count, 1)


def _most(m_t: Float[Array, ""], m_s: Float[Array, ""]) -> Float[Array, ""]:
    """Returns the largest sigma that leaves as many masked as in training."""
    return jnp.minimum(m_s / jnp.maximum(1.0 - m_t, TINY), 1.0)


def _remask(
    keys: Key[Array, " b"],
    logits: Float[Array, "b l q k"],
    x_t: Int[Array, "b l q"],
    m_t: Float[Array, ""],
    m_s: Float[Array, ""],
    sigma: Float[Array, "*b"],
) -> tuple[Int[Array, "b l q"], Int[Array, "b l q"]]:
    """Takes x from t to s, masking codes again with probability sigma; also all codes drawn."""
    drawn, is_masked = draw(streams(keys, "code"), logits), x_t == MASK
    reveal = (m_t - m_s + sigma * (1.0 - m_t)) / jnp.maximum(m_t, TINY)
    u = jax.vmap(lambda key: jax.random.uniform(key, x_t.shape[1:]))(streams(keys, "change"))
    revealed, remasked = is_masked & (u < reveal), ~is_masked & (u < sigma)
    return jnp.where(revealed, drawn, jnp.where(remasked, MASK, x_t)), drawn
