"""Gradient estimators against the matrices that their papers write."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.quantizers import BSQ, VQ
from vqdit.quantizers.gradients import GRADIENT_EPSILON, diveq, estimate, rotate, unit


def pair(d, seed=0):
    rng = np.random.default_rng(seed)
    return (jnp.asarray(rng.normal(size=d), jnp.float32) for _ in range(2))


@pytest.mark.parametrize("d", [2, 3, 16])
def test_the_rotation_is_one_and_takes_z_to_q(d):
    z, q = pair(d)
    jacobian = np.asarray(jax.jacobian(lambda z: rotate(z, q))(z), np.float64)
    scale = np.linalg.norm(q) / np.linalg.norm(z)
    rotation = jacobian / scale
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(d), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0, atol=1e-5)
    np.testing.assert_allclose(jacobian @ np.asarray(z), q, atol=1e-5)
    np.testing.assert_array_equal(rotate(z, q), q)


def test_rotation_of_scalars_is_straight_through():
    """In one dimension the formula would give a factor -1 between opposite signs."""
    z, q = jnp.asarray([[0.5]]), jnp.asarray([[-2.0]])
    np.testing.assert_array_equal(jax.grad(lambda z: rotate(z, q).sum())(z), [[1.0]])


def test_rotation_is_finite_at_zero_and_at_the_opposite():
    for z, q in [([0.0, 0.0], [1.0, 0.0]), ([1.0, 0.0], [-1.0, 0.0]), ([1.0, 0.0], [0.0, 0.0])]:
        gradient = jax.grad(lambda z, q=q: rotate(z, jnp.asarray(q)).sum())(jnp.asarray(z))
        assert jnp.isfinite(gradient).all()


NORMALIZED = [
    VQ(codebook_size=16, dim=8, distance="cosine"),
    VQ(codebook_size=16, dim=8, distance="cosine", learning="gradient"),
    VQ(codebook_size=16, dim=8, estimator="rotation"),
    BSQ(bits=8),
]


@pytest.mark.parametrize("quantizer", NORMALIZED)
@pytest.mark.parametrize("scale", [0.0, 1e-8, 1e-3])
def test_gradients_near_zero_are_bounded_and_not_zero(quantizer, scale):
    """Silent sounds have z near 0: they train, and do not make other examples vanish."""
    z = scale * jax.random.normal(jax.random.key(0), (64, 8))
    params, stats = quantizer.init(jax.random.key(1))
    arrived = jax.random.normal(jax.random.key(2), z.shape)
    _, back = jax.vjp(lambda z: quantizer.quantize(params, stats, z).z_q, z)
    length = jnp.linalg.norm(back(arrived)[0], axis=-1) / jnp.linalg.norm(arrived, axis=-1)
    assert length.max() <= 1.001 / GRADIENT_EPSILON and length.min() > 1e-3


def test_the_length_is_one_down_to_the_smallest_vectors():
    z = jax.random.normal(jax.random.key(0), (64, 8))
    for scale in (1.0, 1e-3, 1e-5):
        np.testing.assert_allclose(jnp.linalg.norm(unit(scale * z), axis=-1), 1.0, rtol=1e-5)
    plain = jax.jacobian(lambda z: z / jnp.linalg.norm(z))(z[0])
    np.testing.assert_allclose(jax.jacobian(unit)(z[0]), plain, atol=1e-6)


def test_diveq_moves_by_the_length_of_the_error():
    z, q = pair(8)
    noisy = diveq(jax.random.key(0), z, q)
    assert jnp.abs(noisy - q).max() > 1e-3  # the direction is noisy
    np.testing.assert_allclose(jnp.linalg.norm(noisy - z), jnp.linalg.norm(q - z), rtol=1e-5)
    np.testing.assert_array_equal(diveq(None, z, q), q)


def test_diveq_trains_z_and_the_codebook():
    """z + |q - z| u with a constant unit u: dz_q/dz = I - u u^T, dz_q/dq = u u^T."""
    z, q = pair(4)
    to_z, to_q = jax.jacobian(lambda z, q: diveq(None, z, q), argnums=(0, 1))(z, q)
    unit = np.asarray(q - z) / np.linalg.norm(q - z)
    np.testing.assert_allclose(to_z, np.eye(4) - np.outer(unit, unit), atol=1e-5)
    np.testing.assert_allclose(to_q, np.outer(unit, unit), atol=1e-5)


@pytest.mark.parametrize("estimator", ["straight_through", "rotation", "diveq"])
def test_the_value_is_q_bitwise(estimator):
    key = jax.random.key(0)
    z = 100.0 * jax.random.normal(key, (1000, 4))
    q = jax.random.normal(jax.random.fold_in(key, 1), (1000, 4))
    np.testing.assert_array_equal(jax.jit(estimate, static_argnums=0)(estimator, None, z, q), q)
