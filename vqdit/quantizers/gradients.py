"""Gradient estimators dz_q/dz of quantizers. The value of z_q is bitwise q.

Each estimator has the form sg(q) + (f(z) - sg(f(z))). The second term is exactly 0 and has the
gradient of f. The usual form z + sg(q - z) has rounding errors, so its value would differ from the
looked-up code vectors.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from vqdit.quantizers.base import Vectors
from vqdit.typing import Array, Float, Key

Estimator = Literal["straight_through", "rotation", "diveq"]
EPSILON = 1e-6
"""Lower bound of norms in divisions."""
GRADIENT_EPSILON = 0.01
"""Lower bound of |z| in gradients of divisions by |z|. It limits the amplification of gradients to
1 / 0.01, even for z near 0, as in silent sounds.
"""
DIVEQ_VARIANCE = 5e-3


def straight_through(z: Vectors, q: Vectors) -> Vectors:
    """Returns q with the gradient of z."""
    return with_gradient_of(q, z)


def with_gradient_of(q: Vectors, f: Vectors) -> Vectors:
    """Returns exactly the value q, with the gradient of f."""
    return jax.lax.stop_gradient(q) + (f - jax.lax.stop_gradient(f))


def unit(z: Vectors) -> Vectors:
    """Returns z / |z|, or nearly 0 for |z| below 1e-6, with the gradient of z / max(|z|, 0.01)."""
    squares = jnp.sum(z**2, axis=-1, keepdims=True)
    value = z * jax.lax.rsqrt(jnp.maximum(squares, EPSILON**2))
    return with_gradient_of(value, z * jax.lax.rsqrt(jnp.maximum(squares, GRADIENT_EPSILON**2)))


def rotate(z: Vectors, q: Vectors) -> Vectors:
    """Returns q with the gradient of z, rotated and scaled from z to q: the rotation trick.

    With unit vectors u of z and v of q, and w = (u + v) / |u + v|,

        R = I - 2 w w^T + 2 v u^T        R u = v,  det R = 1,        dz_q/dz = (|q| / |z|) R.

    Fifty et al., "Restructuring Vector Quantization with the Rotation Trick", arXiv:2410.06424,
    eq. 4. In one dimension there is no rotation, and this is `straight_through`. The factor
    |q| / |z| is at most 1 / `GRADIENT_EPSILON`.
    """
    if z.shape[-1] == 1:
        return straight_through(z, q)
    z_norm = jnp.linalg.norm(jax.lax.stop_gradient(z), axis=-1, keepdims=True)
    q_norm = jnp.linalg.norm(jax.lax.stop_gradient(q), axis=-1, keepdims=True)
    v = jax.lax.stop_gradient(q) / jnp.maximum(q_norm, EPSILON)
    u = jax.lax.stop_gradient(z) / jnp.maximum(z_norm, EPSILON)
    u = jnp.where(z_norm > EPSILON, u, v)  # z near 0 has no direction
    w = u + v
    w = w / jnp.maximum(jnp.linalg.norm(w, axis=-1, keepdims=True), EPSILON)

    def along(axis: Vectors) -> Float[Array, "*b 1"]:
        return jnp.sum(axis * z, axis=-1, keepdims=True)

    turned = z - 2.0 * w * along(w) + 2.0 * v * along(u)
    factor = jnp.minimum(q_norm / jnp.maximum(z_norm, EPSILON), 1.0 / GRADIENT_EPSILON)
    return with_gradient_of(q, turned * factor)


def diveq(key: Key[Array, ""] | None, z: Vectors, q: Vectors) -> Vectors:
    """DiVeQ: returns z moved by the distance |q - z| in the direction of q.

    In training, noise is added to the direction, which has no gradient. The distance has a gradient
    with respect to z and the codebook, so no other loss is needed. Without a key there is no noise,
    and the value is q. Vali et al., "DiVeQ: Differentiable Vector Quantization Using the
    Reparameterization Trick", arXiv:2509.26469.
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
