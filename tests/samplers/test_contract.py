"""Every sampler with an oracle network gives the exact sample, and leaves the known alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.processes import Flow, Masked
from vqdit.samplers import Euler, Unmasking, generate, guided, without
from vqdit.typing import Named

CODES, LENGTH, BATCH = 7, 6, 4
TABLE = [
    pytest.param(Unmasking(steps=4), Masked(), id="Unmasking"),
    pytest.param(Unmasking(steps=4), Masked(schedule="cosine"), id="Unmasking-cosine"),
    pytest.param(Unmasking(steps=9, temperature=0.0, noise=0.0), Masked(), id="Unmasking-greedy"),
    pytest.param(Euler(steps=5), Flow(), id="Euler"),
]


def keys(number=0):
    return jax.random.split(jax.random.key(number), BATCH)


def setting(process):
    if process.is_discrete:
        return jax.random.randint(jax.random.key(1), (BATCH, LENGTH, 1), 0, CODES), (CODES,)
    return jax.random.normal(jax.random.key(1), (BATCH, LENGTH, 3)), (3,)


def oracle(process, x_0, space, x_1):
    noise = None if process.is_discrete else x_1

    def predict(x, t):
        return Named(a=process.oracle(x_0, x["a"], noise, t["a"], space))

    return predict


def run(sampler, process, predict, x_1, *, known=None):
    times = Named(a=jnp.linspace(1.0, 0.0, sampler.steps + 1))
    return generate(
        keys(), predict, Named(a=sampler), Named(a=process), Named(a=x_1), times, known=known
    )["a"]


@pytest.mark.parametrize(("sampler", "process"), TABLE)
def test_an_oracle_network_gives_the_exact_sample(sampler, process):
    x_0, space = setting(process)
    x_1 = process.prior(keys(), x_0.shape[1:])
    x = run(sampler, process, oracle(process, x_0, space, x_1), x_1)
    np.testing.assert_allclose(x, x_0, atol=1e-5)


@pytest.mark.parametrize(("sampler", "process"), TABLE)
def test_jit_changes_nothing(sampler, process):
    x_0, space = setting(process)
    x_1 = process.prior(keys(), x_0.shape[1:])
    predict = oracle(process, x_0, space, x_1)
    jitted = jax.jit(lambda x_1: run(sampler, process, predict, x_1))(x_1)
    np.testing.assert_allclose(jitted, run(sampler, process, predict, x_1), atol=1e-5)


@pytest.mark.parametrize(("sampler", "process"), TABLE)
def test_known_positions_are_seen_clean_and_never_change(sampler, process):
    x_0, space = setting(process)
    other = jnp.flip(x_0, axis=0)
    known = jnp.arange(LENGTH) < 2
    x_1 = process.prior(keys(), x_0.shape[1:])
    x_1 = jnp.where(known[:, None], other, x_1)
    noise = oracle(process, x_0, space, process.prior(keys(), x_0.shape[1:]))

    def predict(x, t):
        # The network itself is told: t is per token, 0 where known.
        assert t["a"].shape == (BATCH, LENGTH)
        return noise(x, t)

    known = Named(a=jnp.broadcast_to(known, (BATCH, LENGTH)))
    x = run(sampler, process, predict, x_1, known=known)
    np.testing.assert_array_equal(x[:, :2], other[:, :2])
    np.testing.assert_allclose(x[:, 2:], x_0[:, 2:], atol=1e-5)


@pytest.mark.parametrize(("sampler", "process"), TABLE)
def test_a_sample_depends_on_its_own_key_alone(sampler, process):
    if not process.is_discrete:
        pytest.skip("the ODE draws nothing after its start")
    _, space = setting(process)
    logits = jax.random.normal(jax.random.key(5), (LENGTH, CODES))

    def go(keys):
        x_1 = process.prior(keys, (LENGTH, 1))
        predict = lambda x, t: Named(a=jnp.broadcast_to(logits, (len(x["a"]), *logits.shape)))  # noqa: E731
        times = Named(a=jnp.linspace(1.0, 0.0, sampler.steps + 1))
        return generate(keys, predict, Named(a=sampler), Named(a=process), Named(a=x_1), times)["a"]

    together = go(keys())
    np.testing.assert_array_equal(go(keys()[2:]), together[2:])
    assert space == (CODES,)


@pytest.mark.parametrize(("sampler", "process"), TABLE)
def test_the_other_kind_of_process_is_refused(sampler, process):
    wrong = Flow() if process.is_discrete else Masked()
    with pytest.raises(ValueError, match=type(wrong).__name__):
        sampler.check(wrong)


def test_unmasking_draws_from_the_distribution():
    """With random order and temperature 1, independent positions keep their marginals."""
    p = jnp.asarray([0.6, 0.3, 0.1])
    n = 4000

    def predict(x, t):
        return Named(a=jnp.broadcast_to(jnp.log(p), (n, 2, 3)))

    ks = jax.random.split(jax.random.key(0), n)
    sampler = Unmasking(steps=2, noise=1e6)
    x_1 = Masked().prior(ks, (2, 1))
    times = Named(a=jnp.linspace(1.0, 0.0, 3))
    x = generate(ks, predict, Named(a=sampler), Named(a=Masked()), Named(a=x_1), times)["a"]
    share = np.bincount(np.asarray(x).ravel(), minlength=3) / x.size
    np.testing.assert_allclose(share, p, atol=0.02)


def test_unmasking_reveals_the_scheduled_number_each_step():
    process, seen = Masked(), []

    def predict(x, t):
        jax.debug.callback(lambda m: seen.append(int(m)), jnp.sum(x["a"][0] == -1), ordered=True)
        return Named(a=jnp.zeros((BATCH, 8, CODES)))

    x_1 = process.prior(keys(), (8, 1))
    x = run(Unmasking(steps=4), process, predict, x_1)
    jax.effects_barrier()
    assert seen == [8, 6, 4, 2]
    assert (x >= 0).all()


def test_more_steps_than_positions_still_ends_unmasked():
    x = run(
        Unmasking(steps=20),
        Masked(),
        lambda x, t: Named(a=jnp.zeros((BATCH, 3, CODES))),
        Masked().prior(keys(), (3, 1)),
    )
    assert (x >= 0).all()


def test_euler_integrates_a_linear_field_to_first_order():
    """v = x has the solution x(0) = x(1) / e; halving the step halves the error."""
    x_1 = jnp.ones((BATCH, 1, 1))
    error = []
    for steps in (50, 100):
        x = run(Euler(steps=steps), Flow(), lambda x, t: Named(a=x["a"]), x_1)
        error.append(abs(float(x[0, 0, 0]) - np.exp(-1)))
    np.testing.assert_allclose(error[0] / error[1], 2.0, rtol=0.02)


def test_guidance_extrapolates_every_channel():
    good = lambda x, t: Named(a=jnp.full((1, 2, 4), 3.0))  # noqa: E731
    bad = lambda x, t: Named(a=jnp.ones((1, 2, 4)))  # noqa: E731
    for scale, expected in ((1.0, 3.0), (0.0, 1.0), (2.5, 6.0)):
        out = guided(good, bad, scale)(Named(), Named())["a"]
        np.testing.assert_array_equal(out, jnp.full((1, 2, 4), expected))


def test_without_makes_a_modality_wholly_unknown():
    seen = {}

    def predict(x, t):
        seen.update(x=x, t=t)
        return Named()

    unknown = Named(label=jnp.full((2, 1, 1), -1))
    x, t = (
        Named(a=jnp.ones(3), label=jnp.ones((2, 1, 1))),
        Named(a=jnp.ones((2, 1)), label=jnp.zeros((2, 1))),
    )
    without(predict, unknown)(x, t)
    np.testing.assert_array_equal(seen["x"]["label"], unknown["label"])
    np.testing.assert_array_equal(seen["t"]["label"], jnp.ones((2, 1)))
    np.testing.assert_array_equal(seen["x"]["a"], x["a"])


@pytest.mark.parametrize("fields", [{"steps": 0}, {"temperature": -1.0}, {"noise": -0.5}])
def test_bad_fields_are_refused_by_value(fields):
    (value,) = fields.values()
    with pytest.raises(ValueError, match=str(value)):
        Unmasking(**fields)
