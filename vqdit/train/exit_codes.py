"""How a training's process ends: its exit codes, and a way out that waits for nobody."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator

DIVERGED = 3
"""Too many steps were not finite."""
REQUEUE = 75
"""SIGTERM: saved; "try again later", for schedulers to requeue."""
HUNG = 124
"""No progress within a deadline."""
INTERRUPTED = 130
"""Ctrl-C: saved."""


def leave(code: int) -> None:
    """Ends the process, and its workers, from any thread and whatever the others hang in.

    Python itself would first wait for all threads, such as one that reads from a disk that is gone.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(code)


@contextlib.contextmanager
def nothing_to_save() -> Iterator[None]:
    """What signals mean where no run watches for them: SIGTERM leaves, SIGUSR1 is for nothing.

    So a process that is preempted before its run has begun, or between two, ends with `REQUEUE`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {signal.SIGTERM: lambda *_: leave(REQUEUE), signal.SIGUSR1: signal.SIG_IGN}
    old = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
