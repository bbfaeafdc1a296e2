"""The step: a batch that is taken in parts gives what the whole batch gives."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import tiny
from tests.phrases import LONGEST, Phrases
from tests.tones import SOUND, Tones
from vqdit import parallel
from vqdit.data import Data, Digits
from vqdit.masked_mean import masked_mean
from vqdit.modalities import Label, Text
from vqdit.models import ConvAutoencoder, DiT, PatchGAN
from vqdit.optim import AdamW
from vqdit.optim.ema import Averaging
from vqdit.parallel import Mesh
from vqdit.processes import Conditional, Independent, LogitNormal, Shared, Unbalanced, Uniform
from vqdit.quantizers import VQ
from vqdit.samplers import Unmasking
from vqdit.tasks import Adversary, CodeTarget, Condition, DiffusionTask, KLTask, TokenizerTask
from vqdit.tasks.base import Aux, Task
from vqdit.train import state
from vqdit.train.step import split, train_step
from vqdit.typing import Named

QUICK = {"xla_backend_optimization_level": 0}


def codebook():
    """An averaged codebook that is fitted in the second step, and revives many of its codes."""
    quantizer = VQ(codebook_size=16, dim=4, start=2, revive_below=0.5, decay=0.5)
    return dataclasses.replace(tiny.tokenizer().task, quantizer=quantizer)


def dit():
    """Names, given the label: no tokenizer is needed."""
    return DiffusionTask(
        targets=Named(text=CodeTarget(modality=Text(length=5), sampler=Unmasking(steps=2))),
        conditions=Named(label=Condition(modality=Label(classes=10), drop=0.3)),
        joint=Independent(p_known=0.1, p_dropped=0.1),
        model=DiT(depth=1, dim=16, heads=2, patch=1),
    )


def after(task, accumulate, steps=4):
    """The state and metrics after some steps."""
    data = Data(source=Digits(), batch_size=32)
    optimizer = AdamW(learning_rate=1e-3, warmup=0, clip=0.0)
    fixed = task, task.optimizer(optimizer, 100), Averaging(decay=0.5)
    features = [jax.tree.map(jnp.asarray, batch) for batch in _some(data, steps)]
    frozen = {name: {} for name in getattr(task, "targets", {})}
    create = jax.jit(functools.partial(state.create, *fixed), compiler_options=QUICK)
    now, metrics = create(frozen, features[0], jax.random.key(0)), []
    step = functools.partial(train_step, *fixed, accumulate=accumulate)
    step = jax.jit(step, compiler_options=QUICK)
    for batch in features:
        now, found = step(now, frozen, batch)
        metrics.append(found)
    return now, metrics


def _some(data, count):
    batches = data.train_batches(0, 0)
    try:
        return [next(batches) for _ in range(count)]
    finally:
        batches.close()


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (codebook, 2),
        pytest.param(codebook, 4, marks=pytest.mark.slow),
        pytest.param(dit, 4, marks=pytest.mark.slow),
    ],
)
def test_a_batch_in_parts_gives_what_the_whole_gives(make, count):
    whole, numbers = after(make(), 1)
    parts, found = after(make(), count)
    for name in ("loss", "gradient_norm"):
        ours, theirs = ([float(each[name]) for each in metrics] for metrics in (found, numbers))
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    chex.assert_trees_all_close(
        parts._replace(key=None), whole._replace(key=None), atol=2e-5, rtol=1e-4
    )
    if make is codebook:
        assert jnp.any(whole.stats.count != 0)


def texts():
    """Texts of different lengths, some of which are missing."""
    return DiffusionTask(
        targets=Named(text=CodeTarget(modality=Text(length=LONGEST, variable=True))),
        conditions=Named(label=Condition(modality=Label(classes=5))),
        model=DiT(depth=1, dim=16, heads=2, patch=1),
    )


def sounds():
    """Sounds of different lengths, and a discriminator of them."""
    quantizer = dataclasses.replace(tiny.tokenizer().task.quantizer.started(), start=0)
    return TokenizerTask(
        name="audio",
        modality=SOUND,
        model=ConvAutoencoder(channels=(4, 4), patch=4, blocks=1),
        quantizer=quantizer,
        adversary=Adversary(discriminator=PatchGAN(channels=4, layers=1), lecam=0.1),
    )


class TwoMeans(Task):
    """The mean of w x over positions, and of w^2 over the examples that are present."""

    def init(self, key, frozen, batch):
        return {"w": jnp.float32(0.7)}, {}

    def loss(self, params, stats, frozen, batch, key, step):
        mask, there, w = batch.mask["text"], batch.present["text"], params["w"]
        long = batch.weighted("long", masked_mean(w * batch.data["text"] / 100.0, mask))
        short = batch.weighted("short", masked_mean(w**2 * jnp.sum(mask, axis=1), there))
        counts = Named(long=jnp.sum(mask), short=jnp.sum(there))
        return long + short, Aux(Named(long=long), None, counts)


@pytest.mark.parametrize(
    ("make", "source"),
    [
        (TwoMeans, Phrases()),
        pytest.param(texts, Phrases(), marks=pytest.mark.slow),
        pytest.param(sounds, Tones(), marks=pytest.mark.slow),
    ],
)
def test_parts_of_different_lengths_count_by_what_is_real(make, source, key):
    """With a step of plain gradient descent, the difference of parameters is the gradient."""
    task, name = make(), "audio" if make is sounds else "text"
    batch = Data(source=source, batch_size=8).first_batch(0)
    batch = jax.tree.map(jnp.asarray, batch)
    missing = jnp.asarray([True, True, False, True, True, True, False, True])
    batch = batch._replace(present=batch.present | {name: missing})
    fixed = task, optax.sgd(1.0), Averaging(decay=0.5)
    frozen = task.frozen_like()
    now = state.create(*fixed, frozen, batch, key)
    found = []
    for count in (1, 2, 4):
        step = functools.partial(train_step, *fixed, accumulate=count)
        found.append(jax.jit(step, compiler_options=QUICK)(now, frozen, batch))
    assert found[0][1]["gradient_norm"] > 0.01
    for after, metrics in found[1:]:
        assert np.isclose(metrics["loss"], found[0][1]["loss"], atol=1e-5)
        chex.assert_trees_all_close(
            (after.params, after.stats), (found[0][0].params, found[0][0].stats), atol=1e-5
        )


@pytest.mark.parametrize(
    "joint", [Independent(p_one_known=0.2), Shared(), Unbalanced(), Conditional(given=("a",))]
)
def test_the_times_of_a_part_are_those_of_its_rows_in_the_whole(joint, key):
    distributions = Named(a=Uniform(), b=LogitNormal())
    every = Named(a=jnp.ones(12, bool), b=jnp.ones(12, bool))
    index = jnp.arange(12)
    whole = joint.sample(key, index, distributions, every)
    for part in range(3):
        rows = slice(part, None, 3)
        there = Named({name: flags[rows] for name, flags in every.items()})
        found = joint.sample(key, index[rows], distributions, there, 12)
        for name in distributions:
            np.testing.assert_array_equal(found[name], whole[name][rows])


def test_a_bottleneck_draws_for_each_part_anew():
    """The noise of a posterior, which is drawn for a batch as a whole."""
    fields = {
        f.name: getattr(tiny.tokenizer().task, f.name)
        for f in dataclasses.fields(tiny.tokenizer().task)
        if f.name not in ("quantizer", "distillation")
    }
    task = KLTask(**fields)
    (batch,) = _some(Data(source=Digits(), batch_size=4), 1)
    same = jax.tree.map(lambda rows: jnp.broadcast_to(rows[:1], rows.shape), batch)
    params, stats = task.init(jax.random.key(0), {}, same)
    losses = []
    for row in range(2):
        one = jax.tree.map(lambda rows: rows[:1], same)._replace(index=jnp.asarray([row]))
        loss, _ = task.loss(params, stats, {}, one, jax.random.key(1), jnp.int32(0))
        losses.append(float(loss))
    assert losses[0] != losses[1]


def test_parts_stay_on_their_devices(eight_devices):
    """The rows of a part are those that each device holds already: splitting moves nothing."""
    mesh = Mesh().build()
    rows = parallel.put_batch(np.arange(32.0, dtype=np.float32).reshape(32, 1), mesh)

    def doubled(rows):
        return split(rows, 4) * 2.0  # part 1: rows 1, 5, 9, ...

    np.testing.assert_array_equal(doubled(rows)[1, :, 0], 2.0 * np.arange(1.0, 32.0, 4.0))
    text = jax.jit(doubled).lower(rows).compile().as_text()
    assert not any(name in text for name in ("all-to-all", "all-gather", "collective-permute"))


def test_an_accumulate_that_does_not_divide_is_refused(eight_devices, tmp_path):
    with pytest.raises(
        ValueError,
        match=r"batch_size 32 is not divisible by accumulate=3 parts on each of 8 devices; "
        r"accumulate may be 1, 2, 4",
    ):
        tiny.run(tiny.tokenizer(accumulate=3), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="accumulate >= 1, got 0"):
        tiny.tokenizer(accumulate=0)
