"""A disk that is full for a while, or for good: the limit of a file's size stands for it."""

import json
import resource
import signal

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from vqdit.checkpoint import Checkpoints, FailedSave, Keep
from vqdit.train.writers import JsonlWriter

# What Orbax writes beside the part that failed ends after it has stopped listening.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

STATE = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(200, 200)), jnp.float32)}


@pytest.fixture
def limit():
    """Sets how many bytes a file may have; None is no limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def set_limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft if size is None else size, hard))

    yield set_limit
    set_limit(None)
    signal.signal(signal.SIGXFSZ, old)


def test_a_save_that_fails_is_named_and_leaves_nothing_but_those_before(tmp_path, limit):
    with Checkpoints(tmp_path, Keep(last=3)) as checkpoints:
        checkpoints.save(1, STATE)
        checkpoints.wait()
        limit(10_000)
        for step in (2, 3):
            checkpoints.save(step, STATE)
            with pytest.raises(FailedSave, match=rf"checkpoint {step} .*: .*File too large"):
                checkpoints.wait()
            assert [path.name for path in tmp_path.iterdir()] == ["1"]
        limit(None)
        checkpoints.save(4, STATE)
        checkpoints.wait()
        assert checkpoints.steps() == [1, 4]
        chex.assert_trees_all_equal(checkpoints.restore(STATE), STATE)


def lines(folder, name="metrics.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def full_between(monkeypatch, limit, first, last):
    """Makes the disk full from the save of one step on, until that of another."""
    real = Checkpoints.save

    def save(checkpoints, step, *args):
        if step in (first, last):
            limit(1000 if step == first else None)
        real(checkpoints, step, *args)

    monkeypatch.setattr(Checkpoints, "save", save)


def test_a_run_goes_on_while_the_disk_is_full_and_loses_no_line(tmp_path, monkeypatch, limit):
    experiment = tiny.tokenizer(checkpoint_every=2, preview_every=5)
    calm = tiny.run(experiment, tmp_path / "calm")
    full_between(monkeypatch, limit, first=4, last=6)
    outcome = tiny.run(experiment, tmp_path / "full")
    assert outcome.metrics == calm.metrics
    assert lines(tmp_path / "full") == lines(tmp_path / "calm")
    said = (tmp_path / "full" / "log.txt").read_text()
    assert "checkpoint 4 could not be written" in said
    assert "the run goes on, with 2 as the newest" in said
    assert "no preview of step 5" in said
    assert Checkpoints(tmp_path / "full" / "checkpoints").steps() == [6, 8]


def test_a_run_stops_at_once_if_that_is_the_policy(tmp_path, monkeypatch, limit):
    full_between(monkeypatch, limit, first=4, last=99)
    with pytest.raises(FailedSave, match="checkpoint 4 could not be written"):
        tiny.run(tiny.tokenizer(checkpoint_every=2, failed_save="stop"), tmp_path / "run")
    limit(None)
    monkeypatch.undo()
    assert tiny.run(tiny.tokenizer(checkpoint_every=2), tmp_path / "run").step == 8
    assert "resumed at step 2" in (tmp_path / "run" / "log.txt").read_text()


def test_a_last_checkpoint_that_fails_is_an_error(tmp_path, monkeypatch, limit):
    full_between(monkeypatch, limit, first=8, last=99)
    with pytest.raises(OSError, match="File too large"):
        tiny.run(tiny.tokenizer(checkpoint_every=2), tmp_path / "run")


def test_lines_wait_until_there_is_room_and_none_is_torn(tmp_path, limit):
    writer = JsonlWriter(tmp_path / "metrics.jsonl")
    writer.write(1, loss=1.0)
    limit(30)
    for step in (2, 3):
        writer.write(step, loss=1.0)
        assert lines(tmp_path) == [{"step": 1, "loss": 1.0}]
    limit(None)
    writer.write(4, loss=1.0)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4]
