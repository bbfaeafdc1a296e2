"""LFQ and BSQ: one bit per dimension, the sign of z; the bits are the digits of the code.

    LFQ: z_q = sign(z)                       Yu et al., "MAGVIT-v2", arXiv:2310.05737
    BSQ: z_q = sign(z) / sqrt(d), |z| = 1    Zhao et al., "BSQ", arXiv:2406.07548

Both need an entropy loss, E_t H(p_t) - H(E_t p_t), with p_t = softmax over codes c of 2 z_t.c / T.
This loss makes the assignment of each token certain, and the use of the codes uniform. The softmax
over 2^d codes is a product over bits with logits 4 z_i c_i / T, so the first term is a sum over
bits. The second term is computed for groups of bits and summed, which is exact for a single group.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.masked_mean import masked_mean, mean_weights
from vqdit.quantizers.base import (
    Codes,
    Mask,
    Quantized,
    Quantizer,
    Vectors,
    require_size,
    require_weights,
    rows,
    squared_error,
    zero_without_code,
)
from vqdit.quantizers.gradients import straight_through, unit
from vqdit.typing import Array, Float, Int, Key, Named, Params, Stats


class LFQ(Quantizer):
    """Look-up-free quantization to the signs of z.

    Attributes:
        bits: width of z, and bits of a code; the first dimension is the most significant bit.
        temperature: T of the entropy loss.
        entropy_group: number of bits per group in the entropy of the mean distribution. The memory
            is proportional to tokens x 2^entropy_group.
        weights: weights of the losses.
    """

    bits: int = 10
    temperature: float = 0.01
    entropy_group: int = 9
    weights: Named[float] = Named(commitment=0.25, entropy=0.1, diversity=0.1)

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not 1 <= self.bits <= 30:
            raise ValueError(
                f"{name} needs 1 to 30 bits, got {self.bits}: codes are int32; use GroupedVQ, "
                "which has separate codes for groups of channels"
            )
        require_size(name, 2**self.bits, f"bits={self.bits}")
        require_weights(name, self.weights, self.losses)
        if self.temperature <= 0.0:
            raise ValueError(f"{name} needs a temperature > 0, got {self.temperature}")
        if not 1 <= self.entropy_group <= 20:
            raise ValueError(f"{name} needs entropy_group in 1 to 20, got {self.entropy_group}")

    @property
    def dim(self) -> int:
        return self.bits

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (2**self.bits,)

    @property
    def residual_scale(self) -> tuple[float, ...]:
        return (0.5,)

    @property
    def size(self) -> float:
        """Absolute value of each element of a code vector."""
        return 1.0

    @property
    def losses(self) -> tuple[str, ...]:
        """Names of the losses."""
        return ("commitment", "entropy", "diversity")

    def init(
        self, key: Key[Array, ""], z: Vectors | None = None, mask: Mask = None
    ) -> tuple[Params, Stats]:
        del key, z, mask
        return {}, {}

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
        del params, stats, key, step
        z = self._normalize(self.check(z))
        q = jnp.where(z > 0, self.size, -self.size).astype(jnp.float32)
        logits = (4.0 * self.size / self.temperature) * z
        losses = {
            "commitment": squared_error(z, q, mask),
            "entropy": masked_mean(jnp.sum(_bit_entropy(logits), axis=-1), mask),
            "diversity": -self._entropy_of_mean(logits, mask),
        }
        losses = Named({name: losses[name] for name in self.losses})
        return Quantized(straight_through(z, q), self._codes(z), losses)

    def encode(self, params: Params, stats: Stats, z: Vectors) -> Codes:
        del params, stats
        return self._codes(self._normalize(self.check(z)))

    def lookup(self, params: Params, stats: Stats, codes: Codes) -> Vectors:
        del params, stats
        bits = jnp.maximum(codes, 0) // self._basis % 2 == 1
        q = jnp.where(bits, self.size, -self.size).astype(jnp.float32)
        return zero_without_code(q, codes[..., 0] >= 0)

    def _normalize(self, z: Vectors) -> Vectors:
        return z

    def _codes(self, z: Vectors) -> Codes:
        return jnp.sum(jnp.where(z > 0, self._basis, 0), axis=-1, dtype=jnp.int32)[..., None]

    @property
    def _basis(self) -> np.ndarray:
        """Place value of each bit in the code."""
        return 2 ** np.arange(self.bits - 1, -1, -1, dtype=np.int32)

    def _entropy_of_mean(self, logits: Vectors, mask: Mask) -> Float[Array, ""]:
        logits = rows(logits)
        weight = mean_weights(mask, len(logits))
        groups = np.array_split(np.arange(self.bits), math.ceil(self.bits / self.entropy_group))
        return sum(
            (_group_entropy(logits[:, group], weight) for group in groups),
            jnp.zeros((), jnp.float32),
        )


class BSQ(LFQ):
    """Binary spherical quantization: LFQ on the unit sphere, which needs no commitment loss.

    Attributes:
        bits: width of z, and bits of a code.
        temperature: T of the entropy loss.
        entropy_group: as in `LFQ`.
        weights: weights of the losses.
    """

    temperature: float = 1.0
    weights: Named[float] = Named(entropy=0.1, diversity=0.1)

    @property
    def size(self) -> float:
        return self.bits**-0.5

    @property
    def losses(self) -> tuple[str, ...]:
        return ("entropy", "diversity")

    def _normalize(self, z: Vectors) -> Vectors:
        return unit(z)


def _bit_entropy(logits: Vectors) -> Vectors:
    """Returns the entropy in nats of a bit that is 1 with probability sigmoid(logit)."""
    return jax.nn.softplus(logits) - logits * jax.nn.sigmoid(logits)


def _group_entropy(logits: Float[Array, "n g"], weight: Float[Array, " n"]) -> Float[Array, ""]:
    """Returns the entropy in nats of the distribution over 2^g codes, averaged over tokens."""
    g = logits.shape[-1]
    bits = (np.arange(2**g)[:, None] >> np.arange(g)) & 1  # 2^g g
    one, zero = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    highest = jax.lax.Precision.HIGHEST
    log_p = jnp.matmul(one, bits.T.astype(np.float32), precision=highest) + jnp.matmul(
        zero, 1.0 - bits.T.astype(np.float32), precision=highest
    )
    mean = jnp.matmul(weight, jnp.exp(log_p), precision=highest)
    used = jnp.where(mean > 0.0, mean, 1.0)  # 0 log 0 is 0, also in the gradient
    return -jnp.sum(used * jnp.log(used))
