"""TensorBoard and Weights & Biases, by stand-ins for their packages that keep what is told."""

import json
import signal
import sys
import threading
from types import SimpleNamespace

import jax
import pytest

from tests import tiny
from vqdit import config
from vqdit.cli.main import main
from vqdit.cli.overrides import override
from vqdit.train import loop
from vqdit.train.signals import Interrupts
from vqdit.train.trackers import TensorBoard, Wandb


class FakeWandb(SimpleNamespace):
    """Runs by id, as the service keeps them; a step that is passed cannot be logged to."""

    def __init__(self):
        super().__init__(runs={}, given=[], running=0)

    def init(self, **given):
        assert self.running == 0
        self.running = 1
        self.given.append(given)
        history = self.runs.setdefault(given["id"], {})
        run = SimpleNamespace(step=max(history) + 1 if history else 0)

        def log(values, step):
            assert step >= run.step, "wandb would warn and ignore it"
            run.step = step
            assert not values.keys() & history.get(step, {}).keys(), "written twice"
            history.setdefault(step, {}).update(values)

        def finish():
            self.running -= 1

        run.log, run.finish = log, finish
        return run


class FakeTensorboardX(SimpleNamespace):
    """Scalars of a folder, as TensorBoard shows them: without those that a purge drops."""

    def __init__(self):
        super().__init__(shown={}, purges=[], open=0)

    def SummaryWriter(self, logdir, purge_step, flush_secs):
        self.open += 1
        self.purges.append(purge_step)
        scalars = self.shown.setdefault(logdir, {})
        for key in [key for key in scalars if key[0] >= purge_step]:
            del scalars[key]

        def add_scalar(name, value, step):
            assert (step, name) not in scalars, "written twice"
            scalars[step, name] = value

        def close():
            self.open -= 1

        return SimpleNamespace(add_scalar=add_scalar, close=close)


@pytest.fixture
def wandb(monkeypatch):
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", fake := FakeWandb())
    return fake


@pytest.fixture
def tensorboard(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", fake := FakeTensorboardX())
    return fake


class Leave(BaseException):
    """What ends a process without a save, as a kill does."""


class StopAt(Interrupts):
    """Stops after a step: as SIGTERM would, or as a kill."""

    at, kills = 0, False

    def should_stop(self, step):
        if step == self.at:
            if self.kills:
                raise Leave
            self.requested = signal.SIGTERM
        return super().should_stop(step)


def written(folder):
    """Every number of the run's own files, by step and name."""
    found = {}
    for name in ("metrics.jsonl", "performance.jsonl"):
        for line in map(json.loads, (folder / name).read_text().splitlines()):
            step = line.pop("step")
            found.update({(step, key): value for key, value in line.items()})
    return found


def logged(wandb):
    [history] = wandb.runs.values()
    return {
        (step, name): value for step, values in history.items() for name, value in values.items()
    }


def train(folder, monkeypatch, stop=0, kills=False, **fields):
    monkeypatch.setattr(StopAt, "at", stop)
    monkeypatch.setattr(StopAt, "kills", kills)
    monkeypatch.setattr(loop, "Interrupts", StopAt)
    defaults = {"steps": 4, "checkpoint_every": 2, "evaluate_every": 2}
    experiment = tiny.tokenizer(log_to=("tensorboard", "wandb"), **{**defaults, **fields})
    return tiny.run(experiment, folder)


def test_every_number_goes_to_both_and_what_a_kill_lost_is_not_there_twice(
    tmp_path, wandb, tensorboard, monkeypatch
):
    folder = tmp_path / "my_run"
    with pytest.raises(Leave):
        train(folder, monkeypatch, stop=3, kills=True)
    assert (wandb.running, tensorboard.open) == (0, 0)
    train(folder, monkeypatch)
    expected, found = written(folder), logged(wandb)
    assert {step for step, name in expected if name == "loss"} == {1, 2, 3, 4}
    assert {"validation/psnr", "steps_per_second"} <= {name for _, name in expected}
    assert tensorboard.purges == [1, 3]  # the last checkpoint is of step 2
    assert tensorboard.shown == {str(folder / "tensorboard"): expected}
    assert expected.pop((2, "lost_seconds")) > 0  # of step 3; Weights & Biases is beyond step 2
    assert found.keys() == expected.keys()
    same = {key for key in expected if key[0] != 3 or key[1] == "loss"}  # timings are the first's
    assert {key: found[key] for key in same} == {key: expected[key] for key in same}
    assert (wandb.running, tensorboard.open) == (0, 0)
    for given in wandb.given:
        assert (given["project"], given["name"], given["dir"]) == ("vqdit", "my_run", str(folder))
        assert (given["id"], given["config"]["steps"]) == (wandb.given[0]["id"], 4)


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_the_same_curves(tmp_path, wandb, tensorboard, monkeypatch):
    folder = tmp_path / "run"
    assert train(folder, monkeypatch, stop=3).exit_code == 75
    assert (wandb.running, tensorboard.open) == (0, 0)
    train(folder, monkeypatch, steps=5)
    assert tensorboard.purges == [1, 4]
    assert tensorboard.shown[str(folder / "tensorboard")] == written(folder) == logged(wandb)
    assert len(wandb.given) == 2
    assert wandb.given[1]["config"]["steps"] == 5 and wandb.given[1]["allow_val_change"]


def test_of_several_processes_only_the_first_tells_them(tmp_path, wandb, tensorboard, monkeypatch):
    from vqdit.train.trackers import trackers

    assert len(trackers(("tensorboard", "wandb"), tmp_path)) == 2
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    assert trackers(("tensorboard", "wandb"), tmp_path) == []


def test_a_workdir_does_not_choose_where_wandb_sends_what_it_gets(tmp_path, wandb):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "wandb_id").write_text("../../elsewhere")
    with pytest.raises(ValueError, match="wandb_id must contain 1 to 64 letters or digits"):
        Wandb(tmp_path).cut(0)
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "settings").write_text("[default]\nbase_url = https://example.org\n")
    with pytest.raises(ValueError, match="settings could make wandb send your key .* remove it"):
        Wandb(tmp_path).cut(0)
    assert not wandb.given


@pytest.mark.parametrize(("name", "module"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_a_missing_package_is_named_before_anything_is_written(
    name, module, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImportError, match=rf"pip install 'vqdit\[{name}\]'"):
        tiny.run(tiny.tokenizer(log_to=(name,)), tmp_path / "run")
    assert main(["train", "--config=image/digits", f"--tokenizer.log-to={name}"]) == 2
    assert f"pip install 'vqdit[{name}]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_line_and_json_know_log_to():
    found = override(tiny.tokenizer(), ["--log-to=tensorboard,wandb"])
    assert found.log_to == ("tensorboard", "wandb")
    assert config.from_json(json.loads(json.dumps(config.to_json(found)))) == found
    with pytest.raises(ValueError, match="log-to|log_to"):
        override(tiny.tokenizer(), ["--log-to=tensorbord"])


def test_a_tensorboard_whose_thread_has_died_is_let_go(tmp_path):
    """After an error of the disk its thread is gone, and the next point would wait for ever."""

    def add_scalar(*point):
        raise AssertionError("this would wait for ever")

    events = SimpleNamespace(_worker=threading.Thread())
    written = SimpleNamespace(event_writer=events)
    tensorboard = TensorBoard(tmp_path)
    tensorboard._writer = SimpleNamespace(file_writer=written, add_scalar=add_scalar)
    tensorboard.write(1, loss=1.0)
    assert tensorboard._writer is None
    tensorboard.close()
