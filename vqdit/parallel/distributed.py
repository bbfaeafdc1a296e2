"""Training with several processes: how they are detected and connected, and how they synchronize.

Every machine runs the same command. On a TPU, under Slurm, Open MPI and in an indexed Kubernetes
job JAX finds the other processes in the environment; elsewhere the command line gives them.
"""

import importlib.util
import os
from collections.abc import Mapping
from glob import glob
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

JAX_OWN = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


class Place(NamedTuple):
    """The place of this process among several, as given on the command line.

    Attributes:
        coordinator: "host:port" of process 0, reachable by all processes.
        processes: number of processes.
        process: index of this process, from 0.
    """

    coordinator: str
    processes: int
    process: int


def place(coordinator: str | None, processes: int | None, process: int | None) -> Place | None:
    """Returns the place given by command-line options; None if no option is given.

    Raises:
        ValueError: only some options are given, or the numbers do not fit.
    """
    given = (coordinator, processes, process)
    if all(part is None for part in given):
        return None
    if coordinator is None or processes is None or process is None:
        raise ValueError(
            "--coordinator=HOST:PORT, --processes=N and --process=I belong together; give all of "
            f"them, or none, got {coordinator}, {processes} and {process}"
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
    """Returns the launcher that started several processes; None if the environment names none.

    Args:
        environment: environment variables.
    """
    if environment.get(JAX_OWN[0]):
        return "JAX_COORDINATOR_ADDRESS"
    if _number(environment, "SLURM_NTASKS") > 1 and "SLURM_PROCID" in environment:
        return "Slurm"
    if _number(environment, "OMPI_COMM_WORLD_SIZE") > 1:
        return "Open MPI"
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        return "Kubernetes"
    if "," in environment.get("TPU_WORKER_HOSTNAMES", ""):
        return "the TPU's workers"
    return None


def start(told: Place | None = None) -> str | None:
    """Connects to the other processes, if any. Call it before anything asks JAX for devices.

    Args:
        told: the place of this process; None reads it from the environment.

    Returns:
        What named the other processes; None if this process is alone.

    Raises:
        RuntimeError: the other processes cannot be reached.
    """
    if told is not None:
        jax.distributed.initialize(*told)
        return "the command line"
    # On TPU VMs the environment names no workers, but libtpu knows them.
    is_tpu = bool(glob("/dev/accel*") or glob("/dev/vfio/[0-9]*")) and not _is_for_cpu()
    found = surroundings(os.environ) or ("the TPU" if is_tpu and _has_libtpu() else None)
    if found is not None:
        jax.distributed.initialize()
    return found


def process() -> tuple[int, int]:
    """Returns the index of this process and the number of processes."""
    return jax.process_index(), jax.process_count()


def all_agree(value: bool) -> bool:
    """Returns whether the value is True in every process; every process must call it."""
    if jax.process_count() == 1:
        return value
    return bool(np.all(multihost_utils.process_allgather(np.asarray(value))))


def together(name: str) -> None:
    """Waits until every process has called it."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def _number(environment: Mapping[str, str], name: str) -> int:
    value = environment.get(name, "")
    return int(value) if value.isdigit() else 0


def _is_for_cpu() -> bool:
    return os.environ.get("JAX_PLATFORMS", "") == "cpu"


def _has_libtpu() -> bool:
    return importlib.util.find_spec("libtpu") is not None
