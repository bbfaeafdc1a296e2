"""Signals, and runs that hang or fail: how they end, and that they go on from there."""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time

import chex
import pytest

from tests import tiny
from tests.train.test_loop import lines, state_of
from vqdit.config import Timeouts
from vqdit.data import Data, ImageFolder, pipeline
from vqdit.tasks import TokenizerTask
from vqdit.train import loop, signals
from vqdit.train.signals import Interrupts
from vqdit.train.watchdog import Watchdog


def send(number):
    os.kill(os.getpid(), number)
    time.sleep(0.01)


CODES = [(signal.SIGTERM, 75), (signal.SIGHUP, 75), (signal.SIGINT, 130)]


@pytest.mark.parametrize(("number", "code"), CODES)
def test_a_signal_is_answered_at_once_and_asks_to_stop(number, code, caplog):
    with caplog.at_level("INFO", "vqdit"), Interrupts() as interrupts:
        assert not interrupts.should_stop(1)
        send(number)
        time.sleep(0.05)
        assert "stopping after this step" in caplog.text
        assert interrupts.should_stop(2)
        assert interrupts.exit_code == code


def test_a_closed_terminal_does_not_stop_a_run_under_nohup():
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            send(signal.SIGHUP)
            time.sleep(0.05)
            assert not interrupts.should_stop(1)
    finally:
        signal.signal(signal.SIGHUP, old)


def test_a_second_ctrl_c_leaves_at_once():
    with Interrupts():
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_sigusr1_asks_once_to_save_and_not_to_stop():
    with Interrupts() as interrupts:
        assert not interrupts.should_save()
        send(signal.SIGUSR1)
        assert not interrupts.should_stop(1)
        assert interrupts.should_save()
        assert not interrupts.should_save()


def watched(monkeypatch, *numbers, save=None, rest=True):
    """What happens if signals come while the main thread is away: "saved", or the exit code."""
    monkeypatch.setattr(signals, "GRACE", 0.2)
    happened = []
    with Interrupts(happened.append) as interrupts:
        inner = interrupts.may_exit(save and functools.partial(save, happened))
        with inner if rest else contextlib.nullcontext():
            with contextlib.suppress(KeyboardInterrupt):
                for number in numbers:
                    send(number)
            deadline = time.monotonic() + 1.0
            while time.monotonic() < deadline and not any(isinstance(h, int) for h in happened):
                time.sleep(0.01)
    return happened[:2]


def test_the_watcher_saves_and_leaves_in_the_stead_of_the_main_thread(monkeypatch):
    def save(happened):
        happened.append("saved")

    def fail(happened):
        raise OSError("full")

    assert watched(monkeypatch, signal.SIGTERM, save=save) == ["saved", 75]
    assert watched(monkeypatch, signal.SIGINT, save=save) == ["saved", 130]
    assert watched(monkeypatch, signal.SIGTERM)[:1] == [75]
    assert watched(monkeypatch, signal.SIGTERM, save=fail)[:1] == [75]
    assert watched(monkeypatch, save=save) == []


def test_the_watcher_leaves_a_step_alone_unless_ctrl_c_comes_twice(monkeypatch):
    assert watched(monkeypatch, signal.SIGTERM, rest=False) == []
    assert watched(monkeypatch, signal.SIGUSR1) == []
    assert watched(monkeypatch, signal.SIGINT, signal.SIGINT, rest=False)[:1] == [130]


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


EARLY = """
import os, signal, time
from vqdit.cli import train
train._start = lambda *args: os.kill(os.getpid(), signal.{name}) or time.sleep(1.0) or 0
print("ended with", train.train(config="x"))
"""


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [("SIGTERM", 75, ""), ("SIGHUP", 75, ""), ("SIGUSR1", 0, "ended with 0\n")],
)
def test_a_signal_before_a_run_has_begun_loses_nothing(name, code, said):
    command = [sys.executable, "-c", EARLY.format(name=name)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (code, said), found.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_running_training_saves_and_leaves_and_goes_on(tmp_path, number, code):
    """The whole program: a real signal, the exit code, a checkpoint, and the same command again."""
    args = [
        *(sys.executable, "-m", "vqdit", "train", "--config=image/digits", f"--workdir={tmp_path}"),
        "--tokenizer.steps=100000",
        "--tokenizer.log-every=1",
        "--tokenizer.data.batch-size=8",
        "--tokenizer.checkpoint-every=0",
        "--tokenizer.preview-every=0",
    ]
    process = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "tokenizer" / "metrics.jsonl"
    deadline = time.monotonic() + 240
    while not metrics.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert "Traceback" not in err
    (step,) = {
        int(p.name) for p in (tmp_path / "tokenizer/checkpoints").iterdir() if p.name.isdigit()
    }
    assert lines(tmp_path / "tokenizer")[-1]["step"] == step
    args[6] = f"--tokenizer.steps={step + 2}"
    args += ["--generator.steps=1", "--generator.data.batch-size=8"]
    again = subprocess.run(args, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert f"resumed at step {step}" in again.stderr
    steps = [line["step"] for line in lines(tmp_path / "tokenizer") if "loss" in line]
    assert steps == list(range(1, step + 3))


SPEEDS = "performance.jsonl"
EVERY = {"evaluate_every": 4, "preview_every": 4, "checkpoint_every": 0}
CHILD = """
import signal, sys, time
from pathlib import Path
from tests import tiny
from tests.train.test_signals import EVERY
from vqdit.cli.main import end
from vqdit.data import pipeline
from vqdit.config import Timeouts
from vqdit.tasks import TokenizerTask
from vqdit.train import loop, run

where, folder, *limits = sys.argv[1:]
calls = 0


def hang(*args, **kwargs):
    # As within a native call: the signal is for another thread, and this one does not come back.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    Path(folder, "hung").touch()
    time.sleep(300)


def hang_third(plain):
    def call(*args, **kwargs):
        global calls
        calls += 1
        return hang() if calls == 3 else plain(*args, **kwargs)

    return call


if where == "compile":
    run.train_step = hang
elif where in ("evaluate", "preview"):
    setattr(TokenizerTask, where, hang)
elif where == "data":
    assemble = pipeline._Assemble.__call__  # called for batches ahead, too
    pipeline._Assemble.__call__ = lambda self, step, order: (
        hang() if step == 7 else assemble(self, step, order)
    )
elif where == "step":
    loop._Loop._next = hang_third(loop._Loop._next)
timeouts = Timeouts(**{limit.split("=")[0]: float(limit.split("=")[1]) for limit in limits})
experiment = tiny.tokenizer(**EVERY, timeouts=timeouts)
end(tiny.run(experiment, Path(folder)).exit_code)
"""


@contextlib.contextmanager
def child(where, folder, *limits):
    """A run in a process of its own, once it hangs somewhere."""
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.getcwd()}
    args = [sys.executable, "-c", CHILD, where, str(folder), *limits]
    process = subprocess.Popen(args, stderr=subprocess.PIPE, text=True, env=environment)
    deadline = time.monotonic() + 240
    while not (folder / "hung").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("where", ["compile", "evaluate", "preview", "data"])
def test_sigterm_is_noticed_wherever_the_main_thread_is_and_nothing_is_lost(where, tmp_path):
    with child(where, tmp_path / "broken") as process:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    kept = [p.name for p in tmp_path.glob("broken/checkpoints/*") if p.name.isdigit()]
    # Data are read ahead: the run may be anywhere before the batch that does not come.
    assert kept in {"compile": [[]], "data": [[str(n)] for n in range(1, 8)]}.get(where, [["4"]])
    spent = [line.get("elapsed_seconds", 0.0) for line in lines(tmp_path / "broken", SPEEDS)]
    lost = [line.get("lost_seconds", 0.0) for line in lines(tmp_path / "broken", SPEEDS)]
    # The grace at least, wherever it was spent. While data are read ahead, the run may still react.
    assert where == "data" or max(spent) + sum(lost) > 3.0
    experiment = tiny.tokenizer(**EVERY)
    assert tiny.run(experiment, tmp_path / "broken").exit_code == 0
    tiny.run(experiment, tmp_path / "straight")
    assert lines(tmp_path / "broken") == lines(tmp_path / "straight")
    chex.assert_trees_all_equal(
        state_of(experiment, tmp_path / "broken"), state_of(experiment, tmp_path / "straight")
    )
    previews = [
        sorted(p.name for p in tmp_path.glob(f"{n}/previews/*")) for n in ("broken", "straight")
    ]
    assert previews[0] == previews[1] == ["step_0000004.png", "step_0000008.png"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "limit"),
    [("data", "step=3"), ("step", "step=3"), ("compile", "compile=3"), ("evaluate", "evaluate=3")],
)
def test_a_run_that_hangs_is_ended_with_the_stacks_of_all_threads(where, limit, tmp_path):
    with child(where, tmp_path, limit) as process:
        _, err = process.communicate(timeout=30)
    assert process.returncode == 124, err
    stacks = (tmp_path / "faults/stacks.txt").read_text()
    for text in (stacks, err):
        assert f"timeouts.{limit.split('=')[0]} is 3" in text
        assert "in hang" in text
        assert "in _steps" in text


def test_the_watchdog_knows_its_deadlines(tmp_path):
    now = [0.0]
    dog = Watchdog(Timeouts(start=10.0, step=5.0, evaluate=0.0), tmp_path, clock=lambda: now[0])

    def at(seconds):
        now[0] = seconds
        return dog.expired()

    assert not at(9.9)
    assert at(12.0) == "no progress for 12 s (timeouts.start is 10)"
    dog.progress()
    assert not at(21.0)
    dog.begin("step")
    assert not at(25.9)
    assert "timeouts.step is 5" in at(26.0)
    dog.begin("evaluate")
    assert not at(1e9)


def test_the_watchdog_leaves_with_124_and_keeps_still_in_time(tmp_path, capfd):
    codes = []
    with Watchdog(Timeouts(start=0.1), tmp_path / "faults", codes.append):
        deadline = time.monotonic() + 10
        while not codes and time.monotonic() < deadline:
            time.sleep(0.01)
    assert codes == [124]
    assert "test_the_watchdog_leaves" in (tmp_path / "faults/stacks.txt").read_text()
    with Watchdog(Timeouts(), tmp_path / "other", codes.append):
        time.sleep(1.0)
    assert codes == [124]
    assert not (tmp_path / "other").exists()


class Broken(Exception):
    pass


def failing(plain, at):
    """A function that fails in one of its calls."""
    calls = []

    def call(*args, **kwargs):
        calls.append(None)
        if len(calls) == at:
            raise Broken("by itself")
        return plain(*args, **kwargs)

    return call


@pytest.mark.parametrize("where", ["data", "evaluation"])
def test_an_error_ends_the_run_which_names_the_step_and_saves_it(where, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        if where == "data":
            call = pipeline._Assemble.__call__

            def assemble(self, step, order):
                if step == 6:
                    raise Broken("by itself")
                return call(self, step, order)

            patch.setattr(pipeline._Assemble, "__call__", assemble)
        else:
            patch.setattr(TokenizerTask, "evaluate", failing(TokenizerTask.evaluate, 1))
        with pytest.raises(Broken, match="by itself"):
            tiny.run(tiny.tokenizer(evaluate_every=6, checkpoint_every=0), tmp_path)
    log = (tmp_path / "log.txt").read_text()
    assert "stopped by Broken after step 6" in log
    assert [p.name for p in tmp_path.glob("checkpoints/*") if p.name.isdigit()] == ["6"]
    assert tiny.run(tiny.tokenizer(evaluate_every=6, checkpoint_every=0), tmp_path).step == 8
    steps = [line["step"] for line in lines(tmp_path)]
    assert steps == [1, 2, 3, 4, 5, 6, 6, 7, 8, 8]


def test_a_state_that_is_not_whole_is_not_saved(tmp_path, monkeypatch):
    """The step fails after its state was donated."""

    def fail(self, state, batch):
        for leaf in state.params["decoder"]["in"].values():
            leaf.delete()
        raise Broken

    plain, calls = loop._Loop._next, []

    def step(self, state, batch):
        calls.append(None)
        return (fail if len(calls) == 3 else plain)(self, state, batch)

    monkeypatch.setattr(loop._Loop, "_next", step)
    with pytest.raises(Broken):
        tiny.run(tiny.tokenizer(), tmp_path)
    assert not list(tmp_path.glob("checkpoints/*"))


@pytest.mark.slow
def test_an_error_in_a_worker_process_ends_the_run(tmp_path):
    from tests.cli.test_train import picture

    for number in range(80):
        picture(tmp_path / f"pictures/{number:02d}.png")
    source = ImageFolder(path=str(tmp_path / "pictures"), size=8, channels=1)
    data = Data(source=source, batch_size=8, workers=1)
    for file in source.prepare().rglob("*train.array_record*"):
        content = bytearray(file.read_bytes())
        content[2000] ^= 1  # noticed when the record is read
        file.write_bytes(content)
    with pytest.raises(Exception, match="damaged"):
        tiny.run(tiny.tokenizer(data=data, steps=50), tmp_path / "run")


def test_sigusr1_saves_and_the_run_goes_on(tmp_path, monkeypatch):
    plain = Interrupts.should_stop

    def should_stop(self, step):
        if step == 3:
            send(signal.SIGUSR1)
        return plain(self, step)

    monkeypatch.setattr(Interrupts, "should_stop", should_stop)
    assert tiny.run(tiny.tokenizer(checkpoint_every=0), tmp_path).exit_code == 0
    kept = {int(p.name) for p in tmp_path.glob("checkpoints/*") if p.name.isdigit()}
    assert kept == {3, 8}
    assert "saving step 3, requested by SIGUSR1" in (tmp_path / "log.txt").read_text()
    assert json.loads((tmp_path / "result.json").read_text())["step"] == 8
