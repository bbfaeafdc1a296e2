"""A disk that is full for a while, or for good: the limit of a file's size stands for it."""

import errno
import gc
import json
import resource
import signal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from vqdit.runs.checkpoint_retention import Keep
from vqdit.runs.checkpoints import Checkpoints
from vqdit.runs.failed_saves import FailedSave
from vqdit.train.jsonl_writer import JsonlWriter
from vqdit.train.saver import Saver

# What Orbax writes beside the part that failed ends after it has stopped listening.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

STATE = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(200, 200)), jnp.float32)}


@pytest.fixture(autouse=True)
def ended():
    """What is left of a failed save ends with its test, and not in another one."""
    yield
    gc.collect()


@pytest.fixture
def limit():
    """Sets how many bytes a file may have; None is no limit.

    Nothing is put into the compilation cache meanwhile: cut off, it would fail in other tests.
    """
    least = jax.config.jax_persistent_cache_min_compile_time_secs  # pyright: ignore
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1e9)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def set_limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft if size is None else size, hard))

    yield set_limit
    set_limit(None)
    signal.signal(signal.SIGXFSZ, old)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", least)


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
    assert "the run continues; the newest is 2" in said
    assert "cannot write the preview of step 5" in said
    assert Checkpoints(tmp_path / "full" / "checkpoints").steps() == [6, 8]


def test_a_run_stops_at_once_if_that_is_the_policy(tmp_path, monkeypatch, limit):
    full_between(monkeypatch, limit, first=20, last=99)
    experiment = tiny.tokenizer(steps=60, checkpoint_every=20, failed_save="stop")
    with pytest.raises(FailedSave, match="checkpoint 20 could not be written") as error:
        tiny.run(experiment, tmp_path / "run")
    (stopped,) = (note for note in error.value.__notes__ if note.startswith("after step"))
    assert 20 < int(stopped.split()[-1]) < 40  # before the next is due
    limit(None)
    monkeypatch.undo()
    assert not Checkpoints(tmp_path / "run" / "checkpoints").steps()


def test_what_is_not_of_the_disk_stops_every_run(tmp_path, monkeypatch):
    def broken(checkpoints, step, pending):
        raise TypeError("a defect")

    monkeypatch.setattr(Checkpoints, "_finish", broken)
    with pytest.raises(FailedSave, match="TypeError: a defect") as error:
        tiny.run(tiny.tokenizer(checkpoint_every=2), tmp_path / "run")
    assert isinstance(error.value.__cause__, TypeError)


def test_a_checkpoint_without_checksums_is_one(tmp_path, monkeypatch, caplog):
    def full(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    with Checkpoints(tmp_path, Keep(last=1)) as checkpoints:
        checkpoints.save(1, STATE)
        checkpoints.wait()
        monkeypatch.setattr("vqdit.runs.file_checksums.write", full)
        checkpoints.save(2, STATE)
        checkpoints.wait()
        assert checkpoints.steps() == [2]
        chex.assert_trees_all_equal(checkpoints.restore(STATE), STATE)


def test_an_error_is_not_hidden_by_a_save_that_fails_too(tmp_path, limit):
    with pytest.raises(ZeroDivisionError), Checkpoints(tmp_path, Keep()) as checkpoints:
        limit(10_000)
        checkpoints.save(1, STATE)
        raise ZeroDivisionError


def test_lines_that_were_never_written_are_cut_too(tmp_path, limit):
    writer = JsonlWriter(tmp_path / "metrics.jsonl")
    for step in (1, 2):
        writer.write(step, loss=1.0)
    limit(40)
    for step in (3, 4):
        writer.write(step, loss=1.0)
    writer.cut(1)  # also on the full disk
    assert lines(tmp_path) == [{"step": 1, "loss": 1.0}]
    limit(None)
    writer.write(2, loss=2.0)
    assert lines(tmp_path) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.0}]


def test_what_waits_is_written_at_the_end(tmp_path, limit, caplog):
    writer = JsonlWriter(tmp_path / "metrics.jsonl")
    limit(10)
    writer.write(1, loss=1.0)
    limit(None)
    writer.flush()
    assert lines(tmp_path) == [{"step": 1, "loss": 1.0}]


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


@pytest.mark.parametrize("replaced", [False, True])
def test_a_workdir_that_is_moved_is_noticed_at_the_next_save(tmp_path, replaced):
    folder = tmp_path / "run"
    folder.mkdir()
    saver = Saver(tiny.tokenizer(), folder)
    saver.checkpoints.save(1, STATE)
    saver.settle()
    assert json.loads((folder / "saved.json").read_text()) == {"step": 1}
    folder.rename(tmp_path / "moved")
    if replaced:
        folder.mkdir()
    for settle in (saver.settle, saver.stop, saver.finish):
        with pytest.raises(OSError, match="run was removed, moved or replaced while the run wrote"):
            settle()
    assert not replaced or not list(folder.iterdir())
    assert folder.exists() == replaced


def test_a_run_whose_workdir_is_moved_ends_with_an_error(tmp_path, monkeypatch):
    real = JsonlWriter.write

    def write(writer, step, **values):
        real(writer, step, **values)
        if step == 3 and (tmp_path / "run").exists():
            (tmp_path / "run").rename(tmp_path / "moved")

    monkeypatch.setattr(JsonlWriter, "write", write)
    with pytest.raises(OSError, match="was removed, moved or replaced"):
        tiny.run(tiny.tokenizer(), tmp_path / "run")
    assert not (tmp_path / "run").exists()
