"""DDPM has the published tables, and its learned variance the published bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.processes import DDPM, MinSNR

N = 1000
SCHEDULES = [
    ("linear", {"beta_schedule": "linear"}),
    ("scaled_linear", {"beta_schedule": "scaled_linear", "beta_start": 8.5e-4, "beta_end": 0.012}),
    ("cosine", {"beta_schedule": "squaredcos_cap_v2"}),
]


def steps(*numbers):
    """The times of steps of the table, counted from 0."""
    return (jnp.asarray(numbers, jnp.float32) + 1) / N


@pytest.mark.peers
@pytest.mark.parametrize(("schedule", "fields"), SCHEDULES)
def test_the_tables_are_those_of_diffusers(schedule, fields):
    diffusers = pytest.importorskip("diffusers")
    table = diffusers.DDPMScheduler(num_train_timesteps=N, **fields).alphas_cumprod.numpy()
    process, t = DDPM(schedule=schedule), steps(*range(N))
    np.testing.assert_allclose(process.alpha(t) ** 2, table, atol=1e-6)
    np.testing.assert_allclose(process.sigma(t) ** 2, 1 - table, atol=1e-6)
    np.testing.assert_allclose(
        process.network_input(t, t[:, None])[1][:, 0], np.arange(N), atol=1e-3
    )


@pytest.mark.peers
@pytest.mark.parametrize(("schedule", "fields"), SCHEDULES)
def test_respaced_learned_variances_are_those_of_diffusers(schedule, fields):
    diffusers, torch = pytest.importorskip("diffusers"), pytest.importorskip("torch")
    peer = diffusers.DDPMScheduler(
        variance_type="learned_range", timestep_spacing="trailing", **fields
    )
    peer.set_timesteps(20)
    process = DDPM(schedule=schedule, learned_sigma=True)
    fraction = np.linspace(-1.2, 1.2, 7, dtype=np.float32).reshape(1, 7, 1)
    prediction = jnp.concatenate([jnp.zeros((1, 7, 1)), fraction], axis=-1)
    for number in peer.timesteps.tolist()[:-1]:
        theirs = peer._get_variance(number, predicted_variance=torch.from_numpy(fraction))
        ours = process.log_variance(prediction, *steps(number, number - 50))
        np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_the_last_step_borrows_the_variance_of_the_one_before():
    process = DDPM(learned_sigma=True)
    betas = np.linspace(1e-4, 0.02, N)
    alphas = np.cumprod(1 - betas)
    posterior = betas[1] * (1 - alphas[0]) / (1 - alphas[1])
    t, s = steps(0)[0], jnp.float32(0.0)
    least = process.log_variance(jnp.asarray([[[0.0, -1.0]]]), t, s)
    most = process.log_variance(jnp.asarray([[[0.0, 1.0]]]), t, s)
    np.testing.assert_allclose(least, np.log(posterior), rtol=1e-4)
    np.testing.assert_allclose(most, np.log(betas[0]), rtol=1e-4)
    whole = process.log_variance(jnp.zeros((1, 1, 2)), jnp.float32(1.0), s)
    assert np.isfinite(whole).all() and np.isfinite(DDPM().log_variance(most, t, s))


def published_bound(x_0, x_t, eps, fraction, number):
    """The term of step `number`, in bits, by the tables and the equations of the published code."""
    betas = np.linspace(1e-4, 0.02, N)
    alphas = np.cumprod(1 - betas)
    before = np.append(1.0, alphas[:-1])
    variance = betas * (1 - before) / (1 - alphas)
    log_clipped = np.log(np.append(variance[1], variance[1:]))
    i = number

    def mean(x_0):
        share = betas[i] * np.sqrt(before[i]) / (1 - alphas[i])
        kept = (1 - before[i]) * np.sqrt(1 - betas[i]) / (1 - alphas[i])
        return share * x_0 + kept * x_t

    found = x_t / np.sqrt(alphas[i]) - np.sqrt(1 / alphas[i] - 1) * eps
    log_variance = (fraction + 1) / 2 * np.log(betas[i]) + (1 - fraction) / 2 * log_clipped[i]
    if i > 0:
        difference = mean(x_0) - mean(found)
        nats = 0.5 * (
            -1.0
            + log_variance
            - log_clipped[i]
            + np.exp(log_clipped[i] - log_variance)
            + difference**2 * np.exp(-log_variance)
        )
    else:

        def cdf(x):
            return 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

        std, centred = np.exp(0.5 * log_variance), x_0 - mean(found)
        plus, minus = cdf((centred + 1 / 255) / std), cdf((centred - 1 / 255) / std)
        p = np.where(x_0 < -0.999, plus, np.where(x_0 > 0.999, 1 - minus, plus - minus))
        nats = -np.log(np.maximum(p, 1e-12))
    return nats.mean(axis=-1) / np.log(2)


def setting(numbers, channels=4):
    """Data, noise and a prediction of both parts, one row for every step."""
    draw = np.random.default_rng(0).normal
    shape = (len(numbers), 3, channels)
    process, t = DDPM(learned_sigma=True), steps(*numbers)[:, None]
    x_0, eps = draw(size=shape), draw(size=shape)
    alpha, sigma = np.asarray(process.alpha(t[..., None])), np.asarray(process.sigma(t[..., None]))
    guess, fraction = eps + 0.1 * draw(size=shape), 0.7 * draw(size=shape)
    return process, t, x_0, alpha * x_0 + sigma * eps, eps, guess, fraction


def test_the_bound_is_that_of_the_published_code():
    numbers = (0, 1, 2, 300, 700, 999)
    process, t, x_0, x_t, _, guess, fraction = setting(numbers)
    prediction = np.concatenate([guess, fraction], axis=-1)
    found = process.bound(*(jnp.asarray(a, jnp.float32) for a in (prediction, x_0, x_t)), t)
    for row, number in enumerate(numbers):
        expected = published_bound(x_0[row], x_t[row], guess[row], fraction[row], number)
        np.testing.assert_allclose(found[row], expected, rtol=1e-3, atol=1e-5)


def test_only_the_variance_learns_from_the_bound():
    process, t, x_0, x_t, eps, guess, fraction = setting((0, 1, 500, 999))
    x_0, x_t, eps, guess, fraction = (
        jnp.asarray(a, jnp.float32) for a in (x_0, x_t, eps, guess, fraction)
    )

    def loss(guess, fraction):
        prediction = jnp.concatenate([guess, fraction], axis=-1)
        return process.loss(prediction, x_0, x_t, eps, t).sum()

    def plain(guess):
        return DDPM().loss(guess, x_0, x_t, eps, t).sum()

    of_guess, of_fraction = jax.jit(jax.grad(loss, argnums=(0, 1)))(guess, fraction)
    np.testing.assert_array_equal(of_guess, jax.jit(jax.grad(plain))(guess))
    assert np.isfinite(of_fraction).all()
    assert (jnp.abs(of_fraction).sum(axis=(1, 2)) > 0).all()


def test_the_bound_is_exact_where_the_network_knows_the_data_to_be_normal():
    """All terms, and what is left of the data at t = 1, are -log p(x_0): nothing is lost.

    A term is a mean of squares, which the four signs of x_0 and eps have exactly.
    """
    spread = 0.3
    process = DDPM(learned_sigma=True)
    x_0 = spread * jnp.broadcast_to(jnp.asarray([1.0, 1.0, -1.0, -1.0]), (N, 1, 4))
    noise = jnp.broadcast_to(jnp.asarray([1.0, -1.0, 1.0, -1.0]), (N, 1, 4))

    @jax.jit
    def terms():
        t = steps(*range(N))[:, None, None]
        s = jnp.maximum(t - 1 / N, 0.0).at[0].set(0.0)
        alpha, sigma = process.alpha(t), process.sigma(t)
        x_t = alpha * x_0 + sigma * noise
        # E[x_0 | x_t], and the variance that x_s then has.
        total = (alpha * spread) ** 2 + sigma**2
        guess = alpha * spread**2 / total * x_t
        _, added = process.transition(t, s)
        share = process.alpha(s) * added / sigma**2
        variance = added * (process.sigma(s) / sigma) ** 2 + (share * spread * sigma) ** 2 / total
        least, most = (process.log_variance(jnp.full((N, 1, 2), f), t, s) for f in (-1.0, 1.0))
        fraction = 2 * (jnp.log(variance) - least) / (most - least) - 1
        eps = (x_t - alpha * guess) / sigma
        prediction = jnp.concatenate([eps, jnp.broadcast_to(fraction, eps.shape)], axis=-1)
        return process.bound(prediction, x_0, x_t, t[..., 0]), alpha[-1], sigma[-1]

    bits, alpha, sigma = (np.asarray(a, np.float64) for a in terms())
    rest = 0.5 * ((alpha * spread) ** 2 + sigma**2 - 1 - np.log(sigma**2))
    exact = 0.5 * np.log(2 * np.pi * np.e * spread**2) - np.log(2 / 255)
    np.testing.assert_allclose(bits.sum() * np.log(2) + rest, exact, rtol=1e-3)


def test_the_weighting_leaves_the_bound_alone():
    process, t, x_0, x_t, eps, guess, fraction = setting((100, 900))
    x_0, x_t, eps = (jnp.asarray(a, jnp.float32) for a in (x_0, x_t, eps))
    prediction = jnp.asarray(np.concatenate([guess, fraction], axis=-1), jnp.float32)
    weighted = DDPM(learned_sigma=True, weighting=MinSNR())
    found = weighted.loss(prediction, x_0, x_t, eps, t) - process.loss(prediction, x_0, x_t, eps, t)
    error = process.scoring_loss(prediction, x_0, x_t, eps, t)
    np.testing.assert_allclose(found, (weighted.weight(t) - 1.0) * error, atol=1e-6)


def test_what_is_guided_is_the_first_half():
    prediction = jnp.arange(12.0).reshape(1, 2, 6)
    guided, variance = DDPM(learned_sigma=True).split(prediction)
    np.testing.assert_array_equal(guided, prediction[..., :3])
    np.testing.assert_array_equal(variance, prediction[..., 3:])
    assert DDPM(learned_sigma=True).width((3,)) == 6
    assert DDPM().split(prediction)[1] is None
