"""IBQ: index back-propagation, in which every code has a gradient in every step.

With p = softmax_k(z . e_k) and the one-hot vector h of its maximum,

    z_q = (h + p - sg(p)) E,

whose value is a row of the codebook E, and whose gradient is the gradient of the mean row p E. Shi
et al., "Scalable Image Tokenization with Index Backpropagation Quantization", arXiv:2412.02692,
algorithm 1 and eq. 5.
"""

import jax
import jax.numpy as jnp

from vqdit.masked_mean import masked_mean, mean_weights
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
    squared_error,
)
from vqdit.typing import Array, Int, Key, Named, Params, Stats


class IBQ(Quantizer):
    """One codebook, searched by inner product and trained through soft assignments.

    Attributes:
        codebook_size: number of codes K; the memory is not proportional to tokens x K.
        dim: width d.
        temperature: temperature of the distribution in the losses "entropy" and "diversity".
        shards: number of devices that share the codebook.
        weights: weights of the losses. "soft" trains z and all codes, "commitment" only z,
            "codebook" only the chosen code.
    """

    codebook_size: int = 16384
    dim: int = 256
    temperature: float = 0.01
    shards: int = 1
    weights: Named[float] = Named(
        soft=1.0, commitment=1.0, codebook=0.25, entropy=0.05, diversity=0.05
    )

    def __post_init__(self) -> None:
        require_codebook("IBQ", self.codebook_size, self.dim, self.shards)
        losses = ("soft", "commitment", "codebook", "entropy", "diversity")
        require_weights("IBQ", self.weights, losses)
        if self.temperature <= 0.0:
            raise ValueError(f"IBQ needs a temperature > 0, got {self.temperature}")

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (self.codebook_size,)

    def init(
        self, key: Key[Array, ""], z: Vectors | None = None, mask: Mask = None
    ) -> tuple[Params, Stats]:
        del z, mask
        return {"codebook": jax.random.normal(key, (self.codebook_size, self.dim), jnp.float32)}, {}

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
        del stats, key, step
        z, codebook = self.check(z), params["codebook"]
        constant = jax.lax.stop_gradient
        logits = assignment.logits(rows(z), codebook, shards=self.shards)
        codes, largest, z_q = assignment.choose(logits, codebook)
        codes, z_q = codes.reshape(z.shape[:-1]), z_q.reshape(z.shape)
        q = codebook[codes]

        sharp = logits._replace(temperature=self.temperature)
        norm = assignment.normalizer(sharp, largest / self.temperature)
        entropy = norm.entropy.reshape(z.shape[:-1])
        weight = mean_weights(mask, entropy.size)
        losses = Named(
            soft=squared_error(z_q, z, mask),
            commitment=squared_error(constant(q), z, mask),
            codebook=squared_error(q, constant(z), mask),
            entropy=masked_mean(entropy, mask),
            diversity=-assignment.entropy_of_mean(sharp, norm, weight),
        )
        return Quantized(z_q, codes[..., None], losses)

    def encode(self, params: Params, stats: Stats, z: Vectors) -> Codes:
        del stats
        logits = assignment.logits(rows(self.check(z)), params["codebook"], shards=self.shards)
        return assignment.best(logits)[0].reshape(*z.shape[:-1], 1)

    def lookup(self, params: Params, stats: Stats, codes: Codes) -> Vectors:
        del stats
        return rows_of(params["codebook"], codes[..., 0])
