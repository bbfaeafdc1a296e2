"""Flow matching along straight lines (rectified flow).

    x_t = (1 - t) x_0 + t eps,      eps ~ N(0, I),      v = dx_t/dt = eps - x_0.

The network predicts v; the loss is its mean squared error. Lipman et al., "Flow Matching for
Generative Modeling", arXiv:2210.02747; Liu et al., "Flow Straight and Fast", arXiv:2209.03003.
"""

import jax
import jax.numpy as jnp

from vqdit.processes.base import Process
from vqdit.typing import Array, Float, Key


class Flow(Process):
    """Flow matching over latents of unit scale: alpha(t) = 1 - t, sigma(t) = t."""

    @property
    def is_discrete(self) -> bool:
        return False

    def width(self, space: tuple[int, ...]) -> int:
        return space[0]

    def prior(self, keys: Key[Array, " b"], shape: tuple[int, ...]) -> Float[Array, "b l d"]:
        return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)

    def noise(
        self, keys: Key[Array, " b"], x_0: Float[Array, "b l d"], t: Float[Array, "b #l"]
    ) -> tuple[Float[Array, "b l d"], Float[Array, "b l d"]]:
        eps = self.prior(keys, x_0.shape[1:])
        t = t[..., None]
        return (1.0 - t) * x_0 + t * eps, eps

    def loss(
        self,
        prediction: Float[Array, "b l w"],
        x_0: Float[Array, "b l d"],
        x_t: Float[Array, "b l d"],
        noise: Float[Array, "b l d"],
        t: Float[Array, "b #l"],
    ) -> Float[Array, "b l"]:
        del x_t
        v = noise - x_0
        error = jnp.mean((prediction.astype(jnp.float32) - v) ** 2, axis=-1)
        return jnp.where(t > 0, error, 0.0)

    def oracle(
        self,
        x_0: Float[Array, "b l d"],
        x_t: Float[Array, "b l d"],
        noise: Float[Array, "b l d"],
        t: Float[Array, "b #l"],
        space: tuple[int, ...],
    ) -> Float[Array, "b l w"]:
        del x_t, t, space
        return noise - x_0
