"""How a training's process ends: its exit codes, and a way out that waits for nobody."""

import multiprocessing
import os
import sys

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
