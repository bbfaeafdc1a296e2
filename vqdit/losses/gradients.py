"""Losses of a decoder's output y, and their gradients with respect to y.

Each loss is differentiated with respect to y once. The sum of these gradients is then propagated
through the decoder, and their norms show the contribution of each loss without additional cost.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from vqdit.typing import Array, Float, Named

Y = Float[Array, "b *size c"]


def at_output(
    losses: Mapping[str, Callable[[Y], Float[Array, ""]]], y: Y
) -> tuple[Named[Float[Array, ""]], Named[Y]]:
    """Returns the value and the gradient at y of each loss; both are constants for autodiff."""
    y = jax.lax.stop_gradient(y)
    pairs = {name: jax.value_and_grad(loss)(y) for name, loss in losses.items()}
    values = Named({name: value for name, (value, _) in pairs.items()})
    return values, Named({name: gradient for name, (_, gradient) in pairs.items()})


def with_gradient(y: Y, gradient: Y) -> Float[Array, ""]:
    """Returns 0, whose derivative with respect to y is `gradient`."""
    return jnp.sum(jax.lax.stop_gradient(gradient) * (y - jax.lax.stop_gradient(y)))


def shares(gradients: Mapping[str, Y]) -> Named[Float[Array, ""]]:
    """Returns the norm of each gradient, divided by the sum of all norms."""
    norms = {name: jnp.sqrt(jnp.sum(g**2)) for name, g in gradients.items()}
    total = jnp.maximum(sum(norms.values(), jnp.zeros((), jnp.float32)), 1e-20)
    return Named({name: norm / total for name, norm in norms.items()})


def adaptive_weight(
    last_layer: Callable[[Array], Y], kernel: Array, gradient: Y, adversarial: Y
) -> Float[Array, ""]:
    """Returns lambda = clip(|dL/dW| / (|dL_g/dW| + 1e-4), 0, 1e4), W = last kernel.

    With this weight both losses have gradients of equal norm at W. Esser et al. (VQGAN),
    arXiv:2012.09841, eq. 7; 1e-4 (1e-6 in the paper) and the bounds are from their code.

    Args:
        last_layer: maps the kernel W to the decoder's output, with all other arguments fixed.
        kernel: the last layer's kernel W.
        gradient: gradient of the reconstruction and perceptual losses L at the output.
        adversarial: gradient of the generator's loss L_g at the output.
    """
    _, back = jax.vjp(last_layer, jax.lax.stop_gradient(kernel))
    norm, norm_adversarial = (
        jnp.sqrt(jnp.sum(back(jax.lax.stop_gradient(g))[0] ** 2)) for g in (gradient, adversarial)
    )
    return jax.lax.stop_gradient(jnp.clip(norm / (norm_adversarial + 1e-4), 0.0, 1e4))
