"""`performance.jsonl`: where the time of a run went."""

import json

import pytest

from vqdit.chips import Chip
from vqdit.train import performance
from vqdit.train.performance import Ledger, Performance


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def spend(ledger, clock, **parts):
    for part, seconds in parts.items():
        ledger.begin(part)
        clock.now += seconds


def write(path, step, line):
    with path.open("a") as file:
        file.write(json.dumps({"step": step, **line}) + "\n")


@pytest.fixture
def clock():
    return Clock()


def test_a_ledger_adds_up_what_was_begun(clock):
    ledger = Ledger("start", clock)
    clock.now += 2.0
    spend(ledger, clock, step=3.0, evaluate=1.0)
    spend(ledger, clock, step=4.0)
    assert ledger.spent == {"start": 2.0, "step": 7.0, "evaluate": 1.0}


def test_a_line_tells_steps_from_compilation_waiting_and_evaluation(clock, tmp_path):
    ledger = Ledger("start", clock)
    clock.now += 5.0
    measured = Performance(ledger, tmp_path / "performance.jsonl", batch_size=16)
    measured.go_on(0)
    spend(ledger, clock, compile=20.0, data=1.0, step=4.0, evaluate=10.0)
    line = measured.line(11)  # the first of the 11 compiled
    assert line == {
        "steps_per_second": 10 / 5.0,
        "examples_per_second": 16 * 10 / 5.0,
        "step_seconds": 4.0 / 10,
        "data_wait_seconds": 1.0 / 10,
        "compile_seconds": 20.0,
        "elapsed_seconds": 40.0,
        "goodput": 4.0 / 40.0,
    }
    spend(ledger, clock, data=4.0, step=16.0)
    line = measured.line(21)
    assert line["steps_per_second"] == 10 / 20.0
    assert line["compile_seconds"] == 0.0
    assert line["goodput"] == 20.0 / 60.0


def test_what_was_lost_in_a_crash_counts_as_time_but_not_as_use(clock, tmp_path):
    path = tmp_path / "performance.jsonl"
    ledger = Ledger("start", clock)
    measured = Performance(ledger, path, batch_size=1)
    measured.go_on(0)
    spend(ledger, clock, compile=10.0)
    write(path, 1, measured.line(1))
    for step in (2, 3, 4):
        spend(ledger, clock, step=10.0)
        write(path, step, measured.line(step))
    again = Performance(Ledger("start", clock), path, batch_size=1)
    # The checkpoint was of step 2: the lines beyond are cut off.
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines()[:2]))
    again.go_on(2)
    again._ledger.begin("step")
    clock.now += 10.0
    line = again.line(3)
    assert line["elapsed_seconds"] == 40.0 + 10.0
    assert line["goodput"] == (10.0 + 10.0) / 50.0


def test_mfu_is_the_share_of_the_peak(clock, tmp_path, monkeypatch):
    monkeypatch.setattr(performance.chips, "find", lambda kind: Chip(1e12, 1.0, 1.0, 1.0))
    monkeypatch.setattr(performance.jax, "device_count", lambda: 4)
    ledger = Ledger("step", clock)
    measured = Performance(ledger, tmp_path / "performance.jsonl", batch_size=8, flops=1e12)
    measured.go_on(0)
    clock.now += 5.0
    assert measured.line(10)["mfu"] == pytest.approx(1e12 * 10 / 5.0 / 4e12)
