"""The adversarial losses in the one train step: who learns from what, and from when."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import tiny
from vqdit.losses import Perceptual, adversarial
from vqdit.models import PatchGAN
from vqdit.optim import AdamW
from vqdit.optim.ema import Averaging
from vqdit.random import stream
from vqdit.tasks import Adversary
from vqdit.tasks.adversary import Averages, starting_at
from vqdit.train import state as states
from vqdit.train.step import train_step

QUICK = {"xla_backend_optimization_level": 0}
"""Compiling takes longer than running here."""
OPTIMIZER = AdamW(learning_rate=1e-2, warmup=0, weight_decay=0.1, b1=0.5)


def adversary(**fields):
    small = {"discriminator": PatchGAN(channels=4, layers=1), "optimizer": OPTIMIZER}
    return Adversary(**{**small, **fields})


def gan(**fields):
    """The task of `tiny.tokenizer`, against a small discriminator."""
    task = dataclasses.replace(tiny.tokenizer().task, quantizer=quantizer())
    return dataclasses.replace(task, adversary=adversary(**fields))


def quantizer():
    return dataclasses.replace(tiny.tokenizer().task.quantizer, start=0)


@pytest.fixture(scope="module")
def batch():
    return tiny.tokenizer().data.first_batch(0)


@pytest.fixture(scope="module")
def full(batch):
    """A task with everything, its first state, and the gradient of its loss, compiled once."""
    task = gan(adaptive=True, lecam=0.05, r1=10.0, r1_every=2, weight=0.5)
    params, stats = jax.jit(task.init, compiler_options=QUICK)(jax.random.key(0), {}, batch)
    # A fresh codebook makes z_q, but the decoder's residual blocks start at zero: move them.
    params = jax.tree.map(lambda leaf: leaf + 0.02, params)
    gradient = jax.jit(jax.value_and_grad(task.loss, has_aux=True), compiler_options=QUICK)
    return task, params, stats, gradient


def pieces(task, params, stats, batch, key, step):
    """What the loss is made of, step by step, with plain functions."""
    x = task.modality.standardize(jnp.asarray(batch.data["image"]))
    h = task.model.encode(params, x, 4)
    out = task.quantizer.quantize(
        params["quantizer"], stats["bottleneck"], h, key=stream(key, "quantize"), step=step
    )
    return x, out, task.model.decode(params, out.z_q, 1)


def test_each_player_has_the_gradient_of_its_own_loss(full, batch):
    task, params, stats, gradient = full
    adversary, step, key = task.adversary, jnp.int32(2), jax.random.key(1)
    (loss, aux), found = gradient(params, stats, {}, batch, key, step)
    weight = aux.metrics["generator_weight"]

    def generator(params):
        x, out, y = pieces(task, params, stats, batch, jax.random.key(1), step)
        fixed = jax.lax.stop_gradient(params["discriminator"])
        g = -jnp.mean(adversary.discriminator.apply(fixed, y))
        return jnp.mean((x - y) ** 2) + 0.25 * out.losses["commitment"] + weight * g

    def discriminator(params):
        x, _, y = jax.lax.stop_gradient(pieces(task, params, stats, batch, jax.random.key(1), step))
        real, fake = (adversary.discriminator.apply(params["discriminator"], d) for d in (x, y))
        hinge = 0.5 * (jnp.mean(jax.nn.relu(1 - real)) + jnp.mean(jax.nn.relu(1 + fake)))
        lecam = jnp.mean(jax.nn.relu(real) ** 2) + jnp.mean(jax.nn.relu(-fake) ** 2)
        slope = jax.grad(
            lambda x: jnp.sum(
                jnp.mean(adversary.discriminator.apply(params["discriminator"], x), axis=(1, 2))
            )
        )(x)
        penalty = 2 * jnp.mean(jnp.sum(slope**2, axis=(1, 2, 3)))
        return hinge + 0.05 * lecam + 10.0 / 2 * penalty

    g_value, g_gradient = jax.jit(jax.value_and_grad(generator), compiler_options=QUICK)(params)
    d_value, d_gradient = jax.jit(jax.value_and_grad(discriminator), compiler_options=QUICK)(params)
    assert loss == pytest.approx(float(g_value + d_value), rel=1e-5)
    for part in ("encoder", "decoder"):
        chex.assert_trees_all_close(found[part], g_gradient[part], rtol=1e-3, atol=1e-6)
        assert optax.tree.norm(g_gradient[part]) > 1e-4
        assert optax.tree.norm(d_gradient[part]) == 0
    assert optax.tree.norm(g_gradient["discriminator"]) == 0
    chex.assert_trees_all_close(
        found["discriminator"], d_gradient["discriminator"], rtol=1e-3, atol=1e-5
    )


def test_the_adaptive_weight_is_the_ratio_of_norms_at_the_last_kernel(full, batch):
    task, params, stats, gradient = full
    step, key = jnp.int32(1), jax.random.key(1)
    (_, aux), _ = gradient(params, stats, {}, batch, key, step)

    def losses(kernel):
        out = {**params["decoder"]["out"], "kernel": kernel}
        moved = {**params, "decoder": {**params["decoder"], "out": out}}
        x, _, y = pieces(task, moved, stats, batch, jax.random.key(1), step)
        logits = task.adversary.discriminator.apply(params["discriminator"], y)
        return jnp.stack([jnp.mean((x - y) ** 2), -jnp.mean(logits)])

    rows = jax.jit(jax.jacrev(losses), compiler_options=QUICK)(params["decoder"]["out"]["kernel"])
    first, second = (np.linalg.norm(np.ravel(row)) for row in rows)
    expected = 0.5 * np.clip(first / (second + 1e-4), 0.0, 1e4)
    assert aux.metrics["generator_weight"] == pytest.approx(expected, rel=1e-4)


def test_shares_of_the_gradient_add_up(full, batch):
    task, params, stats, gradient = full
    (_, aux), _ = gradient(params, stats, {}, batch, jax.random.key(1), jnp.int32(1))
    found = {name: float(aux.metrics[name]) for name in aux.metrics if "share" in name}
    assert set(found) == {"gradient_share_reconstruction", "gradient_share_generator"}
    assert sum(found.values()) == pytest.approx(1.0, rel=1e-5)


def test_the_penalty_is_lazy_and_lecam_keeps_its_averages(full, batch):
    task, params, stats, gradient = full
    stats = {**stats, "adversary": Averages(jnp.float32(0.5), jnp.float32(-0.5))}
    for step in (1, 2):
        (_, aux), _ = gradient(params, stats, {}, batch, jax.random.key(1), jnp.int32(step))
        assert (aux.metrics["r1"] > 0) == (step == 2)
    _, new = task.update(params, stats, aux.update, jax.random.key(2), jnp.int32(2))
    for which, old in (("real", 0.5), ("fake", -0.5)):
        expected = 0.999 * old + 0.001 * float(aux.metrics[f"logits_{which}"])
        assert getattr(new["adversary"], which) == pytest.approx(expected, rel=1e-5)


def run_steps(task, batch, steps, optimizer=OPTIMIZER):
    both = task.optimizer(optimizer, 100)
    create = functools.partial(states.create, task, both, Averaging())
    state = jax.jit(create, compiler_options=QUICK)({}, batch, jax.random.key(0))
    step = jax.jit(functools.partial(train_step, task, both, Averaging()), compiler_options=QUICK)
    trail = [jax.tree.map(np.asarray, (state.params, state.stats))]
    for _ in range(steps):
        state, _ = step(state, {}, batch)
        trail.append(jax.tree.map(np.asarray, (state.params, state.stats)))
    return trail, state


@pytest.fixture(scope="module")
def late(batch):
    """Three steps with a discriminator that begins at the third."""
    return run_steps(gan(start=2, lecam=0.1), batch, 3)


def test_nothing_of_the_discriminator_moves_before_its_start(late):
    """Not by weight decay either; and it is counted in steps, not in updates of two optimizers."""
    trail, state = late
    discriminators = [params["discriminator"] for params, _ in trail]
    chex.assert_trees_all_equal(*discriminators[:3])
    assert np.any(discriminators[3]["out"]["kernel"] != discriminators[2]["out"]["kernel"])
    averages = [stats["adversary"] for _, stats in trail]
    assert all(average == (0, 0) for average in averages[:3])
    assert averages[3].real != 0 and averages[3].fake != 0
    inner = state.opt_state.inner_states["discriminator"].inner_state.inner
    counts = [int(leaf) for leaf in jax.tree.leaves(inner) if leaf.dtype == jnp.int32]
    assert counts and set(counts) == {1}


def test_before_its_start_the_autoencoder_does_not_hear_it(batch):
    plain = dataclasses.replace(gan(), adversary=None)
    (with_one, _), (without, _) = (
        run_steps(task, batch, 2)[0][-1] for task in (gan(start=9), plain)
    )
    for part in ("encoder", "decoder"):
        chex.assert_trees_all_close(with_one[part], without[part], rtol=1e-5, atol=1e-6)


def test_each_player_is_clipped_for_itself():
    """A discriminator whose gradient is a million times larger leaves the autoencoder alone."""
    params = {name: jnp.ones(3) for name in ("encoder", "decoder", "discriminator", "quantizer")}
    gradient = {name: jnp.asarray([3.0, 0.0, -4.0]) for name in params}
    plain = AdamW(clip=1.0, b1=0.0, b2=0.0, warmup=0)
    both = gan(optimizer=plain).optimizer(plain, 10)
    small, _ = both.update(gradient, both.init(params), params)
    loud = {**gradient, "discriminator": 1e6 * gradient["discriminator"]}
    large, state = both.update(loud, both.init(params), params)
    chex.assert_trees_all_equal(small, large)
    # Three parts with a gradient of length 5 each are clipped together to length 1.
    moments = {
        name: [leaf for leaf in jax.tree.leaves(inner) if leaf.shape == (3,)]
        for name, inner in state.inner_states.items()
    }
    assert {len(found) for found in moments.values()} == {2, 6}
    lengths = {name: np.sqrt(sum(np.sum(m**2) for m in found[: len(found) // 2]))
               for name, found in moments.items()}  # fmt: skip
    assert lengths["autoencoder"] == pytest.approx(1.0, rel=1e-5)
    assert lengths["discriminator"] == pytest.approx(1.0, rel=1e-5)


def test_an_optimizer_that_begins_later_is_the_same_one_later():
    inner = optax.adamw(optax.linear_schedule(0.1, 0.0, 10), weight_decay=0.1)
    params = later = {"w": jnp.asarray([1.0, -2.0])}
    gradients = [{"w": jnp.asarray([0.3, -0.1]) * (n + 1)} for n in range(5)]
    outer = starting_at(2, inner)
    state, waiting = inner.init(params), outer.init(params)
    for number, gradient in enumerate(gradients):
        moved, waiting = outer.update(gradient, waiting, later)
        later = optax.apply_updates(later, moved)
        if number < 2:
            np.testing.assert_array_equal(moved["w"], [0.0, 0.0])
            continue
        moved, state = inner.update(gradient, state, params)
        params = optax.apply_updates(params, moved)
        np.testing.assert_array_equal(later["w"], params["w"])


def test_padding_takes_no_part(full, batch):
    task, params, stats, _ = full
    valid = np.arange(32) < 20
    padded = batch._replace(valid=valid)
    image = batch.data["image"].copy()
    image[20:] = 255 - image[20:]
    other = padded._replace(data=batch.data | {"image": image})
    loss = jax.jit(task.loss, compiler_options=QUICK)
    a, b = (loss(params, stats, {}, x, jax.random.key(1), jnp.int32(2)) for x in (padded, other))
    assert a[0] == pytest.approx(float(b[0]), rel=1e-6)
    for name, value in a[1].metrics.items():
        assert value == pytest.approx(float(b[1].metrics[name]), rel=1e-5), name


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weight": 0.0}, "needs weight > 0, got 0.0; use adversary=None to train without one"),
        ({"lecam": -1.0}, "needs lecam >= 0 and r1 >= 0, got lecam=-1.0 and"),
        ({"start": -1}, "needs start >= 0 and r1_every >= 1, got -1 and 16"),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Adversary(**fields)


def test_data_too_small_for_the_discriminator_are_refused_before_any_work():
    task = dataclasses.replace(tiny.tokenizer().task, adversary=Adversary())
    with pytest.raises(
        ValueError, match="PatchGAN needs data with edges of at least 24, got 8x8; give"
    ):
        task.check(tiny.tokenizer().data.features())


def test_a_loss_given_twice_is_named():
    class Same(Perceptual):
        pass

    with pytest.raises(ValueError, match="perceptual has 'same' twice"):
        dataclasses.replace(tiny.tokenizer().task, perceptual=(Same(), Same(weight=2.0)))
    with pytest.raises(ValueError, match="Same needs weight > 0, got 0.0; to switch .* remove it"):
        Same(weight=0.0)


def test_accuracy_of_guessing_and_of_knowing():
    real, fake = jnp.ones((2, 3)), jnp.zeros((2, 3))
    np.testing.assert_array_equal(adversarial.accuracy("least_squares", real, fake), [1.0, 1.0])
    np.testing.assert_array_equal(adversarial.accuracy("hinge", real, real), [0.5, 0.5])
