"""Every sampler with an oracle network gives the exact sample, and leaves the known alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.processes import DDPM, EDM, CoarseToFine, Flow, MaskAndReplace, Masked, UniformState
from vqdit.samplers import (
    DDIM,
    Ancestral,
    DiscreteAncestral,
    DPMSolver,
    Euler,
    EulerAncestral,
    Heun,
    ReMDM,
    ReMDMLoop,
    Sampler,
    Step,
    UniPC,
    Unmasking,
    generate,
    trajectory,
)
from vqdit.typing import Named

CODES, LENGTH, BATCH = 7, 6, 4
TABLE = [
    pytest.param(Unmasking(steps=4), Masked(), id="Unmasking"),
    pytest.param(Unmasking(steps=4), Masked(schedule="cosine"), id="Unmasking-cosine"),
    pytest.param(Unmasking(steps=9, temperature=0.0, noise=0.0), Masked(), id="Unmasking-greedy"),
    pytest.param(Unmasking(steps=4, order="halton", grid=(2, 3)), Masked(), id="Unmasking-halton"),
    pytest.param(Unmasking(steps=4, order="random", top_p=0.5), Masked(), id="Unmasking-random"),
    pytest.param(Unmasking(steps=4), CoarseToFine(codebooks=1), id="Unmasking-CoarseToFine"),
    pytest.param(DiscreteAncestral(steps=4), Masked(), id="DiscreteAncestral-Masked"),
    pytest.param(
        DiscreteAncestral(steps=4), UniformState(codes=CODES), id="DiscreteAncestral-UniformState"
    ),
    pytest.param(
        DiscreteAncestral(steps=4),
        MaskAndReplace(codes=CODES),
        id="DiscreteAncestral-MaskAndReplace",
    ),
    pytest.param(ReMDM(steps=6, eta=0.3), Masked(), id="ReMDM-cap"),
    pytest.param(ReMDM(steps=6, eta=1.0, variant="confidence"), Masked(), id="ReMDM-confidence"),
    pytest.param(ReMDMLoop(steps=6, eta=0.3), Masked(), id="ReMDMLoop"),
    pytest.param(Euler(steps=5), Flow(), id="Euler"),
    pytest.param(Euler(steps=5), DDPM(), id="Euler-DDPM"),
    pytest.param(Euler(steps=5), EDM(), id="Euler-EDM"),
    pytest.param(EulerAncestral(steps=5), DDPM(), id="EulerAncestral"),
    pytest.param(Ancestral(steps=5), DDPM(prediction="v"), id="Ancestral"),
    pytest.param(DDIM(steps=5, eta=0.5), DDPM(), id="DDIM"),
    pytest.param(DDIM(steps=5, eta=0.5), Flow(), id="DDIM-Flow"),
    pytest.param(Heun(steps=5), DDPM(prediction="v"), id="Heun"),
    pytest.param(Heun(steps=5), Flow(), id="Heun-Flow"),
    pytest.param(DPMSolver(steps=5), DDPM(), id="DPMSolver"),
    pytest.param(DPMSolver(steps=5, order=3), Flow(), id="DPMSolver-3-Flow"),
    pytest.param(DPMSolver(steps=5, stochastic=True), DDPM(), id="DPMSolver-stochastic"),
    pytest.param(DPMSolver(steps=5, order=3, stochastic=True), Flow(), id="DPMSolver-3-stochastic"),
    pytest.param(UniPC(steps=5), DDPM(), id="UniPC"),
    pytest.param(UniPC(steps=5, order=3), Flow(), id="UniPC-3-Flow"),
]


def keys(number=0):
    return jax.random.split(jax.random.key(number), BATCH)


def setting(process):
    if process.is_discrete:
        return jax.random.randint(jax.random.key(1), (BATCH, LENGTH, 1), 0, CODES), (CODES,)
    return jax.random.normal(jax.random.key(1), (BATCH, LENGTH, 3)), (3,)


def oracle(process, x_0, space):
    """The network that knows x_0, and so which noise is in x_t."""

    def predict(x, t):
        noise = None
        if not process.is_discrete:
            at = t["a"][..., None]
            noise = (x["a"] - process.alpha(at) * x_0) / jnp.maximum(process.sigma(at), 1e-6)
        return Named(a=process.oracle(x_0, x["a"], noise, t["a"], space))

    return predict


def run(sampler, process, predict, x_1, *, known=None):
    times = Named(a=jnp.linspace(1.0, 0.0, sampler.steps + 1))
    return generate(
        keys(), predict, Named(a=sampler), Named(a=process), Named(a=x_1), times, known=known
    )["a"]


@functools.cache
def sampled(sampler, process):
    """Returns the sample of the oracle network, not compiled as a whole."""
    x_0, space = setting(process)
    x_1 = process.prior(keys(), x_0.shape[1:])
    return run(sampler, process, oracle(process, x_0, space), x_1)


@pytest.mark.parametrize(("sampler", "process"), TABLE)
def test_an_oracle_network_gives_the_exact_sample(sampler, process):
    np.testing.assert_allclose(sampled(sampler, process), setting(process)[0], atol=1e-5)


@pytest.mark.parametrize(("sampler", "process"), TABLE)
def test_it_is_told_of_the_grid(sampler, process):
    """A field may not have the name of a method: that is how one was lost."""
    del process
    assert dataclasses.replace(sampler.bind((2, 3)), **vars(sampler)) == sampler
    methods = {name for name in dir(Sampler) if callable(getattr(Sampler, name))}
    assert not methods & {field.name for field in dataclasses.fields(sampler)}


@pytest.mark.parametrize(("sampler", "process"), TABLE)
def test_jit_changes_nothing(sampler, process):
    x_0, space = setting(process)
    x_1 = process.prior(keys(), x_0.shape[1:])
    predict = oracle(process, x_0, space)
    jitted = jax.jit(lambda x_1: run(sampler, process, predict, x_1))(x_1)
    np.testing.assert_allclose(jitted, sampled(sampler, process), atol=1e-5)


@pytest.mark.parametrize(("sampler", "process"), TABLE)
def test_known_positions_are_seen_as_they_are_and_never_change(sampler, process):
    x_0, space = setting(process)
    other = jnp.flip(x_0, axis=0)
    known = jnp.arange(LENGTH) < 2
    x_1 = process.prior(keys(), x_0.shape[1:])
    x_1 = jnp.where(known[:, None], other, x_1)
    knows = oracle(process, x_0, space)

    def predict(x, t):
        # Of latents the network itself is told: t is per token, 0 where known.
        assert t["a"].shape == (BATCH, 1 if process.is_discrete else LENGTH)
        return knows(x, t)

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


def test_the_network_looks_again_only_where_a_sampler_corrects():
    """A step to 0 has nothing to correct, nor has one in which its sampler does not move."""
    times = Named(a=jnp.asarray([1.0, 0.5, 0.2, 0.0, 0.0]), b=jnp.linspace(1.0, 0.0, 5))
    x_1 = Named(dict.fromkeys("ab", Flow().prior(keys(), (1, 1))))

    def looks(**samplers):
        seen = []

        def predict(x, t):
            now = t["a"][0, 0], t["b"][0, 0]
            jax.debug.callback(lambda a, b: seen.append((float(a), float(b))), *now, ordered=True)
            return x

        processes = Named(dict.fromkeys("ab", Flow()))
        generate(keys(), predict, Named(samplers), processes, x_1, times)
        jax.effects_barrier()
        return np.asarray(seen)

    once = [(1.0, 1.0), (0.5, 0.75), (0.2, 0.5), (0.0, 0.25)]
    again = [once[0], (0.5, 0.75), once[1], (0.2, 0.5), once[2], once[3]]
    np.testing.assert_allclose(looks(a=Euler(steps=4), b=Euler(steps=4)), once)
    np.testing.assert_allclose(looks(a=Heun(steps=4), b=Euler(steps=4)), again)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DDIM(eta=1.5), r"DDIM needs eta in \[0, 1\], got 1.5"),
        (lambda: DPMSolver(corrected=True), "corrected=True needs order 3, got 2"),
    ],
)
def test_fields_that_do_not_fit_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("fields", [{"steps": 0}, {"temperature": -1.0}, {"noise": -0.5}])
def test_bad_fields_are_refused_by_value(fields):
    (value,) = fields.values()
    with pytest.raises(ValueError, match=str(value)):
        Unmasking(**fields)


WINDOWS = {
    "a": [1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0],
    "b": [1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0],
    "c": [1.0, 1.0, 0.6, 0.6, 0.3, 0.0, 0.0],
}


class Counting(Sampler):
    """Keeps the number of its steps, and writes it into every position."""

    def check(self, process):
        pass

    def init(self, process, x_1, times):
        return jnp.zeros(())

    def step(self, step):
        return jnp.full_like(step.x_t, step.carry + 1), step.carry + 1


REAL = Named(a=Unmasking(steps=6), b=Euler(steps=6), c=Unmasking(steps=6))
PROCESSES = Named(a=Masked(), b=Flow(), c=Masked(schedule="cosine"))
X_0 = Named({name: setting(process)[0] for name, process in PROCESSES.items()})


def start():
    return Named({n: p.prior(keys(), X_0[n].shape[1:]) for n, p in PROCESSES.items()})


def several(samplers=None, predict=None, *, x_1=None, times=None):
    """Generates a (codes), b (latents) and c (codes), each in its own window."""
    x_1 = start() | (x_1 or {})
    times = Named(
        {name: jnp.asarray(time, jnp.float32) for name, time in (WINDOWS | (times or {})).items()}
    )
    oracles = {name: _oracle(name, x_1[name]) for name in PROCESSES}
    counting = Named(dict.fromkeys(WINDOWS, Counting(steps=6)))
    return trajectory(
        keys(),
        predict or (lambda x, t: Named(oracles)),
        samplers or counting,
        PROCESSES,
        x_1,
        times,
    )


@pytest.fixture(scope="module")
def generated():
    return jax.tree.map(np.asarray, jax.jit(lambda: several(REAL))())


def test_a_modality_changes_only_in_the_steps_in_which_its_time_falls(generated):
    x, path = generated
    for name, times in WINDOWS.items():
        states = np.concatenate([path[name], x[name][None]])
        for step, (t, s) in enumerate(zip(times[:-1], times[1:], strict=True)):
            changes = (states[step] != states[step + 1]).any(axis=(1, 2))
            assert changes.all() if s < t else not changes.any(), (name, step)
        np.testing.assert_allclose(x[name], X_0[name], atol=1e-5)  # all is revealed at the end


def test_a_window_reveals_as_much_as_its_times_say(generated):
    _, path = generated
    hidden = {name: (path[name][:, 0] == -1).sum(axis=(1, 2)).tolist() for name in "ac"}
    assert hidden["a"] == [6, 3, 0, 0, 0, 0]
    share = [np.sin(np.pi / 2 * t) for t in WINDOWS["c"][:-1]]
    assert share[2] < 0.85 and share[4] < 0.46
    assert hidden["c"] == [6, 6, 5, 5, round(5 * share[4] / share[2]), 0]


def test_a_trajectory_begins_at_the_start_and_ends_in_what_generate_gives(generated):
    x, path = generated
    x_1 = start()
    assert set(x) == set(WINDOWS)
    for name in WINDOWS:
        assert path[name].shape == (6, *x_1[name].shape)
        np.testing.assert_allclose(path[name][0], x_1[name], atol=1e-6 if name == "b" else 0.0)
    oracle = {name: _oracle(name, x_1[name]) for name in WINDOWS}
    times = Named({name: jnp.asarray(time) for name, time in WINDOWS.items()})
    go = jax.jit(lambda: generate(keys(), lambda x, t: Named(oracle), REAL, PROCESSES, x_1, times))
    for name, value in go().items():  # compiled by itself, so latents agree but for rounding
        np.testing.assert_allclose(value, x[name], atol=1e-6 if name == "b" else 0.0)


def test_the_network_sees_every_modality_at_its_own_time():
    seen = []

    def predict(x, t):
        now = jnp.stack([t[name] for name in WINDOWS])
        jax.debug.callback(lambda now: seen.append(np.asarray(now)), now, ordered=True)
        return x

    several(predict=predict)
    jax.effects_barrier()
    expected = np.asarray(list(WINDOWS.values()), np.float32)[:, :-1].T  # step modality
    assert np.asarray(seen).shape == (6, 3, BATCH, 1)
    assert (np.asarray(seen) == expected[:, :, None, None]).all()


def test_what_has_no_sampler_is_seen_and_never_changes():
    label = jnp.arange(BATCH)[:, None, None]

    def predict(x, t):
        assert x["label"].shape == (BATCH, 1, 1) and t["label"].shape == (BATCH, 1)
        return x

    x, path = several(predict=predict, x_1={"label": label}, times={"label": [0.0] * 7})
    assert set(x) == set(WINDOWS)
    assert (np.asarray(path["label"]) == np.asarray(label)).all()
    assert path["label"].shape == (6, BATCH, 1, 1)


def test_what_a_sampler_keeps_changes_in_its_own_steps_alone():
    x, path = several()
    for name, times in WINDOWS.items():
        falls = [s < t for t, s in zip(times[:-1], times[1:], strict=True)]
        assert (x[name] == sum(falls)).all()
        for step in range(1, 6):
            if any(falls[:step]):
                assert (path[name][step] == sum(falls[:step])).all()


def test_at_a_constant_time_nothing_is_generated():
    x, _ = several(times={"a": [0.0] * 7, "b": [1.0] * 7})
    x_1 = start()
    np.testing.assert_array_equal(x["a"], x_1["a"])  # known, whatever it is
    np.testing.assert_array_equal(x["b"], x_1["b"])  # unknown, and stays so
    assert (x["c"] == 3).all()


def _oracle(name, x_1):
    process = PROCESSES[name]
    x_0, space = setting(process)
    noise = None if process.is_discrete else x_1
    return process.oracle(x_0, x_1, noise, jnp.ones((BATCH, 1)), space)


def test_every_sampler_must_say_how_it_steps():
    with pytest.raises(TypeError, match="Sampler must define the method 'step'"):
        several(Named(a=Sampler(steps=6)))
    with pytest.raises(TypeError, match="Sampler must define the method 'check'"):
        Sampler().check(Masked())
    with pytest.raises(TypeError, match="Sampler must define the method 'correct'"):
        zeros = jnp.zeros((BATCH, 1, 1))
        step = Step(keys(), Flow(), zeros, zeros, jnp.float32(1.0), jnp.float32(0.5), ())
        Sampler().correct(step, zeros, zeros)
