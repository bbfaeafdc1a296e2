"""Projections of vectors to the width of the codes and back, for `VQ` and `Projected`."""

import jax
import jax.numpy as jnp

from vqdit.typing import Array, Float, Key, Params


def init(
    k_in: Key[Array, ""], k_out: Key[Array, ""], dim: int, inner: int, bias: bool = False
) -> dict[str, Array]:
    """Returns the parameters of a projection from `dim` to `inner` channels and back."""
    lecun = jax.nn.initializers.lecun_normal()
    params = {
        "in": lecun(k_in, (dim, inner), jnp.float32),
        "out": lecun(k_out, (inner, dim), jnp.float32),
    }
    if not bias:
        return params
    zeros = {"in_bias": jnp.zeros(inner, jnp.float32), "out_bias": jnp.zeros(dim, jnp.float32)}
    return params | zeros


def into(params: Params, z: Float[Array, "*b d"]) -> Float[Array, "*b c"]:
    """Projects vectors to the width of the codes."""
    h = _matmul(z, params["in"])
    return h + params["in_bias"] if "in_bias" in params else h


def back(params: Params, q: Float[Array, "*b c"]) -> Float[Array, "*b d"]:
    """Projects code vectors back to the width of the vectors."""
    z_q = _matmul(q, params["out"])
    return z_q + params["out_bias"] if "out_bias" in params else z_q


def _matmul(z: Float[Array, "*b c"], kernel: Float[Array, "c d"]) -> Float[Array, "*b d"]:
    return jnp.matmul(z, kernel, precision=jax.lax.Precision.HIGHEST)
