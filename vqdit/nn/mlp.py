"""The MLP of a transformer block.

- `gelu`: W_out gelu(W_in x), with the tanh approximation of GELU, as in the published DiT
- `swiglu`: W_out (silu(W_gate x) * W_in x), with two thirds of the hidden width, so that both kinds
  have the same number of parameters

Shazeer, "GLU Variants Improve Transformer", arXiv:2002.05202, eq. 6.
"""

import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from vqdit.nn.dense import XAVIER, Dense, Projections
from vqdit.parallel.target_platform import platform
from vqdit.typing import Array, Float

MLP = Literal["gelu", "swiglu"]


@jax.custom_vjp
def gelu(x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    """Returns x (1 + tanh(u)) / 2 with u = sqrt(2 / pi) (x + 0.044715 x^3).

    Hendrycks & Gimpel, arXiv:1606.08415. It is computed in float32 as x sigmoid(2u), since
    (1 + tanh(u)) / 2 = sigmoid(2u). The backward pass keeps only x.
    """
    return (x * _gate(x.astype(jnp.float32))).astype(x.dtype)


def _gate(x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    return jax.nn.sigmoid(math.sqrt(8.0 / math.pi) * (x + 0.044715 * x**3))


def _gelu_forward(x: Float[Array, "*b d"]) -> tuple[Float[Array, "*b d"], Float[Array, "*b d"]]:
    return gelu(x), x


def _gelu_backward(x: Float[Array, "*b d"], g: Float[Array, "*b d"]) -> tuple[Array]:
    if platform().name == "cpu":  # otherwise XLA stores the gate instead of recomputing it
        x = jax.lax.optimization_barrier(x)
    h = x.astype(jnp.float32)
    gate = _gate(h)
    slope = math.sqrt(8.0 / math.pi) * (1.0 + 3.0 * 0.044715 * h**2)
    return ((g * (gate + h * gate * (1.0 - gate) * slope)).astype(x.dtype),)


gelu.defvjp(_gelu_forward, _gelu_backward)


def mlp(
    x: Float[Array, "b l d"], kind: MLP, hidden: int, *, dtype: str, prefix: str = ""
) -> Float[Array, "b l d"]:
    """Applies the MLP; its parameters belong to the module that calls this function.

    `hidden` is the hidden width of "gelu". "swiglu" uses two thirds of it, rounded up to a multiple
    of 8, as in DINOv2. The layers are called "mlp_in" and "mlp_out", after the prefix.
    """
    if kind == "swiglu":
        hidden = -(-(2 * hidden // 3) // 8) * 8
        gate, h = Projections(2, hidden, dtype, name=f"{prefix}mlp_in")(x)
        h = nn.silu(gate) * h
    else:
        h = gelu(Dense(hidden, dtype, name=f"{prefix}mlp_in")(x))
    return Dense(x.shape[-1], dtype, name=f"{prefix}mlp_out")(h)


class Projector(nn.Module):
    """A three-layer MLP with SiLU, in float32."""

    hidden: int
    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b e"]:
        for number in (1, 2):
            x = nn.silu(nn.Dense(self.hidden, kernel_init=XAVIER, name=f"layer_{number}")(x))
        return nn.Dense(self.width, kernel_init=XAVIER, name="layer_3")(x)
