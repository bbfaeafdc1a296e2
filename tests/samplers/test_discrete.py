"""Samplers of codes have the distribution of the network, where it can be written out."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vqdit.processes import MaskAndReplace, Masked, UniformState
from vqdit.processes.categorical import MASK
from vqdit.samplers import DiscreteAncestral, ReMDM, ReMDMLoop, Step, Unmasking, trajectory
from vqdit.samplers.drawing import draw, gumbel, tempered
from vqdit.typing import Named

K, LENGTH, SAMPLES = 3, 3, 3000
STATES = np.asarray(list(itertools.product(range(K), repeat=LENGTH)))
UNIFORM, BOTH = UniformState(codes=K), MaskAndReplace(codes=K, mask=0.6)


def chain():
    """The probabilities of all states of a Markov chain in which neighbours tend to be alike."""
    start = np.asarray([0.5, 0.3, 0.2])
    step = np.asarray([[0.8, 0.15, 0.05], [0.1, 0.7, 0.2], [0.3, 0.05, 0.65]])
    p = start[STATES[:, 0]]
    for position in range(1, LENGTH):
        p = p * step[STATES[:, position - 1], STATES[:, position]]
    return p


def exact(process):
    """The network that knows the chain: pi of each position, given what is seen of the others."""
    states, log_p = jnp.asarray(STATES), jnp.log(jnp.asarray(chain(), jnp.float32))

    def predict(x, t):
        x_t, t = x["a"], t["a"][..., None]  # b l 1
        alpha, gamma = 1.0 - process.noise_share(t), process.mask_probability(t)
        beta = jnp.maximum(1.0 - alpha - gamma, 0.0) / K
        seen = alpha * (x_t == states.T[None]) + beta  # b l 27
        log_q = jnp.log(jnp.maximum(jnp.where(x_t == MASK, 1.0, seen), 1e-30))
        others = jnp.sum(log_q, axis=1, keepdims=True) - log_q
        is_code = states.T[..., None] == jnp.arange(K)  # l 27 k
        weight = jnp.where(is_code, (log_p + others)[..., None], -jnp.inf)  # b l 27 k
        return Named(a=jax.nn.logsumexp(weight, axis=2))

    return predict


def run(sampler, process, predict, samples=SAMPLES, length=LENGTH, seed=0):
    """Samples, and the path to them."""
    keys = jax.random.split(jax.random.key(seed), samples)
    x_1 = process.prior(jax.random.split(jax.random.key(seed + 1), samples), (length, 1))
    times = Named(a=sampler.times(process, jnp.linspace(1.0, 0.0, sampler.steps + 1)))
    each = Named(a=sampler), Named(a=process), Named(a=x_1)
    x, path = jax.jit(lambda keys: trajectory(keys, predict, *each, times))(keys)
    return np.asarray(x["a"])[..., 0], np.asarray(path["a"])[..., 0]


def chi_square(x):
    """The probability of a deviation from the chain as large as that of the samples."""
    index = np.ravel_multi_index(tuple(x.T), (K,) * LENGTH)
    return stats.chisquare(np.bincount(index, minlength=K**LENGTH), SAMPLES * chain()).pvalue


@pytest.mark.parametrize(
    ("sampler", "process"),
    [
        pytest.param(DiscreteAncestral(steps=100), Masked(), id="ancestral-Masked"),
        pytest.param(DiscreteAncestral(steps=100), Masked(schedule="cosine"), id="ancestral-cos"),
        pytest.param(DiscreteAncestral(steps=100), UNIFORM, id="ancestral-UniformState"),
        pytest.param(DiscreteAncestral(steps=100), BOTH, id="ancestral-MaskAndReplace"),
        pytest.param(ReMDM(steps=100, eta=0.01), Masked(), id="ReMDM-cap"),
        pytest.param(ReMDM(steps=100, eta=0.01, variant="rescale"), Masked(), id="ReMDM-rescale"),
        pytest.param(ReMDMLoop(steps=100), Masked(), id="ReMDMLoop"),
        pytest.param(ReMDMLoop(steps=100), Masked(schedule="cosine"), id="ReMDMLoop-cosine"),
        pytest.param(Unmasking(steps=3, order="random"), Masked(), id="Unmasking-random"),
        pytest.param(Unmasking(steps=3, order="halton"), Masked(), id="Unmasking-halton"),
    ],
)
def test_samples_have_the_distribution_of_an_exact_network(sampler, process):
    x, _ = run(sampler, process, exact(process))
    assert chi_square(x) > 0.01


@pytest.mark.parametrize("process", [Masked(), UNIFORM, BOTH])
def test_one_step_draws_every_position_by_itself_which_the_test_above_sees(process):
    x, _ = run(DiscreteAncestral(steps=1), process, exact(process))
    assert chi_square(x) < 1e-9
    for position in range(LENGTH):  # yet every position alone is right
        expected = np.bincount(STATES[:, position], chain(), minlength=K)
        share = np.bincount(x[:, position], minlength=K)
        assert stats.chisquare(share, SAMPLES * expected).pvalue > 0.01


def knows_nothing(x, t):
    return Named(a=jnp.zeros((*x["a"].shape[:2], 5)))


@pytest.mark.parametrize(
    "sampler",
    [
        DiscreteAncestral(steps=10),
        ReMDM(steps=10, eta=0.1),
        ReMDM(steps=10, eta=0.3, variant="rescale"),
    ],
)
@pytest.mark.parametrize("process", [Masked(), Masked(schedule="cosine")])
def test_as_many_are_masked_at_every_time_as_in_training(sampler, process):
    _, path = run(sampler, process, knows_nothing, samples=1000, length=20)
    share = (path == MASK).mean(axis=(1, 2))
    expected = process.mask_probability(jnp.linspace(1.0, 0.0, 11))[:-1]
    np.testing.assert_allclose(share, expected, atol=0.015)  # 4 standard errors are 0.014


@pytest.mark.parametrize("process", [Masked(), Masked(schedule="cosine")])
def test_the_loop_masks_again_while_the_share_of_masks_stays(process):
    sampler = ReMDMLoop(steps=20, eta=0.2, loop_from=0.6, loop_to=0.2, hold=0.3)
    even = jnp.linspace(1.0, 0.0, 21)
    times = sampler.times(process, even)
    assert times[0] == 1.0 and times[-1] == 0.0 and (np.diff(times) < 0.0).all()
    share = process.mask_probability(times)
    expected = np.interp(even, [0.0, 0.2, 0.6, 1.0], [0.0, 0.297, 0.3, 1.0])
    np.testing.assert_allclose(share, expected, atol=1e-5)
    np.testing.assert_array_equal(sampler.times(process, jnp.zeros(5)), np.zeros(5))
    _, path = run(sampler, process, knows_nothing, samples=1000, length=20)
    np.testing.assert_allclose((path == MASK).mean(axis=(1, 2)), share[:-1], atol=0.015)
    again = (path[:-1] != MASK) & (path[1:] == MASK)
    often = again.sum(axis=(1, 2)) / (path[:-1] != MASK).sum(axis=(1, 2)).clip(1)
    loop = slice(8, 16)  # the steps from 0.6, 0.55, ..., 0.25
    np.testing.assert_allclose(often[loop], 0.2, atol=0.015)
    assert not often[:8].any() and not often[16:].any()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"eta": 1.5}, r"eta in \[0, 1\], got 1.5"),
        ({"loop_from": 0.2, "loop_to": 0.3}, "0 < loop_to < loop_from < 1, got 0.3 and 0.2"),
        ({"loop_from": 1.0}, "0 < loop_to < loop_from < 1"),
        ({"hold": 0.0}, r"hold in \(0, 1\), got 0.0"),
    ],
)
def test_a_loop_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=f"ReMDMLoop needs {message}"):
        ReMDMLoop(**fields)


def hidden_again(path):
    """Which steps mask something that was revealed."""
    return ((path[:-1] != MASK) & (path[1:] == MASK)).any(axis=(1, 2))


def test_only_remdm_masks_again_and_only_from_its_start():
    for sampler in (DiscreteAncestral(steps=10), ReMDM(steps=10, eta=0.0), Unmasking(steps=10)):
        x, path = run(sampler, Masked(), knows_nothing, samples=50, length=20)
        assert not hidden_again(path).any() and (x >= 0).all()
        is_revealed = path[:-1] != MASK
        np.testing.assert_array_equal(path[1:][is_revealed], path[:-1][is_revealed])
    x, path = run(ReMDM(steps=10, eta=0.3, start=0.5), Masked(), knows_nothing, 50, 20)
    again = hidden_again(path)  # of the steps from t = 1.0, 0.9, ..., 0.2
    assert not again[:5].any() and again[5:].all() and (x >= 0).all()


def test_remdm_by_confidence_masks_what_was_least_probable():
    sampler, no = ReMDM(variant="confidence", eta=1.0), jnp.inf
    confidence = jnp.asarray([[[0.9], [0.1], [no], [no]]])
    is_masked = jnp.asarray([[[False], [False], [False], [True]]])
    found = sampler._sigma(jnp.float32(0.5), jnp.float32(0.4), confidence, is_masked)
    weight = np.exp([-0.9, -0.1])
    np.testing.assert_allclose(found[0, :2, 0], 0.8 * weight / weight.sum(), rtol=1e-6)
    np.testing.assert_array_equal(found[0, 2:, 0], [0.0, 0.0])  # given, or masked already
    nothing = sampler._sigma(jnp.float32(1.0), jnp.float32(0.9), jnp.full((1, 4, 1), no), is_masked)
    assert np.isfinite(nothing).all() and not nothing.any()


def test_remdm_remembers_how_probable_a_code_was():
    sampler, p = ReMDM(variant="confidence", eta=0.0), jnp.asarray([0.7, 0.3])
    keys = jax.random.split(jax.random.key(0), 1)
    x_1 = Masked().prior(keys, (50, 1))
    logits = jnp.broadcast_to(jnp.log(p), (1, 50, 2))
    carry = sampler.init(Masked(), x_1, jnp.asarray([1.0, 0.5, 0.0]))
    step = Step(keys, Masked(), logits, x_1, jnp.float32(1.0), jnp.float32(0.5), carry)
    x_s, carry = (np.asarray(part)[0, :, 0] for part in sampler.step(step))
    expected = np.where(x_s == MASK, np.inf, np.asarray(p)[x_s])
    np.testing.assert_allclose(carry, expected, rtol=1e-6)
    assert 10 < (x_s == MASK).sum() < 40


@pytest.mark.parametrize("sampler", [DiscreteAncestral(temperature=0.0), ReMDM(temperature=0.0)])
def test_without_temperature_the_likeliest_code_is_taken(sampler):
    best = jnp.asarray([2, 0, 4, 1])
    logits = jnp.broadcast_to(jax.nn.one_hot(best, 5), (8, 4, 5))
    x, _ = run(sampler, Masked(), lambda x, t: Named(a=logits), samples=8, length=4)
    np.testing.assert_array_equal(x, np.broadcast_to(best, (8, 4)))


def test_uniform_noise_is_mended_while_masked_codes_stay():
    """Codes that are revealed early change later, if the network changes its mind."""

    def predict(x, t):
        late = (t["a"] < 0.5)[..., None]  # b 1 1
        likes = jnp.where(late, jnp.arange(4) == 1, jnp.arange(4) == 0)
        return Named(a=jnp.broadcast_to(50.0 * likes, (*x["a"].shape[:2], 4)))

    x, _ = run(DiscreteAncestral(steps=20), UniformState(codes=4), predict, 50, 20)
    assert (x == 1).all()
    x, _ = run(DiscreteAncestral(steps=20), Masked(), predict, 50, 20)
    np.testing.assert_allclose((x == 0).mean(), 0.5, atol=0.1)


def test_the_tail_of_gumbel_noise_is_fine():
    """Short noise is -log(-log u) of a multiple u of 2^-23, so that exp(-x) is one at its top."""
    short_keys, keys = jax.random.split(jax.random.key(0), (2, 8))
    shape = (2**18,)

    def off_grid(noise):
        top = np.sort(np.asarray(noise, np.float64).ravel())[-40:]
        grid = np.exp(-top) * 2.0**23
        return np.abs(grid - np.round(grid)).max()

    short = jax.vmap(lambda key: jax.random.gumbel(key, shape, mode="low"))(short_keys)
    assert off_grid(short) < 0.1
    assert off_grid(gumbel(keys, shape)) > 0.2


def test_draws_have_the_tempered_distribution():
    n, logits = 20_000, np.asarray([1.0, 0.0, -1.0, -2.0])
    shaped = jnp.broadcast_to(jnp.asarray(logits, jnp.float32), (n, 1, 1, 4))
    for seed, temperature in enumerate((0.5, 1.0, 2.0)):
        keys = jax.random.split(jax.random.key(seed), n)
        p = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
        drawn = draw(keys, tempered(shaped, temperature, 1.0))
        assert stats.chisquare(np.bincount(drawn.ravel(), minlength=4), n * p).pvalue > 0.01


@pytest.mark.parametrize(
    ("top_p", "left"), [(0.05, 1), (0.39, 1), (0.41, 2), (0.69, 2), (0.71, 3), (0.95, 4), (1.0, 4)]
)
def test_the_nucleus_is_the_likeliest_codes_that_make_up_the_share(top_p, left):
    p = jnp.asarray([0.1, 0.4, 0.2, 0.3])
    found = tempered(jnp.log(p)[None, None, None], 1.0, top_p)[0, 0, 0]
    expected = np.where(np.argsort(np.argsort(-np.asarray(p))) < left, np.log(p), -np.inf)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", [Unmasking, DiscreteAncestral, ReMDM, ReMDMLoop])
def test_bad_settings_of_drawing_are_refused_by_value(kind):
    with pytest.raises(ValueError, match=f"{kind.__name__} needs temperature >= 0, got -1.0"):
        kind(temperature=-1.0)
    for top_p in (0.0, 1.5):
        with pytest.raises(ValueError, match=rf"{kind.__name__} needs top_p in \(0, 1\], got"):
            kind(top_p=top_p)
    with pytest.raises(ValueError, match="eta in"):
        ReMDM(eta=1.5)


def test_samplers_of_masks_name_the_one_that_fits_other_codes():
    for sampler in (Unmasking(), ReMDM()):
        with pytest.raises(ValueError, match="got UniformState; use DiscreteAncestral"):
            sampler.check(UniformState())
