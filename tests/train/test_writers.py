"""The files of a run, and its progress lines."""

import json
import math

import jax
import jax.numpy as jnp
import pytest

from vqdit import config
from vqdit.config import Experiment, Profile
from vqdit.train import progress
from vqdit.train.jsonl_writer import JsonlWriter, read_lines
from vqdit.train.progress import Progress
from vqdit.train.tracer import Tracer


def test_lines_are_json_with_the_step_first_and_exact_numbers(tmp_path):
    writer = JsonlWriter(tmp_path / "metrics.jsonl")
    writer.write(3, loss=0.1 + 0.2, accuracy=1.0)
    line = (tmp_path / "metrics.jsonl").read_text()
    assert line == '{"step": 3, "loss": 0.30000000000000004, "accuracy": 1.0}\n'


def test_numbers_that_are_not_finite_stay_valid_json(tmp_path):
    writer = JsonlWriter(tmp_path / "metrics.jsonl")
    writer.write(1, loss=math.nan, other=-math.inf)

    def refuse(name):
        raise AssertionError(name)

    found = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
    assert found == {"step": 1, "loss": "nan", "other": "-inf"}


def test_cut_drops_later_steps_and_a_torn_line(tmp_path):
    file = tmp_path / "metrics.jsonl"
    writer = JsonlWriter(file)
    for step in (1, 2, 3, 4):
        writer.write(step, loss=float(step))
    file.write_text(file.read_text() + '{"step": 2, "lo')
    writer.cut(2)
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_lines_that_are_torn_or_of_something_else_are_dropped(tmp_path):
    file = tmp_path / "metrics.jsonl"
    writer = JsonlWriter(file)
    for step in (1, 2):
        writer.write(step, loss=float(step))
    good = file.read_bytes()
    foreign = [
        b"[1]",
        b"null",
        b'{"step": "1"}',
        b'{"step": NaN}',
        b"{}",
        b'{"step": 1, "\xe9": 1}',
    ]
    flipped = good.splitlines()[0].replace(b"loss", b"\xecoss")
    file.write_bytes(b"\n".join([flipped, *foreign, b"[" * 10_000, good]) + b'{"step": 2, "lo')
    assert writer.names(1) == {"step", "loss"}
    assert len(read_lines(file)) == 2
    writer.cut(2)
    assert file.read_bytes() == good


def test_cut_of_nothing_makes_nothing(tmp_path):
    JsonlWriter(tmp_path / "metrics.jsonl").cut(5)
    assert not list(tmp_path.iterdir())


def test_progress_says_loss_speed_and_time_left(capsys):
    shown = Progress("run", start=0, steps=100)
    shown.update(20, {"loss": 0.5}, {"steps_per_second": 10.0, "examples_per_second": 80.0})
    shown.close()
    assert capsys.readouterr().err == "run 20/100  loss 0.5  10 steps/s  80 examples/s  0:08 left\n"


@pytest.mark.parametrize(
    ("rate", "left"), [(10.0, "0:08"), (0.5, "2:40"), (1e-2, "2:13:20"), (1e-3, "22:13:20")]
)
def test_the_time_that_is_left_is_in_hours_and_minutes(rate, left, capsys):
    speed = {"steps_per_second": rate, "examples_per_second": rate}
    Progress("run", start=0, steps=100).update(20, {"loss": 0.5}, speed)
    assert capsys.readouterr().err.endswith(f"  {left} left\n")


def test_a_run_that_would_take_very_long_names_a_smaller_config():
    assert not progress.too_long("ImageFolder", 3600.0)
    advice = progress.too_long("ImageFolder", 51 * 3600.0)
    assert "about 51 hours on this CPU; --config=image/folder_cpu is small" in advice
    assert "--config=quickstart" in progress.too_long("Digits", 1e6)
    assert {*progress.SMALLER.values(), "quickstart"} <= set(config.shipped())


def test_progress_is_quiet_between_lines_and_speaks_at_the_end(capsys, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("vqdit.train.progress.time.monotonic", lambda: now[0])
    shown = Progress("run", start=0, steps=4)
    for step in (1, 2, 3, 4):
        now[0] += 1.0
        shown.update(step, {"loss": 1.0}, {"steps_per_second": 1.0, "examples_per_second": 1.0})
    lines = [line.split()[1] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["1/4", "4/4"]


@pytest.mark.parametrize(
    ("profile", "first", "expected"),
    [
        (Profile(start=3, steps=2), 1, [1, 2, "start", 3, 4, "stop", 5, 6]),
        (Profile(start=5, steps=9), 1, [1, 2, 3, 4, "start", 5, 6, "stop"]),  # the run ends before
        (Profile(start=3, steps=0), 1, [1, 2, 3, 4, 5, 6]),
        (Profile(start=3, steps=2), 4, [4, 5, 6]),  # resumed beyond its start
    ],
)
def test_the_trace_is_of_the_steps_that_are_asked_for(
    profile, first, expected, tmp_path, monkeypatch
):
    happened = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: happened.append("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: happened.append("stop"))
    tracer = Tracer(tmp_path, profile)
    for step in range(first, 7):
        tracer.before(step)
        happened.append(step)
        tracer.after(step, jnp.zeros(()))
    tracer.close()
    assert happened == expected


def test_a_profile_begins_at_a_step():
    with pytest.raises(ValueError, match="start >= 1 and steps >= 0, got start=0 and steps=1"):
        Profile(start=0, steps=1)


def test_names_are_those_of_one_step(tmp_path):
    writer = JsonlWriter(tmp_path / "metrics.jsonl")
    assert writer.names(1) == set()
    writer.write(1, loss=1.0)
    writer.write(2, loss=1.0)
    writer.write(2, other=1.0)
    assert writer.names(2) == {"step", "loss", "other"}
    assert writer.names(3) == set()


def test_steps_to_trace_are_steps_of_the_run():
    with pytest.raises(ValueError, match="trace steps up to 104, but the run has only 100"):
        Experiment(steps=100, profile=Profile(start=100, steps=5))
    Experiment(steps=104, profile=Profile(start=100, steps=5))
