"""Whether there are other processes, and what is told wrongly."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from vqdit.parallel import distributed
from vqdit.parallel.distributed import ALONE, Place, place, start, surroundings
from vqdit.train import preemption


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, None),
        ({"JAX_COORDINATOR_ADDRESS": "a:1"}, "JAX_COORDINATOR_ADDRESS"),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "4"}, "Slurm"),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, None),  # a batch script, and no srun
        ({"SLURM_NTASKS": "4"}, None),  # an allocation, and no srun
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "Open MPI"),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, None),
        ({"KUBERNETES_SERVICE_HOST": "1", "JOB_COMPLETION_INDEX": "0"}, "Kubernetes"),
        ({"KUBERNETES_SERVICE_HOST": "1"}, None),
        (
            {
                "KUBERNETES_SERVICE_HOST": "1",
                "JOB_COMPLETION_INDEX": "0",
                "TPU_WORKER_HOSTNAMES": "a",
            },
            None,
        ),
        ({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, "the TPU's workers"),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "the TPU's workers"),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
    ],
)
def test_what_says_that_there_are_others(environment, found):
    assert surroundings(environment) == found


def test_a_place_is_told_whole_or_not_at_all():
    assert place(None, None, None) is None
    assert place("host:1234", 4, 3) == Place("host:1234", 4, 3)
    assert place(None, 1, None) == ALONE


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (("host:1", None, 0), "belong together"),
        (("host", 2, 0), "must be HOST:PORT, got 'host'"),
        (("host:1", 2, 2), "from 0 to --processes - 1, got 2 of 2"),
        (("host:1", 0, 0), "from 0 to --processes - 1"),
    ],
)
def test_a_place_that_cannot_be_is_refused(told, message):
    with pytest.raises(ValueError, match=message):
        place(*told)


KUBERNETES = {"KUBERNETES_SERVICE_HOST": "1", "JOB_COMPLETION_INDEX": "0"}


def test_pods_that_cannot_find_one_another_are_refused_unless_they_are_to_train_alone(monkeypatch):
    for name, value in KUBERNETES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed, "_has", lambda package: False)
    with pytest.raises(ValueError, match=r"pip install 'jax\[k8s\]' .* --processes=1"):
        start()
    assert start(place(None, 1, None)) is None


def test_a_script_of_slurm_without_srun_trains_alone_and_says_so(monkeypatch, caplog):
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)
    with caplog.at_level("WARNING", "vqdit"):
        assert start() is None
    assert "Slurm has 4 tasks" in caplog.text


WAITING = """
import socket, sys
from vqdit.parallel import distributed
from vqdit.runs import logs
from vqdit.train.exit_codes import leave_on_sigterm

distributed.PATIENCE = int(sys.argv[1])
logs.to_terminal()
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
with leave_on_sigterm():
    distributed.start(distributed.place(address, 2, 0))
"""


@pytest.mark.parametrize(
    ("patience", "number", "code"),
    [(60, signal.SIGTERM, 75), (60, signal.SIGHUP, 75), (1, None, 124)],
)
def test_a_process_that_waits_for_others_can_be_stopped_and_gives_up(patience, number, code):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", WAITING, str(patience)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("waiting for the other processes")
        time.sleep(0.3)
        if number is not None:
            process.send_signal(number)
        _, err = process.communicate(timeout=10)
    assert process.returncode == code, err
    assert ("did not connect within 1 s" in err) == (code == 124)


def test_python_handles_sigterm_again_and_the_notifier_is_told(monkeypatch):
    told, seen = [], []
    notifier = ctypes.CFUNCTYPE(None, ctypes.c_int)(told.append)
    address = ctypes.cast(notifier, ctypes.c_void_p)
    install = ctypes.CDLL(None).signal
    install.argtypes = [ctypes.c_int, ctypes.c_void_p]
    monkeypatch.setattr(preemption, "_notify", None)
    old = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        install(signal.SIGTERM, address)
        preemption.take_over()
        preemption.take_over()  # once more changes nothing
        signal.raise_signal(signal.SIGTERM)
        assert (told, seen) == ([], [signal.SIGTERM])
        preemption.tell()
        assert told == [signal.SIGTERM]
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a program without a handler of its own
        install(signal.SIGTERM, address)
        preemption.take_over()
        signal.raise_signal(signal.SIGTERM)
        assert told == [signal.SIGTERM] * 2
    finally:
        signal.signal(signal.SIGTERM, old)


CONNECTED = """
import sys, time
import jax
from vqdit import parallel
from vqdit.parallel import distributed
from vqdit.runs import logs
from vqdit.train.exit_codes import leave_on_sigterm
from vqdit.train.signals import Interrupts

jax.config.update("jax_cpu_collectives_implementation", "gloo")
address, process, in_run = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "run"
logs.to_terminal()
with leave_on_sigterm():
    distributed.start(distributed.place(address, 2, process))
    jax.devices()
    print("connected", flush=True)
    if process == 1:
        time.sleep(100)
    if not in_run:
        parallel.together("a step that process 1 does not take")
    with Interrupts() as interrupts, interrupts.may_exit():
        parallel.together("a step that process 1 does not take")
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", ["run", "before"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_process_that_waits_for_another_one_to_take_a_step_ends(place, number):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", CONNECTED, address, str(index), place],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for index in range(2)
    ]
    try:
        assert both[0].stdout is not None
        assert both[0].stdout.readline() == "connected\n"
        time.sleep(1.0)
        both[0].send_signal(number)
        assert both[0].wait(timeout=10) == 75
    finally:
        for process in both:
            process.kill()
            process.communicate()
