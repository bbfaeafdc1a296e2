"""SimVQ: the codes are a fixed random table, transformed by a learned linear map.

    e_k = C_k W + b,     C ~ N(0, 1/d) fixed.

Every step moves all codes, because they share W, so none remains unused. Zhu et al.,
"Addressing Representation Collapse in Vector Quantized Models with One Linear Layer",
arXiv:2411.02038.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from vqdit.quantizers.base import (
    Codes,
    Mask,
    Quantized,
    Quantizer,
    Vectors,
    require_codebook,
    require_weights,
    rows,
    squared_error,
    zero_without_code,
)
from vqdit.quantizers.gradients import estimate
from vqdit.quantizers.nearest import nearest
from vqdit.typing import Array, Float, Int, Key, Named, Params, Stats


class SimVQ(Quantizer):
    """One codebook, learned through a linear map of all its codes.

    Attributes:
        codebook_size: number of codes K.
        dim: width d.
        estimator: gradient estimator, "straight_through" or "rotation".
        shards: number of devices that share the codebook; see `nearest`.
        weights: weights of the losses.
    """

    codebook_size: int = 8192
    dim: int = 64
    estimator: Literal["straight_through", "rotation"] = "straight_through"
    shards: int = 1
    weights: Named[float] = Named(commitment=0.25, codebook=1.0)

    def __post_init__(self) -> None:
        require_codebook("SimVQ", self.codebook_size, self.dim, self.shards)
        require_weights("SimVQ", self.weights, ("commitment", "codebook"))

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (self.codebook_size,)

    def init(
        self, key: Key[Array, ""], z: Vectors | None = None, mask: Mask = None
    ) -> tuple[Params, Stats]:
        del z, mask
        k_table, k_kernel = jax.random.split(key)
        width = self.dim**-0.5
        table = width * jax.random.normal(k_table, (self.codebook_size, self.dim), jnp.float32)
        shape = self.dim, self.dim
        kernel = jax.random.uniform(k_kernel, shape, jnp.float32, minval=-width, maxval=width)
        return {"kernel": kernel, "bias": jnp.zeros(self.dim, jnp.float32)}, {"table": table}

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
        del step
        z = self.check(z)
        constant = jax.lax.stop_gradient
        codes = self.encode(params, stats, z)
        q = _transformed(params, stats["table"][codes[..., 0]])
        losses = Named(
            commitment=squared_error(z, constant(q), mask),
            codebook=squared_error(constant(z), q, mask),
        )
        return Quantized(estimate(self.estimator, key, z, q), codes, losses)

    def encode(self, params: Params, stats: Stats, z: Vectors) -> Codes:
        z, params = jax.lax.stop_gradient((self.check(z), params))
        codebook = _transformed(params, stats["table"])
        return nearest(rows(z), codebook, self.shards).reshape(*z.shape[:-1], 1)

    def lookup(self, params: Params, stats: Stats, codes: Codes) -> Vectors:
        code = codes[..., 0]
        q = _transformed(params, stats["table"][jnp.maximum(code, 0)])
        return zero_without_code(q, code >= 0)


def _transformed(params: Params, table: Float[Array, "*k d"]) -> Float[Array, "*k d"]:
    kernel = params["kernel"]
    return jnp.matmul(table, kernel, precision=jax.lax.Precision.HIGHEST) + params["bias"]
