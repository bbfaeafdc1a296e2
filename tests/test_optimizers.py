"""AdamW: its schedule in closed form, what decay and clipping touch; Muon: its matrices."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vqdit.optim import AdamW, Muon

PARAMS = {
    "matrix": jnp.full((2, 3), 2.0),
    "kernel": jnp.full((1, 1, 2, 2), -3.0),
    "bias": jnp.ones(4),
}


def step(optimizer, gradient, params=PARAMS, steps=100):
    transformation = optimizer.build(steps)
    updates, _ = transformation.update(gradient, transformation.init(params), params)
    return updates


def test_the_schedule_rises_linearly_and_falls_by_a_cosine():
    schedule = AdamW(learning_rate=0.5, warmup=4, final=0.2).schedule(100)
    rates = np.asarray([schedule(n) for n in range(101)])
    np.testing.assert_allclose(rates[:5], 0.5 * np.asarray([1, 2, 3, 4, 5]) / 5, rtol=1e-6)
    progress = np.arange(97) / 96
    cosine = 0.1 + (0.5 - 0.1) * (1 + np.cos(np.pi * progress)) / 2
    np.testing.assert_allclose(rates[4:], cosine, rtol=1e-5)


def test_the_schedule_stays_at_its_end():
    schedule = AdamW(learning_rate=0.5, warmup=0, final=0.25).schedule(10)
    assert float(schedule(0)) == 0.5
    np.testing.assert_allclose([schedule(10), schedule(50)], 0.125)


def test_a_final_share_of_1_is_constant_after_the_warm_up():
    schedule = AdamW(learning_rate=0.5, warmup=2, final=1.0).schedule(30)
    np.testing.assert_allclose([schedule(n) for n in (2, 3, 17, 30)], 0.5)


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 25])
def test_a_short_run_warms_up_for_at_most_a_tenth(steps):
    schedule = AdamW(learning_rate=1.0, warmup=1000).schedule(steps)
    rates = np.asarray([schedule(n) for n in range(steps + 1)])
    assert rates.argmax() == steps // 10
    np.testing.assert_allclose(rates.max(), 1.0)
    np.testing.assert_allclose(rates[0], 1 / (steps // 10 + 1))
    np.testing.assert_allclose(rates[-1], 0.0, atol=1e-7)


def test_the_first_step_is_the_learning_rate_against_the_sign():
    gradient = jax.tree.map(lambda leaf: 0.01 * jnp.ones_like(leaf), PARAMS)
    updates = step(AdamW(learning_rate=0.5, warmup=0, clip=0.0), gradient)
    for update in jax.tree.leaves(updates):
        np.testing.assert_allclose(update, -0.5, rtol=1e-4)


def test_weight_decay_is_on_matrices_and_kernels_alone():
    nothing = jax.tree.map(jnp.zeros_like, PARAMS)
    updates = step(AdamW(learning_rate=0.5, warmup=0, weight_decay=0.1), nothing)
    np.testing.assert_allclose(updates["matrix"], -0.5 * 0.1 * 2.0, rtol=1e-6)
    np.testing.assert_allclose(updates["kernel"], 0.5 * 0.1 * 3.0, rtol=1e-6)
    np.testing.assert_array_equal(updates["bias"], 0.0)


def moments(optimizer, gradient):
    """The first moments after one step, (1 - b1) times the gradient that Adam saw."""
    transformation = optimizer.build(100)
    _, state = transformation.update(gradient, transformation.init(PARAMS), PARAMS)
    return optax.tree_utils.tree_get(state, "mu")


@pytest.mark.parametrize(
    ("norm", "clip", "factor"), [(10.0, 2.5, 0.25), (2.0, 2.5, 1.0), (10.0, 0.0, 1.0)]
)
def test_the_gradient_is_clipped_by_its_global_norm(norm, clip, factor):
    count = sum(leaf.size for leaf in jax.tree.leaves(PARAMS))
    gradient = jax.tree.map(lambda leaf: jnp.full(leaf.shape, norm / math.sqrt(count)), PARAMS)
    found = moments(AdamW(b1=0.9, clip=clip), gradient)
    for leaf, expected in zip(jax.tree.leaves(found), jax.tree.leaves(gradient), strict=True):
        np.testing.assert_allclose(leaf, 0.1 * factor * expected, rtol=1e-5)


def test_a_run_follows_adam_in_numpy():
    optimizer = AdamW(learning_rate=0.1, warmup=2, b1=0.8, b2=0.95, weight_decay=0.01, clip=0.0)
    transformation, schedule = optimizer.build(40), optimizer.schedule(40)
    params = {"w": jnp.asarray([[1.0, -2.0]])}
    state = transformation.init(params)
    w, m, v = np.asarray([[1.0, -2.0]]), 0.0, 0.0
    for n, gradient in enumerate(np.random.default_rng(0).normal(size=(10, 1, 2))):
        updates, state = transformation.update(
            {"w": jnp.asarray(gradient, jnp.float32)}, state, params
        )
        params = optax.apply_updates(params, updates)
        m, v = 0.8 * m + 0.2 * gradient, 0.95 * v + 0.05 * gradient**2
        adam = m / (1 - 0.8 ** (n + 1)) / (np.sqrt(v / (1 - 0.95 ** (n + 1))) + 1e-8)
        w = w - float(schedule(n)) * (adam + 0.01 * w)
    np.testing.assert_allclose(params["w"], w, rtol=1e-4)


@pytest.mark.parametrize(
    "fields",
    [
        {"learning_rate": 0.0},
        {"learning_rate": -1.0},
        {"warmup": -1},
        {"clip": -0.5},
        {"weight_decay": -0.1},
        {"final": 1.5},
        {"final": -0.1},
        {"b1": 5.0},
        {"b1": 1.0},
        {"b2": -0.9},
    ],
)
def test_bad_fields_are_refused_by_value(fields):
    (value,) = fields.values()
    with pytest.raises(ValueError, match=f"AdamW needs .*{value}"):
        AdamW(**fields)


BLOCKS = {
    "blocks": {"qkv": {"kernel": jnp.zeros((2, 4, 6)), "bias": jnp.zeros((2, 6))}},
    "head": {"kernel": jnp.zeros((4, 5))},
}


def test_muon_moves_all_singular_directions_of_a_block_alike():
    optimizer = Muon(learning_rate=0.5, warmup=0, final=1.0, clip=0.0)
    draw = np.random.default_rng(0).normal(size=(2, 4, 6))
    gradient = {
        **jax.tree.map(jnp.ones_like, BLOCKS),
        "blocks": {"qkv": {"kernel": jnp.asarray(draw), "bias": jnp.ones((2, 6))}},
    }
    updates = step(optimizer, gradient, BLOCKS)["blocks"]["qkv"]["kernel"]
    for found, matrix in zip(updates, draw, strict=True):
        u, _, v = np.linalg.svd(matrix, full_matrices=False)
        size = np.linalg.svd(np.asarray(found), compute_uv=False)
        # Newton-Schulz with Muon's coefficients brings singular values between 0.7 and 1.2.
        np.testing.assert_allclose(size / (0.5 * 0.2 * np.sqrt(6)), 1.0, atol=0.32)
        cosine = np.sum(-(u @ v) * found) / np.linalg.norm(u @ v) / np.linalg.norm(found)
        assert cosine > 0.95


def test_muon_leaves_all_but_the_kernels_of_blocks_to_adamw():
    fields = {"learning_rate": 0.5, "warmup": 0, "weight_decay": 0.1, "clip": 0.0}
    params = jax.tree.map(jnp.ones_like, BLOCKS)
    gradient = jax.tree.map(lambda leaf: 0.01 * jnp.ones_like(leaf), BLOCKS)
    muon, adamw = (step(o(**fields), gradient, params) for o in (Muon, AdamW))
    np.testing.assert_allclose(muon["head"]["kernel"], adamw["head"]["kernel"], rtol=1e-6)
    bias, other = muon["blocks"]["qkv"]["bias"], adamw["blocks"]["qkv"]["bias"]
    np.testing.assert_allclose(bias, other, rtol=1e-6)


def test_muon_needs_transformer_blocks():
    with pytest.raises(ValueError, match="needs a model with transformer blocks"):
        Muon().build(100).init(PARAMS)
