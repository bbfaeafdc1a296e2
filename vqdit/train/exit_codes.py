"""Exit codes of a training process, and how it exits without waiting for its threads."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

DIVERGED = 3
"""Too many steps were not finite."""
REQUEUE = 75
"""SIGTERM, after saving: EX_TEMPFAIL, which schedulers take as "run it again"."""
HUNG = 124
"""No progress within a timeout."""
INTERRUPTED = 130
"""Ctrl-C, after saving."""

END = 0
"""What `handled` sends instead of a signal's number when its thread must return."""


def leave(code: int) -> None:
    """Ends the process and its worker processes, from any thread.

    `sys.exit` would first wait for all threads, such as one that reads from a disk that is gone.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # it may be closed, or on a full disk
            stream.flush()
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(code)


@contextlib.contextmanager
def handled(handlers: Mapping[signal.Signals, Any], watch: Callable[[int], None]) -> Iterator[None]:
    """Installs signal handlers, and a thread that sees the signals too.

    Python's handlers wait while the main thread is in a long native call; the thread does not.
    Outside of the main thread, which alone may install handlers, nothing happens.

    Args:
        handlers: the handlers. SIGHUP is left alone where it is ignored, as under nohup.
        watch: the body of the thread. It receives a file descriptor from which it reads the number
            of each signal, and `END` when it must return.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    old_wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, args=(read,), name="signals", daemon=True)
    watcher.start()
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    old = {
        number: signal.signal(number, handler)
        for number, handler in handlers.items()
        if not (number == signal.SIGHUP and ignored)
    }
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old_wakeup)
        os.write(write, bytes([END]))
        watcher.join()
        os.close(read)
        os.close(write)


def leave_on_sigterm() -> contextlib.AbstractContextManager[None]:
    """Handles signals outside of a run: SIGTERM and SIGHUP exit with `REQUEUE`; SIGUSR1 is ignored.

    A process is thus started again if it is preempted before its first run, between two runs, or
    while it waits for other processes.
    """

    def watch(read: int) -> None:
        while number := os.read(read, 1)[0]:
            if number in (signal.SIGTERM, signal.SIGHUP):
                leave(REQUEUE)

    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    return handled({number: _nothing for number in numbers}, watch)


def _nothing(*_: object) -> None:
    pass
