"""Samplers of Gaussian processes against closed forms: their order, and what they generate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.processes import DDPM, Flow
from vqdit.random import normal, streams
from vqdit.samplers import (
    DDIM,
    Ancestral,
    DPMSolver,
    Euler,
    EulerAncestral,
    Heun,
    UniPC,
    generate,
)
from vqdit.samplers.multistep import phi
from vqdit.samplers.spacing import noise_level, time_of
from vqdit.typing import Named

MEAN, STD = 1.0, 0.3
QUICK = {"xla_backend_optimization_level": 0}
"""Compiling takes longer than running here."""


def run(sampler, process, times, predict, x_1):
    """What a sampler makes of a start."""

    def sample(x_1):
        keys = jax.random.split(jax.random.key(0), len(x_1))
        each = Named(x=sampler), Named(x=process), Named(x=x_1), Named(x=times)
        return generate(keys, lambda x, t: Named(x=predict(x["x"], t["x"])), *each)["x"]

    return np.asarray(jax.jit(sample, compiler_options=QUICK)(x_1))


def exact(process, x, t, weights=(1.0,), means=(MEAN,), stds=(STD,)):
    """The denoiser of a mixture of normal distributions, as a prediction."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    w, m, c = (jnp.asarray(values) for values in (weights, means, stds))
    variance = alpha**2 * c**2 + sigma**2
    log_p = jnp.log(w) - 0.5 * (x - alpha * m) ** 2 / variance - 0.5 * jnp.log(variance)
    x_0 = jnp.sum(
        jax.nn.softmax(log_p, axis=-1) * (m + alpha * c**2 / variance * (x - alpha * m)),
        axis=-1,
        keepdims=True,
    )
    return process.target(x_0, (x - alpha * x_0) / sigma, t)


ORDERS = {
    "euler": (Euler, {}, 1, 0.5),
    "heun": (Heun, {}, 2, 0.5),
    "2M": (DPMSolver, {}, 2, 0.5),
    "3M": (DPMSolver, {"order": 3}, 2, 0.5),
    "3M corrected": (DPMSolver, {"order": 3, "corrected": True}, 3, 0.2),
    "unipc": (UniPC, {}, 2, 0.5),
}
"""Samplers, their order, and down to which noise level it is measured: not where errors cross 0."""


def error(name, steps):
    """The largest error of a sampler, whose steps are equal in log(alpha / sigma)."""
    process, (make, fields, _, lowest) = DDPM(prediction="v"), ORDERS[name]
    x_1 = jnp.linspace(-2.0, 2.0, 9)[:, None, None]

    def predict(x, t):
        return exact(process, x, t[..., None])

    def solution(t):
        """Along the ODE the distance from the mean grows with the spread of x_t."""
        start, end = jnp.float32(1.0), t
        spread = [process.alpha(u) ** 2 * STD**2 + process.sigma(u) ** 2 for u in (start, end)]
        away = (x_1 - process.alpha(start) * MEAN) * jnp.sqrt(spread[1] / spread[0])
        return process.alpha(end) * MEAN + away

    high = noise_level(process, jnp.float32(1.0))
    levels = jnp.exp(jnp.linspace(jnp.log(high), jnp.log(lowest), steps + 1))
    times = time_of(process, levels).at[0].set(1.0)
    x = run(make(steps=steps, **fields), process, times, predict, x_1)
    return np.abs(x - solution(times[-1])).max()


@pytest.mark.parametrize("name", ORDERS)
def test_half_the_step_leaves_an_error_of_the_order(name):
    measured = np.log2(error(name, 40) / error(name, 80))
    np.testing.assert_allclose(measured, ORDERS[name][2], atol=0.3)


def test_order_3_along_the_sde_is_that_of_k_diffusion():
    """diffusers' has 1/2 with the wrong sign in the coefficient of D_2, so it is no reference."""
    process, steps = DDPM(prediction="v"), 20
    high = noise_level(process, jnp.float32(1.0))
    levels = jnp.exp(jnp.linspace(jnp.log(high), jnp.log(0.2), steps + 1)) * jnp.asarray(
        [1.0, *(1.0 + 0.1 * np.sin(np.arange(steps)))]
    )
    times = time_of(process, levels).at[0].set(1.0)
    x_1 = jax.random.normal(jax.random.key(2), (3, 4, 1))

    def predict(x, t):
        return exact(process, x, t[..., None])

    sampler = DPMSolver(steps=steps, order=3, stochastic=True)
    found = run(sampler, process, times, predict, x_1)

    keys, fold = jax.random.split(jax.random.key(0), 3), jax.vmap(jax.random.fold_in, (0, None))
    alpha, sigma = (np.asarray(part(times), float) for part in (process.alpha, process.sigma))
    level, x, past = sigma / alpha, np.asarray(x_1, float) / alpha[0], []
    for i in range(steps):
        now = jnp.asarray(alpha[i] * x, jnp.float32), jnp.full((3, 1), times[i])
        x_0, _ = process.x_0_and_eps(predict(*now), now[0], times[i])
        past.append((np.asarray(x_0, float), np.log(level[i] / level[i + 1])))
        (m_0, h), whole = past[-1], 2.0 * past[-1][1]
        x = np.exp(-whole) * x - np.expm1(-whole) * m_0
        if i >= 2:
            (m_1, h_1), (m_2, h_2) = past[-2], past[-3]
            d_10, d_11 = (m_0 - m_1) / (h_1 / h), (m_1 - m_2) / (h_2 / h)
            share, change = h_1 / (h_1 + h_2), d_10 - d_11
            phi_2 = np.expm1(-whole) / whole + 1.0
            phi_3 = phi_2 / whole - 0.5
            x = x + phi_2 * (d_10 + share * change) - phi_3 * change / ((h_1 + h_2) / h)
        elif i == 1:
            x = x - 0.5 * np.expm1(-whole) * (m_0 - past[-2][0]) / (past[-2][1] / h)
        drawn = np.asarray(normal(fold(streams(keys, "x"), i), (4, 1)))
        x = x + level[i + 1] * np.sqrt(-np.expm1(-2.0 * h)) * drawn
    np.testing.assert_allclose(found, alpha[-1] * x, atol=1e-4)


def test_a_second_look_is_better_than_one():
    """Heun's method that forgot to correct would be Euler's."""
    assert error("heun", 40) < 0.2 * error("euler", 40)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_phi_keeps_its_digits(number):
    h = np.asarray([-80.0, -3.0, -1.0, -0.3, -1e-3, 1e-3, 0.7, 2.0])
    expected = np.expm1(h)
    series = [sum(x**k / _factorial(k + number - 1) for k in range(1, 60)) for x in h]
    for n in range(1, number):
        expected = expected / h - 1.0 / _factorial(n)
    expected = np.where(np.abs(h) < 2.5, series, expected)
    np.testing.assert_allclose(phi(number, jnp.asarray(h, jnp.float32)), expected, rtol=2e-6)


def _factorial(n):
    return float(np.prod(np.arange(1, n + 1), dtype=np.float64))


WEIGHTS, MEANS, STDS = (0.3, 0.7), (-1.0, 0.8), (0.2, 0.4)
FIRST, HIGHER = 120, 40
"""Steps after which nothing but chance is left of the error: of first order, and of higher."""
SAMPLERS = {
    "Euler": Euler(steps=FIRST),
    "EulerAncestral": EulerAncestral(steps=FIRST),
    "Ancestral": Ancestral(steps=FIRST),
    "DDIM": DDIM(steps=FIRST, eta=0.5),
    "Heun": Heun(steps=HIGHER),
    "DPMSolver": DPMSolver(steps=HIGHER),
    "DPMSolver-3": DPMSolver(steps=HIGHER, order=3),
    "DPMSolver-corrected": DPMSolver(steps=HIGHER, order=3, corrected=True),
    "DPMSolver-stochastic": DPMSolver(steps=HIGHER, stochastic=True),
    "DPMSolver-3-stochastic": DPMSolver(steps=HIGHER, order=3, stochastic=True),
    "UniPC": UniPC(steps=HIGHER),
    "UniPC-3": UniPC(steps=HIGHER, order=3),
}
PROCESSES = {"DDPM": DDPM(prediction="v"), "Flow": Flow()}


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_exact_denoiser_of_a_mixture_gives_the_mixture(sampler, process):
    sampler, process = SAMPLERS[sampler], PROCESSES[process]

    def predict(x, t):
        return exact(process, x, t[..., None], WEIGHTS, MEANS, STDS)

    times = sampler.times(process, jnp.linspace(1.0, 0.0, sampler.steps + 1))
    x_1 = jax.random.normal(jax.random.key(1), (8000, 1, 1))
    x = run(sampler, process, times, predict, x_1).ravel()
    w, m, c = (np.asarray(values) for values in (WEIGHTS, MEANS, STDS))
    moments = [w @ m, w @ (m**2 + c**2), w @ (m**3 + 3 * m * c**2)]
    for power, moment in enumerate(moments, 1):
        np.testing.assert_allclose(np.mean(x**power), moment, atol=0.04)
    np.testing.assert_allclose(np.mean(x < -0.4), WEIGHTS[0], atol=0.02)
