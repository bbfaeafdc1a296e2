"""Dense layers, x W + b, whose results `vqdit.nn.stack` can keep when it recomputes blocks.

The parameters have the same names and shapes as in `flax.linen.Dense`.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from vqdit.parallel import several_weights, weights
from vqdit.parallel.target_platform import platform
from vqdit.typing import Array, Float

XAVIER = nn.initializers.xavier_uniform()


class Dense(nn.Module):
    """A dense layer.

    Attributes:
        features: width of the result.
        dtype: precision of the product.
        kernel_init: initialiser of the weights.
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
    """Several dense layers with the same input; their parameters are stored as one wide layer.

    The products are computed separately. A single wide product would need additional passes over
    memory, to split the result and to join the gradients.

    Attributes:
        count: number of layers.
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
        biases = jnp.split(bias, self.count)
        return [_product(x, w, b) for w, b in zip(kernels, biases, strict=True)]


def _product(x: Array, kernel: Float[Array, "d e"], bias: Float[Array, " e"]) -> Array:
    if platform().name != "cpu":
        return checkpoint_name(x @ kernel + bias, "product")
    # With more than two axes, XLA transposes both operands of the kernel's gradient on a CPU.
    rows = x.reshape(-1, x.shape[-1])
    return checkpoint_name((rows @ kernel + bias).reshape(*x.shape[:-1], -1), "product")
