"""A transformer encoder: pre-norm blocks, scanned over the layers.

    x <- x + attention(norm(x))
    x <- x + mlp(norm(x))

Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv:2010.11929, eq. 2 and 3; the gated MLP is
that of Shazeer, "GLU Variants Improve Transformer", arXiv:2002.05202, eq. 6.
"""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from vqdit.nn.attention import attention
from vqdit.typing import Array, Float

MLP = Literal["gelu", "swiglu"]
XAVIER = nn.initializers.xavier_uniform()
SHALLOW = 6
"""Stacks up to this depth are unrolled: faster on a CPU, and still quick to compile."""


class Transformer(nn.Module):
    """`depth` blocks, and a norm after the last.

    Attributes:
        depth: number of blocks.
        heads: attention heads; divides the tokens' width.
        hidden: width within the MLP.
        mlp: "gelu", or "swiglu": silu(a x) * (b x), with two thirds of the hidden width, so that
            both have as many parameters.
        dtype: precision of the products; parameters, norms, softmax and residual stream stay
            float32.
        remat: recompute each block in the backward pass.
        unroll: blocks per iteration of the scan; 0 unrolls shallow stacks.
    """

    depth: int
    heads: int
    hidden: int
    mlp: MLP = "gelu"
    dtype: str = "float32"
    remat: bool = False
    unroll: int = 0

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
        unroll = self.unroll or (self.depth if self.depth <= SHALLOW else 1)
        blocks = nn.scan(
            nn.remat(Block, prevent_cse=False) if self.remat else Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.depth,
            unroll=unroll,
        )
        x, _ = blocks(self.heads, self.hidden, self.mlp, self.dtype, name="blocks")(x)
        return layer_norm(x, name="norm")


class Block(nn.Module):
    """One block. Returns a pair, as `nn.scan` wants it."""

    heads: int
    hidden: int
    mlp: MLP
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"]) -> tuple[Float[Array, "b l d"], None]:
        width, dtype = x.shape[-1], jnp.dtype(self.dtype)
        h = layer_norm(x, name="norm_1").astype(dtype)
        h = nn.Dense(3 * width, kernel_init=XAVIER, dtype=dtype, name="qkv")(h)
        q, k, v = (
            part.reshape(*part.shape[:2], self.heads, -1)  # b l h d
            for part in jnp.split(h, 3, axis=-1)
        )
        h = attention(q, k, v).reshape(x.shape)
        h = nn.Dense(width, kernel_init=XAVIER, dtype=dtype, name="out")(h)
        x = x + h.astype(jnp.float32)

        h = layer_norm(x, name="norm_2").astype(dtype)
        if self.mlp == "swiglu":
            hidden = max(1, self.hidden * 2 // 3)
            h = nn.Dense(2 * hidden, kernel_init=XAVIER, dtype=dtype, name="mlp_in")(h)
            gate, h = jnp.split(h, 2, axis=-1)
            h = nn.silu(gate) * h
        else:
            h = nn.Dense(self.hidden, kernel_init=XAVIER, dtype=dtype, name="mlp_in")(h)
            h = nn.gelu(h, approximate=False)
        h = nn.Dense(width, kernel_init=XAVIER, dtype=dtype, name="mlp_out")(h)
        return x + h.astype(jnp.float32), None


def layer_norm(x: Float[Array, "b l d"], name: str) -> Float[Array, "b l d"]:
    """Layer norm with scale and bias, in float32."""
    norm = nn.LayerNorm(epsilon=1e-5, dtype=jnp.float32, use_fast_variance=False, name=name)
    return norm(x)
