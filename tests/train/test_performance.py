"""`performance.jsonl`: where the time of a run went."""

import dataclasses
import json

import pytest

from tests import tiny
from vqdit.profiling.accelerators import Chip
from vqdit.runs.checkpoint_retention import Keep
from vqdit.runs.checkpoints import Checkpoints
from vqdit.train import performance
from vqdit.train.jsonl_writer import JsonlWriter
from vqdit.train.performance import Ledger, Performance
from vqdit.train.run import Run


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
    measured.resume(0)
    spend(ledger, clock, compile=20.0, data=1.0, step=4.0, evaluate=10.0)
    line = measured.line(10)
    assert line == {
        "steps_per_second": 10 / 5.0,
        "examples_per_second": 16 * 10 / 5.0,
        "step_seconds": 4.0 / 10,
        "data_wait_seconds": 1.0,
        "compile_seconds": 20.0,
        "elapsed_seconds": 40.0,
        "goodput": 4.0 / 40.0,
    }
    spend(ledger, clock, data=4.0, step=16.0)
    line = measured.line(20)
    assert line["steps_per_second"] == 10 / 20.0
    assert line["compile_seconds"] == 0.0
    assert line["goodput"] == 20.0 / 60.0


def test_what_was_lost_in_a_crash_counts_as_time_but_not_as_use(clock, tmp_path):
    path = tmp_path / "performance.jsonl"
    ledger = Ledger("start", clock)
    measured = Performance(ledger, path, batch_size=1)
    measured.resume(0)
    spend(ledger, clock, compile=10.0)
    write(path, 1, measured.line(1))
    for step in (2, 3, 4):
        spend(ledger, clock, step=10.0)
        write(path, step, measured.line(step))
    again = Performance(Ledger("start", clock), path, batch_size=1)
    # The checkpoint was of step 2: the lines beyond are cut off.
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines()[:2]))
    again.resume(2)
    again._ledger.begin("step")
    clock.now += 10.0
    line = again.line(3)
    assert line["elapsed_seconds"] == 40.0 + 10.0
    assert line["goodput"] == (10.0 + 10.0) / 50.0


def test_the_time_of_a_start_without_a_line_of_its_own_after_a_cut_stays_known(clock, tmp_path):
    path = tmp_path / "performance.jsonl"
    write(path, 500, {"elapsed_seconds": 500.0, "goodput": 1.0})
    write(path, 1000, {"elapsed_seconds": 1000.0, "goodput": 1.0})
    writer = JsonlWriter(path)
    for _ in range(2):  # the first of these two dies before it has a line
        measured = Performance(Ledger("start", clock), path, batch_size=1)
        writer.cut(500)
        if line := measured.resume(500):
            writer.write(500, **line)
    ledger = Ledger("step", clock)
    measured = Performance(ledger, path, batch_size=1)
    assert measured.resume(500) == {}
    clock.now += 50.0
    line = measured.line(550)
    assert line["elapsed_seconds"] == 1050.0
    assert line["goodput"] == pytest.approx(550.0 / 1050.0)


def test_a_run_books_its_time_and_goes_on_with_it(tmp_path):
    tiny.run(tiny.tokenizer(), tmp_path)
    tiny.run(tiny.tokenizer(steps=12), tmp_path)
    found = [json.loads(text) for text in (tmp_path / "performance.jsonl").read_text().splitlines()]
    assert [line["step"] for line in found] == list(range(1, 13))
    assert [line["step"] for line in found if line["compile_seconds"] > 0] == [1, 9]
    assert all(line["step_seconds"] > 0 and 0 <= line["goodput"] < 1 for line in found)
    elapsed = [line["elapsed_seconds"] for line in found]
    assert elapsed == sorted(elapsed) and elapsed[0] > found[0]["compile_seconds"]
    steps = sum(line["step_seconds"] for line in found)
    assert found[-1]["goodput"] == pytest.approx(steps / elapsed[-1], rel=1e-6)


@pytest.mark.parametrize("kind", [tiny.tokenizer, pytest.param(tiny.gan, marks=pytest.mark.slow)])
def test_the_model_flops_of_a_step_grow_with_its_batch(kind, tmp_path):
    found = []
    for size in (16, 32):
        folder = tmp_path / str(size)
        folder.mkdir()
        data = dataclasses.replace(kind().data, batch_size=size)
        run = Run(kind(data=data), folder, tiny.resolver({}))
        with Checkpoints(folder / "none", Keep()) as none:
            found.append(run.step_flops(run.start(none)))
    assert found[0] > 0 and found[1] == pytest.approx(2 * found[0], rel=0.01)


def test_mfu_is_the_share_of_the_peak(clock, tmp_path, monkeypatch):
    monkeypatch.setattr(performance.accelerators, "find", lambda kind: Chip(1e12, 1.0, 1.0, 1.0))
    monkeypatch.setattr(performance.jax, "device_count", lambda: 4)
    ledger = Ledger("step", clock)
    measured = Performance(ledger, tmp_path / "performance.jsonl", batch_size=8)
    measured.flops = 1e12
    measured.resume(0)
    clock.now += 5.0
    assert measured.line(10)["mfu"] == pytest.approx(1e12 * 10 / 5.0 / 4e12)


def test_a_start_that_is_stopped_leaves_its_time(clock, tmp_path):
    ledger = Ledger("start", clock)
    measured = Performance(ledger, tmp_path / "performance.jsonl", batch_size=1)
    measured.resume(0)
    spend(ledger, clock, compile=8.0, step=2.0)
    line = measured.last(1)
    assert (line["elapsed_seconds"], line["goodput"]) == (10.0, 0.2)
    spend(ledger, clock, evaluate=5.0)
    assert measured.last(1) == {"lost_seconds": 5.0}  # no step since
    assert measured.last(1) == {"lost_seconds": 0.0}


def test_a_start_that_ends_before_its_first_step_leaves_all_of_its_time(clock, tmp_path):
    ledger = Ledger("start", clock)
    measured = Performance(ledger, tmp_path / "performance.jsonl", batch_size=1)
    clock.now += 3.0
    measured.resume(0)
    spend(ledger, clock, compile=8.0)
    assert measured.last(0) == {"lost_seconds": 11.0}
