"""Learned weights of losses: what they converge to, and their place in the one train step."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import tiny
from vqdit.inference.loading import resolver
from vqdit.losses import uncertainty
from vqdit.modalities import Text
from vqdit.models import DiT
from vqdit.samplers import Unmasking
from vqdit.tasks import CodeTarget, DiffusionTask
from vqdit.typing import Named


def test_fresh_weights_change_nothing():
    losses, t = jnp.asarray([[1.0, 2.0]]), jnp.asarray([[0.3]])
    np.testing.assert_array_equal(uncertainty.weighted(uncertainty.blank(), losses, t), losses)


def test_what_is_learned_is_the_logarithm_of_the_expected_loss():
    t = jnp.linspace(0.02, 0.98, 64)[:, None]
    noise = jnp.asarray(np.random.default_rng(0).uniform(0.5, 1.5, (16, 64, 1)), jnp.float32)
    losses = jnp.exp(3.0 * jnp.cos(4.0 * t)) * noise

    def mean(weights):
        return jnp.mean(jax.vmap(lambda part: uncertainty.weighted(weights, part, t))(losses))

    optimizer = optax.adam(0.02)
    weights = uncertainty.blank()

    def step(carry, _):
        weights, state = carry
        change, state = optimizer.update(jax.grad(mean)(weights), state)
        return (optax.apply_updates(weights, change), state), None

    (weights, _), _ = jax.jit(
        lambda start: jax.lax.scan(step, start, length=3000),
    )((weights, optimizer.init(weights)))
    found = uncertainty.log_expected(weights, t)
    np.testing.assert_allclose(found, jnp.log(losses.mean(axis=0)), atol=0.25)
    assert float(jnp.corrcoef(found[:, 0], 3.0 * jnp.cos(4.0 * t[:, 0]))[0, 1]) > 0.999


def words(learns):
    """A DiT over the names of the digits."""
    text = CodeTarget(modality=Text(length=5), sampler=Unmasking(steps=2), uncertainty=learns)
    model = DiT(depth=1, dim=16, heads=2, patch=1)
    return DiffusionTask(targets=Named(text=text), conditions=Named(), model=model)


def test_a_task_learns_them_beside_the_network():
    batch = tiny.generator().data.first_batch(0)
    results = []
    for learns in (False, True):
        task, frozen = words(learns).load(resolver({}), lambda: [batch])
        params, stats = task.init(jax.random.key(0), frozen, batch)
        # The structure that a checkpoint is read into.
        assert jax.tree.structure(task.blank()[0]) == jax.tree.structure(params)
        args = params, stats, frozen, batch, jax.random.key(1), jnp.int32(0)
        results.append(jax.jit(jax.value_and_grad(task.loss, has_aux=True))(*args))
    ((loss, aux), plain), ((loss_2, aux_2), learned) = results
    assert loss == pytest.approx(float(loss_2), rel=1e-6)
    np.testing.assert_allclose(aux.metrics["loss_text"], aux_2.metrics["loss_text"], rtol=1e-6)
    (change,) = learned.pop("uncertainty").values()
    assert jnp.abs(change).max() > 0
    chex.assert_trees_all_close(plain, learned, atol=1e-6)


def test_what_is_known_teaches_nothing():
    """At t = 0 the loss is 0, and its expected logarithm would fall for ever."""
    losses, t = jnp.asarray([[0.0, 2.0]]), jnp.asarray([[0.0, 0.3]])
    weights = jax.random.normal(jax.random.key(0), uncertainty.blank().shape)
    found = uncertainty.weighted(weights, losses, t)
    twice = jnp.full((1, 2), 2.0), jnp.full((1, 2), 0.3)  # of one shape: sums round alike
    np.testing.assert_allclose(
        found, [[0.0, uncertainty.weighted(weights, *twice)[0, 1]]], rtol=1e-6
    )
    gradient = jax.grad(lambda w: uncertainty.weighted(w, losses, t).sum())(weights)
    only = jax.grad(lambda w: uncertainty.weighted(w, *twice)[0, 1])(weights)
    np.testing.assert_allclose(gradient, only, rtol=1e-6)
