"""The bound of discrete processes is the exact -log p where the network knows all there is."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.transitions import PROCESSES, K, softmax, transition

NODES = 64
DATA = list(itertools.product(range(K), repeat=2))


@pytest.fixture(scope="module")
def table():
    """Any distribution of two codes that depend on each other."""
    return softmax(np.random.default_rng(5).normal(0.0, 1.5, K * K)).reshape(K, K)


def quadrature():
    """Nodes and weights on (0, 1), denser at both ends, where the integrand has its logarithms."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    u = (nodes + 1.0) / 2.0
    return u**2 * (3.0 - 2.0 * u), weights / 2.0 * 6.0 * u * (1.0 - u)


def bounds(process, believe):
    """Integrates the scoring_loss of every datum over time and all noise.

    Args:
        process: of the two codes.
        believe: the network: (x_t, q(x_t | x_0) at t) -> pi of both codes, [2, K].
    """
    times, weights = quadrature()
    noisy = list(itertools.product(range(K + 1), repeat=2))
    prediction, x_0, x_t, t, chance = [], [], [], [], []
    for time, weight in zip(times, weights, strict=True):
        q = transition(process, time)
        for state in noisy:
            logits = np.log(np.maximum(believe(state, q), 1e-30))
            for datum in DATA:
                share = q[datum[0], state[0]] * q[datum[1], state[1]]
                prediction.append(logits)
                x_0.append(datum)
                x_t.append([code if code < K else -1 for code in state])
                t.append(time)
                chance.append(weight * share)
    found = jax.jit(process.scoring_loss)(
        jnp.asarray(np.stack(prediction), jnp.float32),
        jnp.asarray(x_0)[..., None],
        jnp.asarray(x_t)[..., None],
        None,
        jnp.asarray(t, jnp.float32)[:, None],
    )
    found = np.asarray(found, np.float64).sum(axis=1)
    terms = np.where(np.asarray(chance) > 0.0, np.asarray(chance) * found, 0.0)
    return terms.reshape(NODES, len(noisy), len(DATA)).sum(axis=(0, 1))


@pytest.mark.parametrize("process", PROCESSES)
def test_for_the_true_distribution_the_bound_is_exact_for_every_datum(process, table):
    def believe(state, q):
        first = table @ q[:K, state[1]]  # of the first code, given what is seen of the second
        second = table.T @ q[:K, state[0]]
        both = np.stack([first, second])
        return both / np.maximum(both.sum(axis=1, keepdims=True), 1e-30)

    exact = np.asarray([-np.log(table[datum]) for datum in DATA])
    np.testing.assert_allclose(bounds(process, believe), exact, rtol=2e-3)


@pytest.mark.parametrize("process", PROCESSES)
def test_a_network_that_knows_nothing_pays_log_k_for_each_code(process):
    found = bounds(process, lambda state, q: np.full((2, K), 1.0 / K))
    np.testing.assert_allclose(found, 2.0 * np.log(K), rtol=2e-3)


@pytest.mark.parametrize("process", PROCESSES)
def test_of_any_network_it_is_a_bound_of_some_distribution(process):
    """As p sums to 1 and the bound lies above -log p, its exponentials sum to less."""
    rng = np.random.default_rng(6)
    beliefs = softmax(rng.normal(0.0, 1.5, (K + 1, K + 1, 2, K)))
    found = bounds(process, lambda state, q: beliefs[state])
    assert 0.3 < np.exp(-found).sum() < 1.0
