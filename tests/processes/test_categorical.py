"""Discrete processes against transition matrices, written out in NumPy in float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.transitions import PROCESSES, K, mask_share, softmax, transition
from vqdit.processes import Flow, MaskAndReplace, Masked, UniformState
from vqdit.processes.categorical import MASK

REPLACING = PROCESSES[2:]


def between(process, s, t, k=K):
    """q(x_t | x_s), whatever the closed form may be: it takes q_s to q_t."""
    return np.linalg.solve(transition(process, s, k), transition(process, t, k))


def bayes(process, pi, x_t, t, s):
    """p(x_s | x_t) by summing over x_0."""
    joint = (pi @ transition(process, s)[:-1]) * between(process, s, t)[:, x_t]
    return joint / joint.sum()


def states(process):
    """All values of x_t: the mask only where there is one."""
    return (*range(K), MASK) if mask_share(process) else tuple(range(K))


def posterior(process, logits, rows):
    """p(x_s | x_t) of (x_t, t, s), each by itself, with its own logits."""
    x_t, t, s = (jnp.asarray(column)[:, None, None] for column in zip(*rows, strict=True))
    shaped = jnp.asarray(logits, jnp.float32)[:, None, None]
    return jax.jit(process.posterior)(shaped, x_t, t, s)[:, 0, 0]


@pytest.mark.parametrize("process", PROCESSES)
def test_the_posterior_is_that_of_bayes(process):
    times = [(0.9, 0.5), (0.5, 0.49), (1.0, 0.9), (0.3, 0.0), (1.0, 0.0)]
    rows = [(code, t, s) for code in states(process) for t, s in times]
    if isinstance(process, Masked):  # at t = 1 nothing is seen
        rows = [(code, t, s) for code, t, s in rows if code == MASK or t < 1.0]
    logits = np.random.default_rng(0).normal(0.0, 1.5, (len(rows), K))
    expected = [bayes(process, pi, *row) for pi, row in zip(softmax(logits), rows, strict=True)]
    np.testing.assert_allclose(posterior(process, logits, rows), expected, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("process", PROCESSES)
def test_a_posterior_is_a_distribution_even_of_a_sure_network(process):
    times = [(1.0, 0.99), (0.5, 0.25), (1e-3, 0.0)]
    rows = [(code, t, s) for code in (*range(K), MASK) for t, s in times]
    found = posterior(process, np.tile([1e4, 0.0, 0.0], (len(rows), 1)), rows)
    assert (found >= 0.0).all()
    np.testing.assert_allclose(found.sum(axis=-1), 1.0, atol=1e-5)


def test_what_masked_diffusion_has_revealed_stays_even_if_the_network_calls_it_impossible():
    logits = jnp.where(jnp.arange(K) == 0, 0.0, -jnp.inf) * jnp.ones((1, 2, 1, 1))
    x_t = jnp.asarray([[[2], [MASK]]])
    found = Masked().posterior(logits, x_t, jnp.full((1, 1, 1), 0.5), jnp.full((1, 1, 1), 0.25))
    np.testing.assert_array_equal(found[0, 0, 0], [0.0, 0.0, 1.0, 0.0])
    np.testing.assert_allclose(found[0, 1, 0], [0.5, 0.0, 0.0, 0.5])


@pytest.mark.parametrize("process", PROCESSES)
def test_noise_has_the_stated_distribution(process):
    n, t = 256, 0.4
    x_0 = jnp.broadcast_to(jnp.arange(K)[:, None], (n, K, 64))
    x_t, _ = process.noise(jax.random.split(jax.random.key(0), n), x_0, jnp.full((n, 1), t))
    for code in range(K):
        values = np.where(np.asarray(x_t[:, code]) == MASK, K, x_t[:, code]).ravel()
        share = np.bincount(values, minlength=K + 1) / values.size
        np.testing.assert_allclose(share, transition(process, t)[code], atol=0.015)


def rate_of_jumps(process, t, k):
    """The generator of the noise at t, by central differences."""
    h = 1e-6
    slope = (transition(process, t + h, k) - transition(process, t - h, k)) / (2 * h)
    return np.linalg.solve(transition(process, t, k), slope)


def sedd(process, pi, x_0, x_t, t, k=K):
    """The integrand of the bound, term by term: Lou et al., arXiv:2310.16834, eq. 14."""
    q, rate = transition(process, t, k), rate_of_jumps(process, t, k)
    x_t = k if x_t == MASK else x_t
    expected = pi @ q[:k]
    total = 0.0
    for y in range(k):
        if y == x_t:
            continue
        score, ratio = expected[y] / expected[x_t], q[x_0, y] / q[x_0, x_t]
        entropy = ratio * (np.log(ratio / score)) if ratio > 0.0 else 0.0
        total += rate[y, x_t] * (score - ratio + entropy)
    return total


def scoring_loss(process, logits, rows):
    """The scoring_loss of codes (x_0, x_t, t), each by itself."""
    x_0, x_t, t = (jnp.asarray(column)[:, None] for column in zip(*rows, strict=True))
    shaped = jnp.broadcast_to(jnp.asarray(logits, jnp.float32), (len(rows), 1, len(logits)))
    found = jax.jit(process.scoring_loss)(shaped, x_0[..., None], x_t[..., None], None, t)
    return found[:, 0]


@pytest.mark.parametrize("process", PROCESSES)
def test_the_evidence_compares_the_jumps_of_the_reverse_process(process):
    logits = np.random.default_rng(1).normal(0.0, 1.5, K)
    rows = list(itertools.product(range(K), states(process), (0.05, 0.5, 0.95)))
    if isinstance(process, Masked):  # what is seen is x_0
        rows = [row for row in rows if row[1] in (row[0], MASK)]
    expected = [sedd(process, softmax(logits), *row) for row in rows]
    found = scoring_loss(process, logits, rows)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("process", REPLACING)
def test_the_evidence_is_the_kl_of_many_small_steps(process):
    """T KL(q(x_s | x_t, x_0) || p(x_s | x_t)) with s = t - 1 / T, the bound of D3PM."""
    steps, t, x_0 = 20_000, 0.6, 1
    logits = np.random.default_rng(2).normal(0.0, 1.5, K)
    expected = []
    for x_t in states(process):
        s = t - 1.0 / steps
        true = bayes(process, np.eye(K)[x_0], x_t, t, s)
        model = bayes(process, softmax(logits), x_t, t, s)
        where = true > 1e-15
        expected.append(steps * np.sum(true[where] * np.log(true[where] / model[where])))
    found = scoring_loss(process, logits, [(x_0, x_t, t) for x_t in states(process)])
    np.testing.assert_allclose(found, expected, rtol=2e-3)


@pytest.mark.parametrize("mask", [0.0, 0.9])
def test_the_evidence_keeps_its_digits_at_both_ends_and_with_many_codes(mask):
    k, x_0 = 512, 7
    process = UniformState(codes=k) if mask == 0.0 else MaskAndReplace(codes=k, mask=mask)
    logits = np.random.default_rng(3).normal(0.0, 3.0, k).astype(np.float32)
    seen = (7, 8) if mask == 0.0 else (7, 8, MASK)
    times = np.asarray([1e-4, 1e-3, 0.999, 0.9999], np.float32)
    rows = [(x_0, x_t, t) for x_t in seen for t in times]
    expected = []
    for _, x_t, t in rows:
        t = float(t)
        alpha, beta = 1.0 - t, (1.0 - mask) * t / k
        g, f = alpha * np.eye(k)[x_0] + beta, alpha * softmax(logits) + beta
        if x_t == MASK:
            ratio, score = g / (mask * t), f / (mask * t)
            rate = mask / (1.0 - mask * t)
        else:
            ratio, score = g / g[x_t], f / f[x_t]
            rate = (1.0 / (1.0 - t) - mask / (1.0 - mask * t)) / k
        expected.append(rate * np.sum(score - ratio + ratio * np.log(ratio / score)))
    np.testing.assert_allclose(scoring_loss(process, logits, rows), expected, rtol=1e-3)


@pytest.mark.parametrize("process", REPLACING)
def test_gradients_are_finite_at_both_ends_of_time_and_for_a_sure_network(process):
    rows = list(itertools.product((0.0, 1.0, 1e4), (0.0, 1e-3, 1.0), states(process)))
    scale, t, x_t = (jnp.asarray(column)[:, None] for column in zip(*rows, strict=True))
    logits = scale[..., None] * jnp.asarray([0.0, 1.0, 0.0])
    x_0 = jnp.zeros((len(rows), 1, 1), jnp.int32)
    total = lambda logits: process.loss(logits, x_0, x_t[..., None], None, t).sum()  # noqa: E731
    assert np.isfinite(jax.jit(jax.grad(total))(logits)).all()


@pytest.mark.parametrize("process", REPLACING)
def test_a_missing_code_stays_missing_and_has_no_loss(process):
    keys = jax.random.split(jax.random.key(0), 3)
    x_0 = jnp.asarray([[[0, MASK], [MASK, MASK]]] * 3)
    t = jnp.asarray([[0.2], [0.7], [1.0]])
    x_t, noise = process.noise(keys, x_0, t)
    np.testing.assert_array_equal(jnp.where(x_0 == MASK, x_t, MASK), jnp.full_like(x_0, MASK))
    logits = jax.random.normal(jax.random.key(1), (3, 2, 2 * K))
    alone = process.loss(logits[:, :1, :K], x_0[:, :1, :1], x_t[:, :1, :1], noise, t)
    found = process.loss(logits, x_0, x_t, noise, t)
    np.testing.assert_allclose(found[:, :1], alone, rtol=1e-6)
    np.testing.assert_array_equal(found[:, 1], jnp.zeros(3))
    gradient = jax.grad(lambda logits: process.loss(logits, x_0, x_t, noise, t).sum())(logits)
    np.testing.assert_array_equal(gradient[:, 1], jnp.zeros((3, 2 * K)))


def test_the_auxiliary_loss_is_the_surprise_of_x_0_at_every_position():
    process, t = MaskAndReplace(codes=K, mask=0.6, auxiliary=0.3), 0.4
    logits = np.random.default_rng(4).normal(0.0, 1.5, K)
    for x_t in (0, 1, MASK):
        p = softmax(logits) * transition(process, t)[:K, x_t]
        surprise = -np.log(p[1] / p.sum())
        shaped = jnp.asarray(logits, jnp.float32)[None, None]
        codes = jnp.ones((1, 1, 1), jnp.int32), jnp.full((1, 1, 1), x_t)
        found = process.loss(shaped, *codes, None, jnp.full((1, 1), t))
        bound = process.scoring_loss(shaped, *codes, None, jnp.full((1, 1), t))
        np.testing.assert_allclose(found - bound, 0.3 * 1.6 * surprise, rtol=1e-4)


def test_one_share_of_masks_is_the_released_schedule_of_vq_diffusion():
    """Its T = 100 steps go from alpha = 0.99999 and gamma = 9e-6 to the reverse."""
    step = np.arange(100) / 99
    alpha = step * (9e-6 - 0.99999) + 0.99999
    gamma = step * (0.99999 - 9e-6) + 9e-6
    process = MaskAndReplace(mask=0.999999)
    t = jnp.asarray(step, jnp.float32)
    np.testing.assert_allclose(1.0 - process.noise_share(t), alpha, atol=1.1e-5)
    np.testing.assert_allclose(process.mask_probability(t), gamma, atol=1.1e-5)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_time_of_a_share_of_noise_is_the_inverse_of_the_schedule(schedule):
    process = UniformState(schedule=schedule)
    t = jnp.linspace(0.0, 1.0, 21)
    np.testing.assert_allclose(process.time_at(process.noise_share(t)), t, atol=2e-4)


def test_a_process_is_told_how_many_codes_there_are():
    assert UniformState().bind((K, K)) == UniformState(codes=K)
    assert Masked().bind((K,)) == Masked() and Flow().bind((4,)) == Flow()
    with pytest.raises(
        ValueError, match="codes=5, but its tokens have codebooks of 3 codes; set codes=0"
    ):
        UniformState(codes=5).bind((K,))
    with pytest.raises(ValueError, match="codebooks of equal size"):
        UniformState().bind((K, 5))
    with pytest.raises(ValueError, match="codes=0; use process.bind"):
        UniformState().prior(jax.random.split(jax.random.key(0), 2), (4, 1))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"codes": -1}, "codes >= 0, got -1"),
        ({"auxiliary": -0.5}, "auxiliary >= 0, got -0.5"),
        ({"mask": 0.0}, r"mask in \(0, 1\), got 0.0; use UniformState"),
        ({"mask": 1.0}, "Masked for 1"),
    ],
)
def test_bad_fields_are_refused_by_value(fields, message):
    with pytest.raises(ValueError, match=message):
        MaskAndReplace(**fields)
