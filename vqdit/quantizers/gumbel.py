"""GumbelVQ: codes drawn from a softmax over learned logits, with Gumbel noise g.

    y = softmax((logits + g) / T),   z_q = (onehot(argmax y) + y - sg(y)) E,

with a temperature T that falls during training, and the loss KL(softmax(logits) | uniform). Jang et
al., "Categorical Reparameterization with Gumbel-Softmax", arXiv:1611.01144; as a tokenizer: Ramesh
et al., "Zero-Shot Text-to-Image Generation" (DALL-E), arXiv:2102.12092, appendix A.2.
"""

import math

import jax
import jax.numpy as jnp

from vqdit.masked_mean import masked_mean
from vqdit.quantizers import assignment
from vqdit.quantizers.base import (
    Codes,
    Mask,
    Quantized,
    Quantizer,
    Vectors,
    require_codebook,
    require_weights,
    rows,
    rows_of,
)
from vqdit.typing import Array, Float, Int, Key, Named, Params, Stats


class GumbelVQ(Quantizer):
    """One codebook; draws codes at random in training, and uses the most probable code otherwise.

    Attributes:
        codebook_size: number of codes K.
        dim: width d.
        temperature: T at the first step, and from step `anneal` on; between them, T falls as a
            cosine.
        anneal: number of steps over which T falls.
        shards: number of devices that share the codebook.
        weights: weight of the loss "uniform", the divergence of the codes' use from uniform use.
    """

    codebook_size: int = 8192
    dim: int = 256
    temperature: tuple[float, float] = (1.0, 1.0 / 16.0)
    anneal: int = 150_000
    shards: int = 1
    weights: Named[float] = Named(uniform=5e-4)

    def __post_init__(self) -> None:
        require_codebook("GumbelVQ", self.codebook_size, self.dim, self.shards)
        require_weights("GumbelVQ", self.weights, ("uniform",))
        if self.anneal < 1:
            raise ValueError(f"GumbelVQ needs anneal >= 1, got {self.anneal}")
        if len(self.temperature) != 2 or min(self.temperature) <= 0.0:
            raise ValueError(f"GumbelVQ needs two temperatures > 0, got {self.temperature}")

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (self.codebook_size,)

    def init(
        self, key: Key[Array, ""], z: Vectors | None = None, mask: Mask = None
    ) -> tuple[Params, Stats]:
        del z, mask
        k_logits, k_codes = jax.random.split(key)
        shape = self.codebook_size, self.dim
        return {
            "logits": self.dim**-0.5 * jax.random.normal(k_logits, shape, jnp.float32),
            "bias": jnp.zeros(self.codebook_size, jnp.float32),
            "codebook": jax.random.normal(k_codes, shape, jnp.float32),
        }, {}

    def quantize(
        self,
        params: Params,
        stats: Stats,
        z: Vectors,
        *,
        key: Key[Array, ""] | None = None,
        step: Int[Array, ""] | None = None,
        mask: Mask = None,
    ) -> Quantized:
        del stats
        z = self.check(z)
        plain = assignment.logits(rows(z), params["logits"], params["bias"], self.shards)
        _, largest = assignment.best(plain)
        entropy = assignment.normalizer(plain, largest).entropy.reshape(z.shape[:-1])
        divergence = math.log(self.codebook_size) - entropy
        losses = Named(uniform=masked_mean(divergence, mask))

        drawn = plain._replace(temperature=self.temperature_at(step), key=key)
        codes, _, z_q = assignment.choose(drawn, params["codebook"])
        return Quantized(z_q.reshape(z.shape), codes.reshape(*z.shape[:-1], 1), losses)

    def encode(self, params: Params, stats: Stats, z: Vectors) -> Codes:
        del stats
        z = self.check(z)
        plain = assignment.logits(rows(z), params["logits"], params["bias"], self.shards)
        codes, _ = assignment.best(plain._replace(temperature=self.temperature_at(None)))
        return codes.reshape(*z.shape[:-1], 1)

    def lookup(self, params: Params, stats: Stats, codes: Codes) -> Vectors:
        del stats
        return rows_of(params["codebook"], codes[..., 0])

    def temperature_at(self, step: Int[Array, ""] | None) -> Float[Array, ""]:
        """Returns T at a step; None means after the last step."""
        first, last = self.temperature
        if step is None:
            return jnp.float32(last)
        share = jnp.clip(step / self.anneal, 0.0, 1.0)
        return last + (first - last) * 0.5 * (1.0 + jnp.cos(jnp.pi * share))
