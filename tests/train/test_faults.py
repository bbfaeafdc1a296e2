"""Signals: the first asks, the second Ctrl-C leaves."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.train.test_loop import lines
from vqdit.train.faults import Interrupts


def send(number):
    os.kill(os.getpid(), number)
    time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_asks_to_stop_and_names_the_exit_code(number, code):
    with Interrupts() as interrupts:
        assert not interrupts.should_stop(1)
        send(number)
        assert interrupts.should_stop(2)
        assert interrupts.exit_code == code


def test_a_second_ctrl_c_leaves_at_once():
    with Interrupts():
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


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
