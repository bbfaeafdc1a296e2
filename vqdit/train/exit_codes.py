"""Exit codes of a training process, and how it exits without waiting for its threads."""

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
"""SIGTERM, after saving: EX_TEMPFAIL, which schedulers take as "run it again"."""
HUNG = 124
"""No progress within a timeout."""
INTERRUPTED = 130
"""Ctrl-C, after saving."""


def leave(code: int) -> None:
    """Ends the process and its worker processes, from any thread.

    `sys.exit` would first wait for all threads, such as one that reads from a disk that is gone.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(code)


@contextlib.contextmanager
def leave_on_sigterm() -> Iterator[None]:
    """Handles signals while no run does: SIGTERM exits with `REQUEUE`, SIGUSR1 is ignored.

    So a process that is preempted before its first run, or between two runs, is started again.
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
