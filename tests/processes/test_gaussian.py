"""What all Gaussian processes share: Bayes' rule, weightings, and gradients that stay finite."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.config import from_json, to_json
from vqdit.processes import DDPM, EDM, EDMWeighting, Flow, MinSNR

TABLE = [
    pytest.param(process, id=f"{type(process).__name__}-{number}")
    for number, process in enumerate(
        [
            Flow(),
            Flow(path="gvp"),
            Flow(prediction="x_0"),
            Flow(prediction="x_0", weighting=MinSNR()),
            Flow(weighting=EDMWeighting()),
            DDPM(),
            DDPM(prediction="x_0", weighting=MinSNR()),
            DDPM(prediction="v", weighting=EDMWeighting(), schedule="cosine"),
            DDPM(learned_sigma=True),
            EDM(),
            EDM(weighting=MinSNR()),
        ]
    )
]
T = jnp.linspace(0.1, 1.0, 10)


@pytest.mark.parametrize("process", TABLE)
def test_the_posterior_is_that_of_bayes(process):
    t, s = jnp.asarray([0.9, 0.5, 0.2]), jnp.asarray([0.7, 0.1, 0.15])
    x_0, x_t = jnp.asarray([0.3, -1.0, 0.8]), jnp.asarray([1.0, 0.2, -0.4])
    alpha_t, alpha_s, sigma_t, sigma_s = (
        np.asarray(f(time), np.float64) for f in (process.alpha, process.sigma) for time in (t, s)
    )
    scale = alpha_t / alpha_s
    added = sigma_t**2 - (scale * sigma_s) ** 2
    precision = 1 / sigma_s**2 + scale**2 / added
    mean = (alpha_s * np.asarray(x_0) / sigma_s**2 + scale * np.asarray(x_t) / added) / precision
    shape = (3, 1, 1)
    found, variance = process.posterior(*(a.reshape(shape) for a in (x_0, x_t, t, s)))
    np.testing.assert_allclose(found.ravel(), mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance.ravel(), 1 / precision, rtol=1e-4)
    # Where it is not learned, a step has this variance; at s = 0 its logarithm is finite.
    prediction = jnp.full((3, 1, process.width((1,))), -1.0)
    log_variance = process.log_variance(prediction, t.reshape(shape), s.reshape(shape))
    np.testing.assert_allclose(log_variance.ravel(), -np.log(precision), atol=1e-3)
    at_0 = process.log_variance(prediction, t.reshape(shape), jnp.zeros(shape))
    assert np.isfinite(at_0).all()


@pytest.mark.parametrize("process", TABLE)
def test_gradients_are_finite_for_t_towards_0_and_1(process):
    times = jnp.asarray([0.0, 1e-7, 1e-6, 1e-4, 0.9, 1.0])[:, None]
    x_0 = jax.random.normal(jax.random.key(0), (6, 2, 3))
    x_t, eps = process.noise(jax.random.split(jax.random.key(1), 6), x_0, times)
    prediction = jax.random.normal(jax.random.key(2), (6, 2, process.width((3,))))

    def loss(prediction):
        return process.loss(prediction, x_0, x_t, eps, times).sum()

    value, gradient = jax.jit(jax.value_and_grad(loss))(prediction)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert not gradient[0].any()
    # At t = 1, where x_t says nothing of x_0, min-SNR gives its error no weight.
    assert np.abs(gradient[1:-1]).sum(axis=(1, 2)).all()


def snr(process):
    return np.asarray(process.alpha(T) ** 2 / process.sigma(T) ** 2, np.float64)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_min_snr_has_the_published_factors(schedule):
    factors = {
        "eps": lambda r: np.minimum(r, 5) / r,
        "x_0": lambda r: np.minimum(r, 5),
        "v": lambda r: np.minimum(r, 5) / (r + 1),
    }
    for prediction, factor in factors.items():
        process = DDPM(schedule=schedule, prediction=prediction, weighting=MinSNR())
        np.testing.assert_allclose(process.weight(T), factor(snr(process)), rtol=1e-4)


def test_the_weighting_of_edm_is_one_for_edm_and_what_karras_says_for_others():
    edm = EDM(sigma_data=0.5, weighting=EDMWeighting(sigma_data=0.5))
    np.testing.assert_allclose(edm.weight(T), 1.0, rtol=1e-5)
    process = DDPM(prediction="x_0", weighting=EDMWeighting(sigma_data=0.5))
    sigma = 1 / np.sqrt(snr(process))
    karras = (sigma**2 + 0.5**2) / (sigma * 0.5) ** 2
    np.testing.assert_allclose(process.weight(T), karras, rtol=1e-4)
    v = DDPM(prediction="v", weighting=EDMWeighting())
    np.testing.assert_allclose(v.weight(T), 1.0, rtol=1e-5)


@pytest.mark.parametrize("weighting", [MinSNR(), EDMWeighting()])
def test_a_weighted_loss_is_the_same_whatever_is_predicted(weighting):
    """Times differ between the processes; at one signal-to-noise ratio the estimate is one."""
    x_0, eps, guess = jax.random.normal(jax.random.key(0), (3, 1, 4, 5))
    t = jnp.full((1, 1), 0.3)
    same = EDM().time_of(DDPM().sigma(t) / DDPM().alpha(t))

    @functools.partial(jax.jit, static_argnums=0)
    def loss(process, t):
        alpha, sigma = process.alpha(t[..., None]), process.sigma(t[..., None])
        x_t = alpha * x_0 + sigma * eps
        # The same estimate of x_0, told as each network would.
        prediction = process.target(guess, (x_t - alpha * guess) / sigma, t[..., None])
        return process.loss(prediction, x_0, x_t, eps, t)

    others = [
        (DDPM(prediction="x_0"), t),
        (DDPM(prediction="v"), t),
        (EDM(), same),
        (Flow(), same),
        (Flow(prediction="x_0"), same),
    ]
    expected = loss(DDPM(weighting=weighting), t)
    for process, time in others:
        found = loss(dataclasses.replace(process, weighting=weighting), time)
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_scoring_loss_is_not_weighted():
    x_0, eps, guess = jax.random.normal(jax.random.key(0), (3, 2, 4, 5))
    t = jnp.full((2, 1), 0.4)
    plain, weighted = DDPM(), DDPM(weighting=MinSNR(gamma=0.1))
    x_t = plain.alpha(t[..., None]) * x_0 + plain.sigma(t[..., None]) * eps
    np.testing.assert_array_equal(
        plain.scoring_loss(guess, x_0, x_t, eps, t), weighted.scoring_loss(guess, x_0, x_t, eps, t)
    )


@pytest.mark.parametrize("process", TABLE)
def test_json_keeps_a_process(process):
    assert from_json(to_json(process)) == process


def test_processes_of_older_runs_are_read():
    assert from_json({"type": "vqdit.processes.flow:Flow"}) == Flow()


@pytest.mark.parametrize(
    "make",
    [
        lambda value: MinSNR(gamma=value),
        lambda value: EDMWeighting(sigma_data=value),
        lambda value: Flow(time_scale=value),
        lambda value: EDM(sigma_data=value),
        lambda value: EDM(sigma_min=value),
        lambda value: EDM(sigma_max=value),
    ],
)
def test_fields_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match=r"-2\.5"):
        make(-2.5)
