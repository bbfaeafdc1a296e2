"""Training with several processes: detection, connection and synchronization.

Every machine runs the same command. On a TPU, under Slurm, Open MPI and in an indexed Kubernetes
job JAX finds the other processes from the environment; elsewhere, command-line options give them.
"""

import contextlib
import importlib.util
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from glob import glob
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from vqdit.train.exit_codes import HUNG, leave
from vqdit.train.preemption import take_over

log = logging.getLogger(__name__)

PATIENCE = 300
"""Seconds that a process waits for the others when it starts."""
JAX_OWN = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


class Place(NamedTuple):
    """The position of this process among several processes, from the command line.

    Attributes:
        coordinator: "host:port" of process 0, reachable by all processes.
        processes: number of processes.
        process: index of this process, from 0.
    """

    coordinator: str
    processes: int
    process: int


ALONE = Place("", 1, 0)
"""The position of a process that trains alone."""


def place(coordinator: str | None, processes: int | None, process: int | None) -> Place | None:
    """Returns the position given by command-line options; None if no option is given.

    If `processes=1` is the only option, this process trains alone and ignores its environment.

    Raises:
        ValueError: only some options are given, or the numbers are inconsistent.
    """
    given = (coordinator, processes, process)
    if all(part is None for part in given):
        return None
    if given == (None, 1, None):
        return ALONE
    if coordinator is None or processes is None or process is None:
        raise ValueError(
            "--coordinator=HOST:PORT, --processes=N and --process=I belong together; give all of "
            f"them, or none, or only --processes=1 for a single process; got {coordinator}, "
            f"{processes} and {process}"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"--coordinator must be HOST:PORT, got {coordinator!r}")
    if processes < 1 or not 0 <= process < processes:
        raise ValueError(
            f"--process must be from 0 to --processes - 1, got {process} of {processes}"
        )
    return Place(coordinator, processes, process)


def surroundings(environment: Mapping[str, str]) -> str | None:
    """Returns the name of the launcher that started several processes; None if there is none.

    Args:
        environment: environment variables.
    """
    if environment.get(JAX_OWN[0]):
        return JAX_OWN[0]
    if "SLURM_PROCID" in environment and _number(environment, "SLURM_STEP_NUM_TASKS") > 1:
        return "Slurm"
    if _number(environment, "OMPI_COMM_WORLD_SIZE") > 1:
        return "Open MPI"
    workers = environment.get("TPU_WORKER_HOSTNAMES", "")
    if "," in workers or _number(environment, "MEGASCALE_NUM_SLICES") > 1:
        return "the TPU's workers"
    if not workers and {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= set(environment):
        return "Kubernetes"
    return None


def start(told: Place | None = None) -> str | None:
    """Connects to the other processes, if any. Must be called before JAX initializes devices.

    Args:
        told: the position of this process; None reads it from the environment.

    Returns:
        The source of the information on the other processes; None if this process is alone.

    Raises:
        ValueError: the environment does not tell how to find the other processes.
    """
    if told == ALONE:
        return None
    if told is not None:
        with _waiting("the command line"):
            jax.distributed.initialize(*told, initialization_timeout=2 * PATIENCE)
        return "the command line"
    # On TPU VMs, the environment does not list the workers, but libtpu knows them.
    is_tpu = bool(glob("/dev/accel*") or glob("/dev/vfio/[0-9]*")) and not _is_for_cpu()
    found = surroundings(os.environ) or ("the TPU" if is_tpu and _has("libtpu") else None)
    if found == "Kubernetes" and not _has("kubernetes"):
        raise ValueError(
            "this is a pod of an indexed Kubernetes job, whose pods find each other with the "
            "package kubernetes, which is not installed; run pip install 'jax[k8s]' to train "
            "together, or give --processes=1 to train separately in each pod"
        )
    tasks = _number(os.environ, "SLURM_NTASKS")
    if found is None and tasks > 1:
        log.warning(
            "Slurm has %d tasks for this job, but srun did not start this process: it trains "
            "alone. Start the command with srun to use all tasks.",
            tasks,
        )
    if found is not None:
        with _waiting(found):
            try:
                jax.distributed.initialize(initialization_timeout=2 * PATIENCE)
            except (RuntimeError, ValueError, OSError) as error:
                raise ValueError(
                    f"cannot find the other processes, which {found} starts: {error}; give "
                    "--coordinator, --processes and --process, or --processes=1 to train "
                    "alone"
                ) from error
    return found


@contextlib.contextmanager
def _waiting(named_by: str) -> Iterator[None]:
    """Logs that this process waits for the others, and exits with `HUNG` if they do not connect."""

    def give_up() -> None:
        print(
            f"error: the other processes that {named_by} names did not connect within {PATIENCE} "
            "s; start the command in all of them, or give --processes=1 to train alone",
            file=sys.stderr,
        )
        leave(HUNG)

    log.info("waiting for the other processes, which %s names", named_by)
    timer = threading.Timer(PATIENCE, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
        take_over()
    finally:
        timer.cancel()


def process() -> tuple[int, int]:
    """Returns the index of this process and the number of processes."""
    return jax.process_index(), jax.process_count()


def all_agree(value: bool) -> bool:
    """Returns whether the value is True in every process; every process must call it."""
    if jax.process_count() == 1:
        return value
    return bool(np.all(multihost_utils.process_allgather(np.asarray(value))))


def together(name: str) -> None:
    """Waits until every process has called this function with the same name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def _number(environment: Mapping[str, str], name: str) -> int:
    value = environment.get(name, "")
    return int(value) if value.isdigit() else 0


def _is_for_cpu() -> bool:
    return os.environ.get("JAX_PLATFORMS", "") == "cpu"


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
