"""Evidence is the bound it says it is: against exact likelihoods of spaces small enough."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.processes import Flow, Masked
from vqdit.processes.base import Process, strata
from vqdit.processes.categorical import MASK

CODES = 3
MASKED = [
    pytest.param(Masked(schedule=schedule, weighting=weighting), id=f"{schedule}-{weighting}")
    for schedule in ("linear", "cosine")
    for weighting in ("elbo", "uniform")
]


def log_softmax(x):
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("process", MASKED)
def test_for_the_true_independent_distribution_its_mean_is_the_exact_surprise(process):
    """Integral of m'(t) / m(t) * m(t) is 1: every position counts once, whatever the schedule."""
    n, length, q = 20_000, 4, 2
    logits = np.asarray(jax.random.normal(jax.random.key(0), (length, q, CODES)), np.float64)
    x_0 = np.asarray([[0, 1], [2, 2], [1, 0], [0, 0]])
    exact = -np.take_along_axis(log_softmax(logits), x_0[..., None], axis=-1).sum((-1, -2))

    t = strata(jax.random.key(1), jnp.arange(n), n)[:, None]
    data = jnp.broadcast_to(jnp.asarray(x_0, jnp.int32), (n, length, q))
    x_t, noise = process.noise(jax.random.split(jax.random.key(2), n), data, t)
    prediction = jnp.broadcast_to(jnp.asarray(logits, jnp.float32).reshape(length, -1), (n, 4, 6))
    scoring_loss = np.asarray(process.scoring_loss(prediction, data, x_t, noise, t), np.float64)

    assert scoring_loss.shape == (n, length)
    error = scoring_loss.std(axis=0) / np.sqrt(n)
    assert (np.abs(scoring_loss.mean(axis=0) - exact) < 4.0 * error).all()
    assert (error < 0.1 * exact).all()  # so the line above means something


@pytest.fixture(scope="module")
def network():
    """Any network at all: logits of both codes for each of the 16 states of two codes."""
    states = itertools.product((MASK, *range(CODES)), repeat=2)
    draws = np.random.default_rng(0).normal(0.0, 1.5, (16, 2, CODES))
    return dict(zip(states, draws, strict=True))


def exact_nll(network, a, b):
    """-log p of what the network generates, unmasking one code after the other in random order.

    In continuous time no two codes are revealed at once, and both orders are as likely.
    """
    p = {state: np.exp(log_softmax(logits)) for state, logits in network.items()}
    nothing = p[MASK, MASK]
    first_a = nothing[0, a] * p[a, MASK][1, b]
    first_b = nothing[1, b] * p[MASK, b][0, a]
    return -np.log((first_a + first_b) / 2.0), -(np.log(first_a) + np.log(first_b)) / 2.0


def bound(process, network, a, b, shape):
    """Evidence integrated over t, and summed over all masks with their probabilities."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    t = jnp.asarray((nodes + 1.0) / 2.0, jnp.float32)[:, None]
    mask = np.asarray(process.mask_probability(t), np.float64)[:, 0]
    x_0 = jnp.broadcast_to(jnp.asarray([a, b], jnp.int32).reshape(1, *shape), (64, *shape))
    total = np.zeros(64)
    for hidden in itertools.product((False, True), repeat=2):
        state = tuple(MASK if h else code for h, code in zip(hidden, (a, b), strict=True))
        x_t = jnp.broadcast_to(jnp.asarray(state, jnp.int32).reshape(1, *shape), (64, *shape))
        logits = jnp.asarray(network[state], jnp.float32).reshape(1, shape[0], -1)
        prediction = jnp.broadcast_to(logits, (64, *logits.shape[1:]))
        probability = np.prod([mask if h else 1.0 - mask for h in hidden], axis=0)
        scoring_loss = process.scoring_loss(prediction, x_0, x_t, None, t)
        total += probability * np.asarray(scoring_loss, np.float64).sum(axis=1)
    return float(weights @ total / 2.0)


@pytest.mark.parametrize("process", MASKED)
@pytest.mark.parametrize("shape", [(2, 1), (1, 2)], ids=["two-positions", "two-codebooks"])
def test_it_bounds_the_exact_surprise_of_every_datum_for_any_network(process, shape, network):
    everything = 0.0
    for a, b in itertools.product(range(CODES), repeat=2):
        exact, over_orders = exact_nll(network, a, b)
        found = bound(process, network, a, b, shape)
        np.testing.assert_allclose(found, over_orders, rtol=1e-5)  # the bound's closed form
        assert found >= exact - 1e-5
        everything += np.exp(-exact)
    np.testing.assert_allclose(everything, 1.0, rtol=1e-9)  # p really is a distribution


def test_the_bound_is_not_always_tight(network):
    gaps = [
        np.subtract(*exact_nll(network, a, b)[::-1])
        for a, b in itertools.product(range(CODES), repeat=2)
    ]
    assert max(gaps) > 0.1


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_weighting_of_the_loss_does_not_change_it(schedule):
    x_0 = jax.random.randint(jax.random.key(0), (6, 5, 1), 0, CODES)
    t = jnp.linspace(0.0, 1.0, 6)[:, None]
    elbo, uniform = (Masked(schedule=schedule, weighting=w) for w in ("elbo", "uniform"))
    x_t, noise = elbo.noise(jax.random.split(jax.random.key(1), 6), x_0, t)
    prediction = jax.random.normal(jax.random.key(2), (6, 5, CODES))
    found = elbo.scoring_loss(prediction, x_0, x_t, noise, t)
    np.testing.assert_array_equal(uniform.scoring_loss(prediction, x_0, x_t, noise, t), found)
    np.testing.assert_array_equal(elbo.loss(prediction, x_0, x_t, noise, t), found)
    assert (uniform.loss(prediction, x_0, x_t, noise, t) != found).any()
    assert not found[0].any() and np.isfinite(found).all()  # t = 0 says nothing, t = 1 is finite


def test_what_has_no_code_is_no_surprise():
    x_0 = jnp.asarray([[[1], [MASK], [2]]])
    x_t = jnp.full((1, 3, 1), MASK)
    prediction = jax.random.normal(jax.random.key(0), (1, 3, CODES))
    found = Masked().scoring_loss(prediction, x_0, x_t, None, jnp.full((1, 1), 0.5))
    p = log_softmax(np.asarray(prediction[0], np.float64))
    np.testing.assert_allclose(found[0], [-2 * p[0, 1], 0.0, -2 * p[2, 2]], rtol=1e-5)


def test_of_a_flow_it_is_the_squared_error_of_the_velocity():
    x_0 = jax.random.normal(jax.random.key(0), (4, 3, 2))
    t = jnp.asarray([[0.25], [0.5], [0.75], [1.0]])
    x_t, eps = Flow().noise(jax.random.split(jax.random.key(1), 4), x_0, t)
    prediction = jax.random.normal(jax.random.key(2), (4, 3, 2))
    found = Flow().scoring_loss(prediction, x_0, x_t, eps, t)
    v = np.asarray(eps, np.float64) - np.asarray(x_0, np.float64)
    np.testing.assert_allclose(found, ((np.asarray(prediction) - v) ** 2).mean(-1), rtol=1e-5)
    # The error of x_0 itself, over t^2: what the network would denoise x_t to.
    denoised = np.asarray(x_t) - np.asarray(t)[..., None] * np.asarray(prediction)
    error = ((denoised - np.asarray(x_0)) ** 2).mean(-1) / np.asarray(t) ** 2
    np.testing.assert_allclose(found, error, rtol=1e-4)


def test_every_process_must_say_what_it_is():
    with pytest.raises(TypeError, match="Process must define the method 'scoring_loss'"):
        Process().scoring_loss(jnp.zeros((1, 1, 1)), None, None, None, jnp.ones((1, 1)))
