"""Every process keeps the contract. A new one is one line in TABLE."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.processes import (
    DDPM,
    EDM,
    CoarseToFine,
    CosMap,
    EDMWeighting,
    Flow,
    Gaussian,
    LogitNormal,
    MaskAndReplace,
    Masked,
    MinSNR,
    Mode,
    Shifted,
    Uniform,
    UniformState,
)

CODES, WIDTH, LENGTH, BATCH = 7, 3, 5, 6
TABLE = [
    pytest.param(Masked(), id="Masked-linear"),
    pytest.param(Masked(schedule="cosine"), id="Masked-cosine"),
    pytest.param(Masked(weighting="uniform"), id="Masked-uniform"),
    pytest.param(CoarseToFine(codebooks=2), id="CoarseToFine"),
    pytest.param(CoarseToFine(codebooks=2, weighting="uniform"), id="CoarseToFine-uniform"),
    pytest.param(UniformState(codes=CODES), id="UniformState"),
    pytest.param(UniformState(codes=CODES, schedule="cosine"), id="UniformState-cosine"),
    pytest.param(MaskAndReplace(codes=CODES), id="MaskAndReplace"),
    pytest.param(MaskAndReplace(codes=CODES, schedule="cosine"), id="MaskAndReplace-cosine"),
    pytest.param(Flow(), id="Flow"),
    pytest.param(Flow(prediction="x_0"), id="Flow-x_0"),
    pytest.param(Flow(prediction="x_0", weighting=EDMWeighting()), id="Flow-x_0-EDM"),
    pytest.param(Flow(path="gvp", weighting=MinSNR()), id="Flow-gvp-MinSNR"),
    pytest.param(Flow(path="gvp", prediction="x_0"), id="Flow-gvp-x_0"),
    pytest.param(Flow(convention="noise_first", time_scale=1.0), id="Flow-noise-first"),
    pytest.param(EDM(), id="EDM"),
    pytest.param(EDM(sigma_data=0.5, weighting=MinSNR()), id="EDM-MinSNR"),
    pytest.param(DDPM(), id="DDPM"),
    pytest.param(DDPM(schedule="cosine", prediction="x_0"), id="DDPM-cosine-x_0"),
    pytest.param(DDPM(schedule="scaled_linear", prediction="v"), id="DDPM-scaled-v"),
    pytest.param(DDPM(learned_sigma=True), id="DDPM-learned"),
    pytest.param(DDPM(prediction="v", learned_sigma=True), id="DDPM-v-learned"),
    pytest.param(DDPM(weighting=MinSNR()), id="DDPM-MinSNR"),
    pytest.param(DDPM(prediction="x_0", weighting=EDMWeighting()), id="DDPM-x_0-EDM"),
]


def data(process, key):
    if process.is_discrete:
        return jax.random.randint(key, (BATCH, LENGTH, 2), 0, CODES), (CODES, CODES)
    return jax.random.normal(key, (BATCH, LENGTH, WIDTH)), (WIDTH,)


def keys(number=0):
    return jax.random.split(jax.random.key(number), BATCH)


@pytest.mark.parametrize("process", TABLE)
def test_t_0_is_data_and_has_no_loss(process):
    x_0, space = data(process, jax.random.key(1))
    t = jnp.zeros((BATCH, 1))
    x_t, noise = process.noise(keys(), x_0, t)
    np.testing.assert_array_equal(x_t, x_0)
    prediction = jax.random.normal(jax.random.key(2), (BATCH, LENGTH, process.width(space)))

    def total(prediction):
        return process.loss(prediction, x_0, x_t, noise, t).sum()

    value, gradient = jax.value_and_grad(total)(prediction)
    assert value == 0.0
    np.testing.assert_array_equal(gradient, jnp.zeros_like(gradient))
    assert not process.scoring_loss(prediction, x_0, x_t, noise, t).any()


@pytest.mark.parametrize("process", TABLE)
def test_t_1_is_the_prior_and_what_is_left_of_the_data(process):
    x_0, _ = data(process, jax.random.key(1))
    x_1, _ = process.noise(keys(), x_0, jnp.ones((BATCH, 1)))
    prior = process.prior(keys(), x_0.shape[1:])
    if isinstance(process, Gaussian):
        alpha, sigma = process.alpha(jnp.float32(1.0)), process.sigma(jnp.float32(1.0))
        x_1, prior = (x_1 - alpha * x_0) / sigma, prior / sigma  # in units of the noise
    np.testing.assert_allclose(x_1, prior, atol=1e-6)


@pytest.mark.parametrize("process", [p for p in TABLE if isinstance(p.values[0], Gaussian)])
def test_a_prediction_says_what_data_and_noise_are(process):
    x_0, space = data(process, jax.random.key(1))
    t = jnp.linspace(0.1, 1.0, BATCH)[:, None]
    x_t, eps = process.noise(keys(), x_0, t)
    prediction = process.oracle(x_0, x_t, eps, t, space)
    found = process.x_0_and_eps(prediction, x_t, t[..., None])
    np.testing.assert_allclose(found[0], x_0, atol=1e-3)  # eps, divided by alpha(1) = 0.006
    np.testing.assert_allclose(found[1], eps, atol=1e-5)


@pytest.mark.parametrize("process", TABLE)
def test_network_input_is_finite_at_both_ends(process):
    x_0, _ = data(process, jax.random.key(1))
    for t in (0.0, 1.0):
        chex.assert_tree_all_finite(process.network_input(x_0, jnp.full((BATCH, 1), t)))


@pytest.mark.parametrize("process", TABLE)
def test_the_oracle_minimises_the_loss(process):
    x_0, space = data(process, jax.random.key(1))
    t = jnp.linspace(0.2, 1.0, BATCH)[:, None]
    x_t, noise = process.noise(keys(), x_0, t)
    oracle = process.oracle(x_0, x_t, noise, t, space)
    assert oracle.shape == (BATCH, LENGTH, process.width(space))
    best = process.loss(oracle, x_0, x_t, noise, t)
    np.testing.assert_allclose(best, 0.0, atol=1e-6)
    other = oracle + 3e4 * jax.random.normal(jax.random.key(3), oracle.shape)
    assert process.loss(other, x_0, x_t, noise, t).sum() > best.sum()
    np.testing.assert_allclose(process.scoring_loss(oracle, x_0, x_t, noise, t), 0.0, atol=1e-6)
    # At t = 1 the cosine schedule has no more to learn; elsewhere every process has.
    less = process.scoring_loss(other, x_0, x_t, noise, t)
    learns = less.sum(axis=1)[:-1] > 0.0
    has_few = isinstance(process, CoarseToFine)  # codes of one codebook, perhaps none at t
    assert (learns.mean() >= 0.6 if has_few else learns.all()) and (less >= 0.0).all()


@pytest.mark.parametrize("process", TABLE)
def test_each_example_depends_on_its_own_key_alone(process):
    x_0, _ = data(process, jax.random.key(1))
    t = jnp.full((BATCH, 1), 0.5)
    together = process.noise(keys(), x_0, t)[0]
    order = jnp.asarray([3, 1, 5, 0, 4, 2])
    np.testing.assert_array_equal(process.noise(keys()[order], x_0[order], t)[0], together[order])
    alone = process.noise(keys()[2:3], x_0[2:3], t[2:3])[0]
    np.testing.assert_array_equal(alone, together[2:3])


@pytest.mark.parametrize("process", TABLE)
def test_time_per_token_agrees_with_time_per_example(process):
    x_0, space = data(process, jax.random.key(1))
    t = jnp.linspace(0.1, 0.9, BATCH)[:, None]
    many = jnp.broadcast_to(t, (BATCH, LENGTH))
    one, noise = process.noise(keys(), x_0, t)
    other, _ = process.noise(keys(), x_0, many)
    np.testing.assert_array_equal(one, other)
    prediction = jax.random.normal(jax.random.key(2), (BATCH, LENGTH, process.width(space)))
    np.testing.assert_allclose(
        process.loss(prediction, x_0, one, noise, t),
        process.loss(prediction, x_0, one, noise, many),
        rtol=1e-6,
    )


@pytest.mark.parametrize("distribution", [Uniform(), LogitNormal(), LogitNormal(mean=1.0, std=0.5)])
def test_time_distributions_have_their_distribution_and_no_zero(distribution):
    n = 4096
    t = np.asarray(distribution.sample(jax.random.key(0), jnp.arange(n), n))
    assert t.shape == (n, 1)
    assert (t > 0).all()
    assert (t <= 1).all()
    logit = np.log(t) - np.log1p(-np.minimum(t, 1 - 1e-7))
    if isinstance(distribution, LogitNormal):
        np.testing.assert_allclose(logit.mean(), distribution.mean, atol=0.02)
        np.testing.assert_allclose(logit.std(), distribution.std, rtol=0.02)
    else:
        np.testing.assert_allclose(np.sort(t[:, 0]), (np.arange(n) + 0.5) / n, atol=2e-3)


DISTRIBUTIONS = [
    Uniform(),
    Uniform(low=0.2),
    LogitNormal(mean=1.0, std=0.5),
    Mode(),
    Mode(scale=-1.0),
    CosMap(),
    Shifted(),
    Shifted(distribution=LogitNormal(), shift=0.3),
]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_quantile_lies_above_its_share_of_all_draws(distribution):
    n = 4096
    t = distribution.sample(jax.random.key(0), jnp.arange(n), n)
    for share in (0.1, 0.5, 0.9):
        np.testing.assert_allclose(
            jnp.mean(t <= distribution.quantile(jnp.asarray(share))), share, atol=1e-3
        )
    assert (jnp.diff(distribution.quantile(jnp.linspace(0.01, 1.0, 50))) > 0.0).all()
    least, most = distribution.quantile(jnp.asarray([2.0**-24, 1.0]))
    assert least > 0.0 and most <= 1.0


def test_a_row_draws_the_same_time_in_any_slice_of_the_batch():
    whole = Uniform().sample(jax.random.key(0), jnp.arange(8), 8)
    part = Uniform().sample(jax.random.key(0), jnp.arange(4, 8), 8)
    np.testing.assert_array_equal(whole[4:], part)
