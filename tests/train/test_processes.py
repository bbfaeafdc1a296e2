"""Real processes that train one model over gloo: as one process does, and stopped as one."""

import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.phrases import write_table
from vqdit.runs import frozen_arrays, workdir
from vqdit.runs.array_trees import flatten
from vqdit.runs.checkpoints import Checkpoints
from vqdit.train import state as states

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent.parent


def start(folder, steps, devices, processes=1, table=()):
    """Starts all processes of a run; each has that many devices."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    program = [sys.executable, "-m", "tests.train.run_in_processes", str(folder), str(steps)]
    return [
        subprocess.Popen(
            [*program, str(devices), str(processes), str(number), address, *table],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for number in range(processes)
    ]


def finish(started, code=0):
    output = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [code] * len(started), output


def examples(folder, processes=1):
    """The ids of each step's whole batch."""
    parts = [json.loads(Path(f"{folder}-ids-{n}.json").read_text()) for n in range(processes)]
    return [sum(rows, []) for rows in zip(*parts, strict=True)]


def losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def state(folder, step):
    """The state on one device; to restore it is to compare every bit with what was saved."""
    experiment = workdir.read_experiment(folder)
    task, frozen = frozen_arrays.read_frozen(folder)
    optimizer = task.optimizer(experiment.optimizer, experiment.steps)
    create = functools.partial(states.create, task, optimizer, experiment.averaging)
    batch = experiment.data.first_batch(experiment.seed)
    abstract = jax.eval_shape(create, frozen, batch, jax.random.key(experiment.seed))
    return flatten(Checkpoints(folder / workdir.CHECKPOINTS).restore(abstract, step))


def close(one, other):
    for path, leaf in one.items():
        np.testing.assert_allclose(leaf, other[path], rtol=1e-4, atol=1e-5, err_msg=path)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Eight steps in two processes of four devices."""
    folder = tmp_path_factory.mktemp("together") / "run"
    finish(start(folder, 8, devices=4, processes=2))
    return folder


def test_two_processes_train_as_one_does(together, tmp_path):
    finish(start(tmp_path / "run", 8, devices=8))
    assert examples(together, 2) == examples(tmp_path / "run")
    np.testing.assert_allclose(losses(together), losses(tmp_path / "run"), rtol=1e-5)
    close(state(together, 8), state(tmp_path / "run", 8))


def test_texts_of_different_lengths_are_the_same_batches_everywhere(tmp_path):
    table = (str(write_table(tmp_path / "rows.jsonl")),)
    places = {"one": (1, 1), "eight": (8, 1), "two": (2, 2)}
    for name, (devices, processes) in places.items():
        finish(start(tmp_path / name, 20, devices, processes, table))
    for name, (_, processes) in places.items():
        assert examples(tmp_path / name, processes) == examples(tmp_path / "one")
        found, alone = losses(tmp_path / name), losses(tmp_path / "one")
        np.testing.assert_allclose(found, alone, rtol=1e-5)
    assert len(losses(tmp_path / "one")) == 20


@pytest.mark.parametrize(("devices", "processes"), [(4, 1), (1, 1), (2, 2)])
def test_a_run_goes_on_with_other_devices_and_processes(together, tmp_path, devices, processes):
    folder = tmp_path / "run"
    finish(start(folder, 4, devices=4, processes=2))
    finish(start(folder, 8, devices=devices, processes=processes))
    assert examples(folder, processes) == examples(together, 2)[4:]
    np.testing.assert_allclose(losses(folder), losses(together), rtol=1e-5)
    close(state(folder, 8), state(together, 8))


def wait_for(process, step):
    for line in process.stdout:
        if line.strip() == str(step):
            return


def test_signals_to_one_save_and_stop_all_at_the_same_step(tmp_path):
    folder = tmp_path / "run"
    started = start(folder, 100_000, devices=1, processes=2)
    wait_for(started[1], 3)
    started[1].send_signal(signal.SIGUSR1)
    wait_for(started[1], 12)
    started[1].send_signal(signal.SIGTERM)
    finish(started, code=75)
    steps = Checkpoints(folder / workdir.CHECKPOINTS).steps()
    saved = re.search(r"saving step (\d+), requested by SIGUSR1", (folder / "log.txt").read_text())
    assert saved and 3 <= int(saved[1]) <= 12 <= steps[-1]
    seen = [len(json.loads(Path(f"{folder}-ids-{n}.json").read_text())) for n in range(2)]
    assert int(state(folder, steps[-1])["step"]) == steps[-1]
    assert all(count >= steps[-1] for count in seen)
