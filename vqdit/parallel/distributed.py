"""Several processes that train one model: whether there are others, and how they find one another.

Every machine runs the same command. On a TPU, under Slurm, Open MPI and in an indexed job of
Kubernetes JAX learns from the environment where the others are; elsewhere they are told.
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
    """Which process this is, where that has to be told.

    Attributes:
        coordinator: "host:port" of process 0, which all can reach.
        processes: how many there are.
        process: the number of this one, from 0.
    """

    coordinator: str
    processes: int
    process: int


def place(coordinator: str | None, processes: int | None, process: int | None) -> Place | None:
    """Returns the place that was told; None: none was.

    Raises:
        ValueError: only a part of it was told, or the numbers do not fit.
    """
    told = (coordinator, processes, process)
    if all(part is None for part in told):
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
    """Returns what says that there are other processes; None: nothing does.

    Args:
        environment: variables of it.
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
    """Joins the other processes, if there are any; before anything else asks JAX for devices.

    Args:
        told: which process this is; None leaves that to the environment.

    Returns:
        What said that there are others; None: this one is alone.

    Raises:
        RuntimeError: they cannot be reached.
    """
    if told is not None:
        jax.distributed.initialize(*told)
        return "the command line"
    # A TPU's own machines name no workers; its library knows them.
    is_tpu = bool(glob("/dev/accel*") or glob("/dev/vfio/[0-9]*")) and not _is_for_cpu()
    found = surroundings(os.environ) or ("the TPU" if is_tpu and _has_libtpu() else None)
    if found is not None:
        jax.distributed.initialize()
    return found


def process() -> tuple[int, int]:
    """Returns this process's number and how many there are."""
    return jax.process_index(), jax.process_count()


def all_agree(verdict: bool) -> bool:
    """Returns whether the verdict of every process is True; every process must call it."""
    if jax.process_count() == 1:
        return verdict
    return bool(np.all(multihost_utils.process_allgather(np.asarray(verdict))))


def together(name: str) -> None:
    """Returns when every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def _number(environment: Mapping[str, str], name: str) -> int:
    value = environment.get(name, "")
    return int(value) if value.isdigit() else 0


def _is_for_cpu() -> bool:
    return os.environ.get("JAX_PLATFORMS", "") == "cpu"


def _has_libtpu() -> bool:
    return importlib.util.find_spec("libtpu") is not None
