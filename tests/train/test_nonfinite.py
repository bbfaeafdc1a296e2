"""Steps that are not finite: skipped bit for bit, too many in a row, and going back past them."""

import contextlib
import dataclasses
import functools
import json
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.train.test_loop import lines, state_of
from vqdit.cli.main import main
from vqdit.config import NonFinite
from vqdit.optim.ema import Averaging
from vqdit.random import stream
from vqdit.runs.checkpoint_retention import Keep
from vqdit.runs.checkpoints import Checkpoints
from vqdit.tasks import TokenizerTask
from vqdit.train import nonfinite, state
from vqdit.train.nonfinite import Diverged, Monitor
from vqdit.train.step import train_step
from vqdit.typing import Named

QUICK = {"xla_backend_optimization_level": 0}


@pytest.fixture
def poison(monkeypatch):
    """Makes the loss of some data steps NaN, whichever the step."""
    plain = TokenizerTask.loss

    def poison(*data_steps):
        root = jax.random.key(0)
        keys = [stream(jax.random.fold_in(root, step), "loss") for step in data_steps]
        bad = np.stack([jax.random.key_data(key) for key in keys])

        def loss(task, params, stats, frozen, batch, key, step):
            value, aux = plain(task, params, stats, frozen, batch, key, step)
            is_bad = jnp.any(jnp.all(jax.random.key_data(key) == bad, axis=-1))
            return value * jnp.where(is_bad, jnp.nan, 1.0), aux

        monkeypatch.setattr(TokenizerTask, "loss", loss)

    return poison


def experiment(policy="skip", limit=3, **fields):
    settings = NonFinite(policy=policy, limit=limit, rollbacks=2)
    return tiny.tokenizer(nonfinite=settings, steps=12, **fields)


class Rough(TokenizerTask):
    """A tokenizer whose loss is NaN in step 2, and whose gradient explodes in step 3."""

    def loss(self, params, stats, frozen, batch, key, step):
        value, aux = super().loss(params, stats, frozen, batch, key, step)
        value = value * jnp.where(step == 1, jnp.nan, 1.0)
        steep = jnp.where(step == 2, 1e30, 0.0) * jnp.sum(params["decoder"]["in"]["bias"])
        return value + steep, aux


def test_a_skipped_step_changes_nothing_but_the_counts():
    """Parameters, averaged codebook, optimizer and average; the next finite step moves them all."""
    plain = tiny.tokenizer()
    fields = {f.name: getattr(plain.task, f.name) for f in dataclasses.fields(plain.task)}
    fields["quantizer"] = dataclasses.replace(plain.task.quantizer, start=0)
    task = Rough(**fields)
    fixed = task, task.optimizer(plain.optimizer, 8), Averaging(decay=0.9)
    batch = jax.tree.map(jnp.asarray, plain.data.first_batch(0))
    create = jax.jit(functools.partial(state.create, *fixed), compiler_options=QUICK)
    step = jax.jit(functools.partial(train_step, *fixed), compiler_options=QUICK)
    states, metrics = [create({}, batch, jax.random.key(0))], []
    for _ in range(4):
        after, found = step(states[-1], {}, batch)
        states.append(after)
        metrics.append(found)
    assert [float(found["skipped"]) for found in metrics] == [0.0, 1.0, 1.0, 0.0]
    assert np.isnan(metrics[1]["loss"])
    assert np.isfinite(metrics[2]["loss"])
    assert not np.isfinite(metrics[2]["gradient_norm"])
    _, first, second, third, fourth = states
    for number, skipped in ((2, second), (3, third)):
        assert (int(skipped.step), int(skipped.data_step)) == (number, number)
        chex.assert_trees_all_equal(
            skipped._replace(step=first.step, data_step=first.data_step), first
        )
    for field in ("params", "stats", "opt_state", "ema"):
        old, new = (jax.tree.leaves(getattr(each, field)) for each in (first, fourth))
        assert any(jnp.any(a != b) for a, b in zip(old, new, strict=True)), field


def seen(monitor, *skipped):
    """What the monitor says after each step."""
    metrics = [Named(skipped=jnp.float32(each), loss=jnp.float32(0)) for each in skipped]
    said = [monitor.see(number, each, lag=0) for number, each in enumerate(metrics, 1)]
    return [[each.step for each in row] for row in said]


def test_only_steps_in_a_row_are_too_many():
    two = NonFinite(limit=2)
    assert seen(Monitor(two), 1, 0, 1, 0, 0, 1) == [[]] * 6
    assert seen(Monitor(two), 0, 1, 1) == [[], [], [2, 3]]
    assert seen(Monitor(NonFinite(policy="abort", limit=2)), 0, 1) == [[], [2]]


def test_the_monitor_reads_no_step_that_may_be_under_way():
    monitor = Monitor(NonFinite(limit=1))
    metrics = Named(skipped=jnp.float32(1), loss=jnp.float32(jnp.nan))
    said = [monitor.see(step, metrics) for step in range(1, nonfinite.LAG + 2)]
    assert [len(row) for row in said] == [0] * nonfinite.LAG + [1]
    assert said[-1][0].step == 1
    assert list(said[-1][0].metrics) == ["loss"]


def test_single_steps_are_passed_and_told(poison, tmp_path):
    poison(4, 5, 8)
    assert tiny.run(experiment(), tmp_path).exit_code == 0
    skipped = [line["step"] for line in lines(tmp_path) if line.get("skipped")]
    assert skipped == [5, 6, 9]
    assert (
        "step 5 (gradient_norm nan, loss nan) was not finite" in (tmp_path / "log.txt").read_text()
    )
    assert not (tmp_path / "faults").exists()


def test_too_many_in_a_row_end_the_run_with_a_dump_and_a_code(
    poison, tmp_path, capsys, monkeypatch
):
    poison(4, 5, 6)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.py").write_text(
        "from tests.train.test_nonfinite import experiment\n\n\ndef config():\n"
        "    return experiment()\n"
    )
    assert main(["train", "--config=one.py", "--workdir=run"]) == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: one: 3 steps in a row were not finite; the last was step 7 (")
    assert "--nonfinite.policy=rollback" in last
    names = [file.name for file in sorted((tmp_path / "run/faults").iterdir())]
    assert names == ["step_0000005.json", "step_0000006.json", "step_0000007.json"]
    dump = json.loads((tmp_path / "run/faults/step_0000006.json").read_text())
    data = experiment().data
    assert (dump["step"], dump["data_step"]) == (6, 5)
    assert dump["key"] == jax.random.key_data(jax.random.key(0)).tolist()
    assert dump["metrics"] == {"loss": "nan", "gradient_norm": "nan"}
    plain = dataclasses.replace(data, augment=())
    with contextlib.closing(plain.train_batches(0, 5)) as batches:
        batch = next(batches)
    images = data.source.split("train").take(np.asarray(dump["examples"]))["image"]
    np.testing.assert_array_equal(batch.data["image"], images)
    assert main(["train", "--config=one.py", "--workdir=run", "--nonfinite.policy=rollback"]) == 0


def test_abort_ends_at_the_first(poison, tmp_path):
    poison(4)
    with pytest.raises(Diverged, match=r"a step was not finite; the last was step 5 \("):
        tiny.run(experiment("abort"), tmp_path)


@pytest.mark.slow
def test_rollback_goes_back_and_on_with_later_data(poison, tmp_path):
    """The same as a run that is given the state of step 4 and the data from step 8 on."""
    poison(5, 6, 7)
    run, back, other = experiment("rollback", keep=9), tmp_path / "back", tmp_path / "other"
    assert tiny.run(run, back).step == 12
    steps = [line["step"] for line in lines(back) if "loss" in line]
    assert steps == list(range(1, 13))
    assert not any(line.get("skipped") for line in lines(back))
    ended = state_of(run, back)
    assert (ended.step, ended.data_step) == (12, 16)

    shutil.copytree(back, other)
    for name in ("result.json", "saved.json"):
        (other / name).unlink()
    for step in (8, 12):
        shutil.rmtree(other / f"checkpoints/{step}")
    at_4 = state_of(run, other)
    moved = at_4._replace(data_step=np.int32(8), key=jax.random.wrap_key_data(at_4.key))
    shutil.rmtree(other / "checkpoints")
    with Checkpoints(other / "checkpoints", Keep(last=9)) as checkpoints:
        checkpoints.save(4, jax.tree.map(jnp.asarray, moved))
    tiny.run(run, other)
    chex.assert_trees_all_equal(state_of(run, other), ended)


def test_rollback_gives_up(poison, tmp_path):
    poison(*range(5, 40))
    with pytest.raises(Diverged, match="after 2 rollbacks; the last was step"):
        tiny.run(experiment("rollback"), tmp_path)


def test_what_is_not_finite_in_the_end_is_no_result(monkeypatch, tmp_path):
    """Statistics are not looked at by the step: what they hide is found at the end."""
    plain = TokenizerTask.update_bottleneck

    def update_bottleneck(task, params, stats, update, key, step):
        params, stats = plain(task, params, stats, update, key, step)
        return params, stats._replace(count=stats.count.at[0].set(jnp.nan))

    monkeypatch.setattr(TokenizerTask, "update_bottleneck", update_bottleneck)
    with pytest.raises(Diverged, match="training has ended, but stats/count is not finite"):
        tiny.run(tiny.tokenizer(steps=2), tmp_path)
    assert not (tmp_path / "result.json").exists()
