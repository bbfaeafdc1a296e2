"""SimVQ: codes are a fixed random table seen through one linear map that is learned.

    e_k = C_k W + b,     C ~ N(0, 1/d) fixed.

Every step moves every code, because all share W, so no code is left behind. Zhu et al.,
"Addressing Representation Collapse in Vector Quantized Models with One Linear Layer",
arXiv:2411.02038.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from vqdit.quantizers.base import (
    Quantized,
    Quantizer,
    require_codebook,
    require_weights,
    rows,
    squared_error,
    zero_without_code,
)
from vqdit.quantizers.gradients import estimate
from vqdit.quantizers.nearest import nearest
from vqdit.typing import Array, Bool, Float, Int, Key, Named, Params, Stats


class SimVQ(Quantizer):
    """One codebook that is learned by a linear map of all its codes.

    Attributes:
        codebook_size: number of codes K.
        dim: width d.
        estimator: of the gradient: "straight_through" or "rotation".
        shards: devices over which the codebook is laid; see `nearest`.
        weights: of the losses.
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
        self, key: Key[Array, ""], z: Float[Array, "*b d"] | None = None
    ) -> tuple[Params, Stats]:
        del z
        k_table, k_kernel = jax.random.split(key)
        width = self.dim**-0.5
        table = width * jax.random.normal(k_table, (self.codebook_size, self.dim))
        shape = self.dim, self.dim
        kernel = jax.random.uniform(k_kernel, shape, minval=-width, maxval=width)
        return {"kernel": kernel, "bias": jnp.zeros(self.dim)}, {"table": table}

    def quantize(
        self,
        params: Params,
        stats: Stats,
        z: Float[Array, "*b d"],
        *,
        key: Key[Array, ""] | None = None,
        step: Int[Array, ""] | None = None,
        mask: Bool[Array, "*b"] | None = None,
    ) -> Quantized:
        del step
        z = self.check(z)
        constant = jax.lax.stop_gradient
        codebook = _seen(constant(params), stats["table"])
        codes = nearest(rows(constant(z)), codebook, self.shards).reshape(z.shape[:-1])
        q = _seen(params, stats["table"][codes])
        losses = Named(
            commitment=squared_error(z, constant(q), mask),
            codebook=squared_error(constant(z), q, mask),
        )
        return Quantized(estimate(self.estimator, key, z, q), codes[..., None], losses)

    def lookup(
        self, params: Params, stats: Stats, codes: Int[Array, "*b q"]
    ) -> Float[Array, "*b d"]:
        code = codes[..., 0]  # of the table as it is seen, not of the bare one
        q = _seen(params, stats["table"][jnp.maximum(code, 0)])
        return zero_without_code(q, code >= 0)


def _seen(params: Params, table: Float[Array, "*k d"]) -> Float[Array, "*k d"]:
    kernel = params["kernel"]
    return jnp.matmul(table, kernel, precision=jax.lax.Precision.HIGHEST) + params["bias"]
