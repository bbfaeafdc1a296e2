"""Gradient estimators dz_q/dz of quantizers. The value of z_q is bitwise q.

Each has the form sg(q) + (f(z) - sg(f(z))), whose second term is exactly 0 and has the gradient of
f. The usual z + sg(q - z) rounds, so its value would differ from the looked-up codes.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from vqdit.quantizers.base import Vectors
from vqdit.typing import Array, Float, Key

Estimator = Literal["straight_through", "rotation", "diveq"]
EPSILON = 1e-6
"""Lower bound of norms in divisions."""
DIVEQ_VARIANCE = 5e-3


def straight_through(z: Vectors, q: Vectors) -> Vectors:
    """Returns q with the gradient of z."""
    return with_gradient_of(q, z)


def with_gradient_of(q: Vectors, f: Vectors) -> Vectors:
    """Returns the value q, bit for bit, with the gradient of f."""
    return jax.lax.stop_gradient(q) + (f - jax.lax.stop_gradient(f))


def rotate(z: Vectors, q: Vectors) -> Vectors:
    """Returns q with the gradient of z, rotated and scaled from z to q: the rotation trick.

    With unit vectors u of z and v of q, and w = (u + v) / |u + v|,

        R = I - 2 w w^T + 2 v u^T        R u = v,  det R = 1,        dz_q/dz = (|q| / |z|) R.

    Fifty et al., "Restructuring Vector Quantization with the Rotation Trick", arXiv:2410.06424,
    eq. 4. In one dimension there is no rotation, and this is `straight_through`.
    """
    if z.shape[-1] == 1:
        return straight_through(z, q)
    z_norm = jnp.linalg.norm(jax.lax.stop_gradient(z), axis=-1, keepdims=True)
    q_norm = jnp.linalg.norm(jax.lax.stop_gradient(q), axis=-1, keepdims=True)
    u = jax.lax.stop_gradient(z) / jnp.maximum(z_norm, EPSILON)
    v = jax.lax.stop_gradient(q) / jnp.maximum(q_norm, EPSILON)
    w = u + v
    w = w / jnp.maximum(jnp.linalg.norm(w, axis=-1, keepdims=True), EPSILON)

    def along(axis: Vectors) -> Float[Array, "*b 1"]:
        return jnp.sum(axis * z, axis=-1, keepdims=True)

    turned = z - 2.0 * w * along(w) + 2.0 * v * along(u)
    return with_gradient_of(q, turned * q_norm / jnp.maximum(z_norm, EPSILON))


def diveq(key: Key[Array, ""] | None, z: Vectors, q: Vectors) -> Vectors:
    """Returns z moved by the distance |q - z| in the direction of q: DiVeQ.

    The direction has no gradient, and noise in training; the distance has a gradient with respect
    to z and the codebook, so no other loss is needed. Without a key there is no noise, and the
    value is q. Vali et al., "DiVeQ: Differentiable Vector Quantization Using the Reparameterization
    Trick", arXiv:2509.26469.
    """
    error = q - z
    length = jnp.sqrt(jnp.sum(error**2, axis=-1, keepdims=True) + EPSILON**2)
    direction = jax.lax.stop_gradient(error)
    if key is not None:
        noise = jax.random.normal(key, z.shape, jnp.float32)
        direction = direction + DIVEQ_VARIANCE**0.5 * noise
    norm = jnp.linalg.norm(direction, axis=-1, keepdims=True)
    moved = z + length * direction / jnp.maximum(norm, EPSILON)
    return with_gradient_of(q, moved) if key is None else moved


def estimate(
    estimator: Estimator,
    key: Key[Array, ""] | None,
    z: Vectors,
    q: Vectors,
) -> Vectors:
    """Returns z_q by the named estimator."""
    if estimator == "straight_through":
        return straight_through(z, q)
    return rotate(z, q) if estimator == "rotation" else diveq(key, z, q)
