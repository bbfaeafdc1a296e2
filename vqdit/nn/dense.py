"""Products with parameters, x W + b, by the name that rematerialisation keeps them by.

Parameters are those of `flax.linen.Dense`; see `vqdit.nn.stack` for what is kept.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from vqdit.parallel import several_weights, weights
from vqdit.parallel.target_platform import platform
from vqdit.typing import Array, Float

XAVIER = nn.initializers.xavier_uniform()


class Dense(nn.Module):
    """One product.

    Attributes:
        features: width of the result.
        dtype: precision of the product.
        kernel_init: of the weights.
    """

    features: int
    dtype: str
    kernel_init: nn.initializers.Initializer = XAVIER

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b e"]:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        x, kernel, bias = (part.astype(jnp.dtype(self.dtype)) for part in (x, kernel, bias))
        return _product(x, weights(kernel, self.name or ""), bias)


class Projections(nn.Module):
    """Several products of the same input, whose parameters are those of one wide product.

    Each result lies in memory as what comes next reads it: to divide the wide one, and to join the
    gradients again, is a pass over all of them.

    Attributes:
        count: how many.
        features: width of each result.
        dtype: precision of the products.
    """

    count: int
    features: int
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> list[Float[Array, "*b e"]]:
        width = self.count * self.features
        kernel = self.param("kernel", XAVIER, (x.shape[-1], width))
        bias = self.param("bias", nn.initializers.zeros_init(), (width,))
        x, kernel, bias = (part.astype(jnp.dtype(self.dtype)) for part in (x, kernel, bias))
        kernels = several_weights(kernel, self.name or "", self.count)
        pairs = zip(kernels, jnp.split(bias, self.count), strict=True)
        return [_product(x, w, b) for w, b in pairs]


def _product(
    x: Float[Array, "*b d"], kernel: Float[Array, "d e"], bias: Float[Array, " e"]
) -> Float[Array, "*b e"]:
    if platform().name != "cpu":
        return checkpoint_name(x @ kernel + bias, "product")
    # Of more axes a CPU's compiler transposes both operands for the gradient of the kernel.
    rows = x.reshape(-1, x.shape[-1])
    return checkpoint_name((rows @ kernel + bias).reshape(*x.shape[:-1], -1), "product")
