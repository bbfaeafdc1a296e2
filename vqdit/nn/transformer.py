"""A transformer encoder: pre-norm blocks, scanned over the layers.

Each block computes::

    x <- x + attention(norm(x))
    x <- x + mlp(norm(x))

Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv:2010.11929, eq. 2 and 3. The gated MLP is
from Shazeer, "GLU Variants Improve Transformer", arXiv:2002.05202, eq. 6.
"""

import flax.linen as nn
import jax.numpy as jnp

from vqdit.nn.attention import attention
from vqdit.nn.dense import Dense, Projections
from vqdit.nn.masks import Mask
from vqdit.nn.mlp import MLP
from vqdit.nn.stack import rematerialized, unroll
from vqdit.typing import Array, Float


class Transformer(nn.Module):
    """A stack of blocks with a norm after the last block.

    Attributes:
        depth: number of blocks.
        heads: number of attention heads; must divide the width of the tokens.
        hidden: hidden width of the MLP.
        mlp: "gelu", or "swiglu", which computes silu(a x) * (b x) with two thirds of the hidden
            width, so that both have the same number of parameters.
        dtype: precision of the products; parameters, norms, softmax and residual stream stay
            float32.
        remat: True recomputes each block in the backward pass.
    """

    depth: int
    heads: int
    hidden: int
    mlp: MLP = "gelu"
    dtype: str = "float32"
    remat: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"], mask: Mask | None = None) -> Float[Array, "b l d"]:
        """Applies the blocks; tokens whose mask is False are hidden from all tokens."""
        blocks = nn.scan(
            rematerialized(Block, self.remat),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,  # pyright: ignore
            length=self.depth,
            unroll=1 if self.is_initializing() else unroll(self.depth, self.remat),
        )
        x, _ = blocks(self.heads, self.hidden, self.mlp, self.dtype, name="blocks")(x, mask)
        return layer_norm(x, name="norm")


class Block(nn.Module):
    """One block; returns the pair (x, None), as `nn.scan` requires."""

    heads: int
    hidden: int
    mlp: MLP
    dtype: str

    @nn.compact
    def __call__(
        self, x: Float[Array, "b l d"], mask: Mask | None
    ) -> tuple[Float[Array, "b l d"], None]:
        width = x.shape[-1]
        project = Projections(3, width, self.dtype, name="qkv")
        q, k, v = (
            part.reshape(*part.shape[:2], self.heads, -1)  # b l h d
            for part in project(layer_norm(x, name="norm_1"))
        )
        h = attention(q, k, v, mask=mask).reshape(x.shape)
        h = Dense(width, self.dtype, name="out")(h)
        x = x + h.astype(jnp.float32)

        h = layer_norm(x, name="norm_2")
        if self.mlp == "swiglu":
            hidden = max(1, self.hidden * 2 // 3)
            gate, h = jnp.split(Dense(2 * hidden, self.dtype, name="mlp_in")(h), 2, axis=-1)
            h = nn.silu(gate) * h
        else:
            h = nn.gelu(Dense(self.hidden, self.dtype, name="mlp_in")(h), approximate=False)
        h = Dense(width, self.dtype, name="mlp_out")(h)
        return x + h.astype(jnp.float32), None


def layer_norm(x: Float[Array, "b l d"], name: str) -> Float[Array, "b l d"]:
    """Applies layer norm with scale and bias, in float32."""
    norm = nn.LayerNorm(epsilon=1e-5, dtype=jnp.float32, use_fast_variance=False, name=name)
    return norm(x)
