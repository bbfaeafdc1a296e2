"""Exit codes of a training process, and functions that exit without waiting for threads."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

DIVERGED = 3
"""Exit code if too many steps were not finite."""
REQUEUE = 75
"""Exit code after SIGTERM and saving: EX_TEMPFAIL, for which schedulers run the job again."""
HUNG = 124
"""Exit code if there was no progress within a timeout."""
INTERRUPTED = 130
"""Exit code after Ctrl-C and saving."""

END = 0
"""The number that tells the thread of `handled` to return."""


def leave(code: int) -> None:
    """Ends the process and its worker processes, from any thread.

    `sys.exit` would first wait for all threads, such as one that reads from a lost disk.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the stream may be closed, or on a full disk
            stream.flush()
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(code)


@contextlib.contextmanager
def handled(handlers: Mapping[signal.Signals, Any], watch: Callable[[int], None]) -> Iterator[None]:
    """Installs signal handlers, and a thread that also receives the signals.

    Python's handlers wait while the main thread is in a long native call, but the thread does not.
    Outside the main thread, Python cannot install handlers, and this function does nothing.

    Args:
        handlers: the handlers. If SIGHUP is ignored, as under nohup, it stays ignored.
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
    """Handles signals outside a run: exits with `REQUEUE` on SIGTERM and SIGHUP; ignores SIGUSR1.

    Because of this exit code, schedulers restart a process that was preempted before its first run,
    between two runs, or while it waited for other processes.
    """

    def watch(read: int) -> None:
        while number := os.read(read, 1)[0]:
            if number in (signal.SIGTERM, signal.SIGHUP):
                leave(REQUEUE)

    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    return handled({number: _nothing for number in numbers}, watch)


def _nothing(*_: object) -> None:
    pass
