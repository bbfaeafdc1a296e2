"""Worker processes of the pipeline: their requirements, their signals, and errors when they end.

Grain starts each worker as a new Python process that imports the program again, and receives
batches through shared memory, which is the file system /dev/shm.
"""

import contextlib
import functools
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

MOST = 1024
"""Largest number of worker processes."""
BUFFER = 2
"""Number of batches that each worker prepares ahead."""
SHARED_MEMORY = Path("/dev/shm")
GUARD = 'put its code under `if __name__ == "__main__":`, because every worker imports the program'


class LostWorker(OSError):
    """A worker process was killed; the run can be started again."""


def check(workers: int, batch_bytes: int) -> None:
    """Checks that worker processes can run, before they are started.

    Args:
        workers: number of worker processes.
        batch_bytes: size of a batch.

    Raises:
        ValueError: if the program cannot be imported by its workers, or shared memory is too small.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ValueError(
            f"this program would start workers again whenever a worker imports it; {GUARD}"
        )
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if getattr(main, "__spec__", None) is None and file and not Path(file).is_file():
        raise ValueError(
            f"workers cannot import the program {file}; write it to a file, or use workers=0"
        )
    needed = workers * (BUFFER + 2) * batch_bytes
    if SHARED_MEMORY.is_dir() and (free := shutil.disk_usage(SHARED_MEMORY).free) < needed:
        raise ValueError(
            f"{workers} workers need {needed / 1e6:,.0f} MB of shared memory, but {SHARED_MEMORY} "
            f"has {free / 1e6:,.0f} MB free; make it larger (docker run --shm-size=...), or use "
            "fewer workers or a smaller batch_size"
        )


class Passed:
    """A pickled function in shared memory, from which the workers load it.

    Grain would send it through a pipe, and would wait for ever if a worker ended before reading.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        import cloudpickle

        self._file = os.memfd_create("vqdit-workers")
        self._path = f"/proc/{os.getpid()}/fd/{self._file}"
        with os.fdopen(self._file, "wb", closefd=False) as file:
            cloudpickle.dump(function, file)

    def __call__(self, *arguments: Any) -> Any:
        return _load(self._path)(*arguments)

    def close(self) -> None:
        """Frees the memory."""
        os.close(self._file)


@functools.lru_cache(maxsize=1)
def _load(path: str) -> Callable[..., Any]:
    with open(path, "rb") as file:
        return pickle.load(file)


def begin(number: int, count: int) -> None:
    """Prepares this process as a worker: it ignores signals and ends when its parent ends."""
    del number, count
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the parent handles the signal
        signal.signal(ignored, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), name="parent", daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Converts Grain's error about a worker that ended to an error that gives the reason.

    Raises:
        LostWorker: if the worker was killed, for example by the system for lack of memory.
        ValueError: if the worker could not start, or shared memory was full.
    """
    try:
        yield
    except RuntimeError as error:
        found = re.match(r"Worker process was terminated unexpectedly .* code (-?\d+)", str(error))
        if found is None:
            raise
        code = int(found[1])
        if code == -signal.SIGBUS:
            raise ValueError(
                f"a data worker ended because {SHARED_MEMORY} is full; make it larger (docker run "
                "--shm-size=...), or use fewer workers"
            ) from error
        if code < 0:
            name = signal.Signals(-code).name
            raise LostWorker(
                f"a data worker was killed by {name}, perhaps for lack of memory; start again, "
                "with fewer workers if it recurs"
            ) from error
        raise ValueError(
            f"a data worker ended with code {code}, for the reason above; if it could not import "
            f"the program, {GUARD}"
        ) from error
