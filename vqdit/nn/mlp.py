"""The MLP of a transformer's block.

    gelu:   W_out gelu(W_in x)
    swiglu: W_out (silu(W_gate x) * W_in x), with two thirds of the hidden width: as many parameters

Shazeer, "GLU Variants Improve Transformer", arXiv:2002.05202, eq. 6. GELU is approximated by tanh,
as in the published DiT.
"""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from vqdit.typing import Array, Float

MLP = Literal["gelu", "swiglu"]
XAVIER = nn.initializers.xavier_uniform()


def mlp(
    x: Float[Array, "b l d"], kind: MLP, hidden: int, *, dtype: str, prefix: str = ""
) -> Float[Array, "b l d"]:
    """Applies the MLP, as part of the module that calls it.

    Args:
        x: tokens.
        kind: of MLP.
        hidden: width of the GELU's MLP. That of SwiGLU is two thirds of it, rounded up to a
            multiple of 8, as in DINOv2.
        dtype: precision of the products.
        prefix: of the parameters' names, "mlp_in" and "mlp_out".
    """
    if kind == "swiglu":
        hidden = -(-(2 * hidden // 3) // 8) * 8
        both = nn.Dense(2 * hidden, kernel_init=XAVIER, dtype=dtype, name=f"{prefix}mlp_in")(x)
        gate, h = jnp.split(both, 2, axis=-1)
        h = nn.silu(gate) * h
    else:
        h = nn.Dense(hidden, kernel_init=XAVIER, dtype=dtype, name=f"{prefix}mlp_in")(x)
        h = nn.gelu(h, approximate=True)
    return nn.Dense(x.shape[-1], kernel_init=XAVIER, dtype=dtype, name=f"{prefix}mlp_out")(h)


class Projector(nn.Module):
    """Three layers with SiLU between them, in float32."""

    hidden: int
    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b e"]:
        for number in (1, 2):
            x = nn.silu(nn.Dense(self.hidden, kernel_init=XAVIER, name=f"layer_{number}")(x))
        return nn.Dense(self.width, kernel_init=XAVIER, name="layer_3")(x)
