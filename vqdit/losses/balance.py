"""EnCodec's balancer: the weight of a loss is its share of the gradient at the decoder's output.

With the gradients g_i of the losses at the output and their weights w_i, the decoder receives

    g = R sum_i (w_i / sum_j w_j) g_i / <|g_i|>,

where <|g_i|> is a moving average of the norm of g_i, and R is `Balance.norm`. Without this
division, a loss with large gradients has more influence than its weight suggests, and weights must
be tuned again whenever a loss changes. Défossez et al., "High Fidelity Neural Audio Compression",
arXiv:2210.13438, section 3.4, eq. 6.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp

from vqdit.typing import Array, Component, Float, Named

Scalar = Float[Array, ""]


class Norms(NamedTuple):
    """For each loss, the moving sum of gradient norms, and of their number; initially 0."""

    total: Named[Scalar]
    count: Named[Scalar]


class Balance(Component):
    """The settings of the balancer.

    Attributes:
        norm: norm R of the gradient of an example at the output, if all g_i are parallel.
        decay: decay of the moving averages of norms per step.
    """

    norm: float = 1.0
    decay: float = 0.999

    def __post_init__(self) -> None:
        self.require("norm > 0", self.norm > 0.0)
        self.require("decay in [0, 1)", 0.0 <= self.decay < 1.0)

    def init(self, names: list[str]) -> Norms:
        """Returns empty averages for the losses with these names."""
        zeros = Named({name: jnp.zeros((), jnp.float32) for name in names})
        return Norms(zeros, zeros)

    def scales(
        self,
        gradients: Mapping[str, Float[Array, "b *size c"]],
        weights: Mapping[str, Scalar | float],
        norms: Norms,
    ) -> tuple[Named[Scalar], Norms]:
        """Returns the factor of each gradient, and the new moving averages.

        The norm of a gradient is the mean over the examples of a batch. The moving average of a
        loss with weight 0 does not change.
        """
        total, count, scales = {}, {}, {}
        share = sum(weights.values(), jnp.zeros((), jnp.float32))
        for name, gradient in gradients.items():
            axes = tuple(range(1, gradient.ndim))
            norm = jnp.mean(jnp.sqrt(jnp.sum(gradient**2, axis=axes)))
            is_on = weights[name] > 0.0
            decay = jnp.where(is_on, self.decay, 1.0)
            total[name] = decay * norms.total[name] + jnp.where(is_on, norm, 0.0)
            count[name] = decay * norms.count[name] + jnp.where(is_on, 1.0, 0.0)
            mean = total[name] / jnp.maximum(count[name], 1.0)
            part = weights[name] / jnp.maximum(share, 1e-20)
            scales[name] = self.norm * part / jnp.maximum(mean, 1e-20)
        return Named(scales), Norms(Named(total), Named(count))
