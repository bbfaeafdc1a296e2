"""Unmasking: iterative parallel decoding of masked codes, the most confident first.

At every step all masked positions are drawn from the network's prediction; those with the largest

    log p(code) + noise * t * Gumbel

are kept, so many that a share m(s) / m(t) of the masked ones stays masked. With infinite noise
the order is random, which is ancestral sampling. Chang et al., "MaskGIT: Masked Generative Image
Transformer", arXiv:2202.04200, section 3.2.
"""

import jax
import jax.numpy as jnp

from vqdit.processes.base import Process
from vqdit.processes.masked import MASK, Masked
from vqdit.random import streams
from vqdit.samplers.base import Carry, Sampler
from vqdit.typing import Array, Bool, Float, Int, Key


class Unmasking(Sampler):
    """Iterative unmasking for the Masked process.

    Attributes:
        steps: number of network evaluations; 8 to 16 are usual, more than positions is a waste.
        temperature: of the codes' distribution; 0 takes the most likely code.
        noise: weight of the Gumbel noise on the confidence, annealed linearly to 0: larger is
            more varied, smaller more confident. 4.5 in MaskGIT.
    """

    steps: int = 12
    temperature: float = 1.0
    noise: float = 4.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature < 0.0:
            raise ValueError(f"Unmasking needs temperature >= 0, got {self.temperature}")
        if self.noise < 0.0:
            raise ValueError(f"Unmasking needs noise >= 0, got {self.noise}")

    def check(self, process: Process) -> None:
        if not isinstance(process, Masked):
            raise ValueError(
                f"Unmasking decodes the Masked process, got {type(process).__name__}; "
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
        known: Bool[Array, "b l"] | None,
    ) -> tuple[Int[Array, "b l q"], Carry]:
        if not isinstance(process, Masked):
            raise TypeError(f"Unmasking decodes the Masked process, got {type(process).__name__}")
        del known  # a known position carries its code, so it is not masked
        logits = process.logits(prediction, x_t.shape[-1])  # b l q k
        code_keys, order_keys = streams(keys, "code"), streams(keys, "order")
        drawn = self._draw(code_keys, logits)
        log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), drawn[..., None], axis=-1)[..., 0]

        is_masked = x_t == MASK
        gumbel = jax.vmap(lambda key: jax.random.gumbel(key, x_t.shape[1:], mode="high"))(
            order_keys
        )
        confidence = jnp.where(is_masked, log_p + self.noise * t * gumbel, jnp.inf)

        # How many stay masked: their expected share, and at least one is revealed at every step.
        flat = confidence.reshape(x_t.shape[0], -1)
        masked = jnp.sum(is_masked, axis=(1, 2))
        share = process.mask_probability(s) / process.mask_probability(t)
        stay = jnp.minimum(jnp.round(share * masked), masked - 1).astype(jnp.int32)
        rank = jnp.argsort(jnp.argsort(flat, axis=-1), axis=-1).reshape(x_t.shape)
        stays = is_masked & (rank < stay[:, None, None])
        return jnp.where(is_masked & ~stays, drawn, x_t), carry

    def _draw(self, keys: Key[Array, " b"], logits: Float[Array, "b l q k"]) -> Int[Array, "b l q"]:
        if self.temperature == 0.0:
            return jnp.argmax(logits, axis=-1).astype(jnp.int32)
        # Gumbel noise of full float32 range: the short one lowers the effective temperature.
        gumbel = jax.vmap(lambda key: jax.random.gumbel(key, logits.shape[1:], mode="high"))(keys)
        return jnp.argmax(logits / self.temperature + gumbel, axis=-1).astype(jnp.int32)
