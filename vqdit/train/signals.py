"""Signals during a run: SIGTERM (preemption), SIGHUP, Ctrl-C, and SIGUSR1 (save a checkpoint).

After the first SIGTERM or Ctrl-C, the loop saves and exits; a second Ctrl-C exits immediately. The
exit code is 75 after SIGTERM, for which schedulers start the run again, and 130 after Ctrl-C.
SIGHUP, which a closed terminal sends, is handled like SIGTERM.

Python's signal handlers do not run while the main thread is inside a long native call, such as a
compilation. So a second thread also watches for signals. It logs that the run will stop. If the
main thread does not react within `GRACE` seconds and is in a section that may be interrupted, this
thread saves and ends the process.
"""

import contextlib
import logging
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import jax

from vqdit import parallel
from vqdit.train.exit_codes import END, INTERRUPTED, REQUEUE, handled, leave
from vqdit.train.preemption import take_over, tell

log = logging.getLogger(__name__)

GRACE = 3.0
"""Seconds within which the main thread should react to a signal."""


class Interrupts:
    """A context manager that handles signals.

    With `jax.distributed`, SIGTERM, SIGHUP and Ctrl-C are forwarded to JAX's own notifier, and all
    processes stop after the same step. A process that has nothing to save, for example before the
    first step, exits without waiting for this step. If any process receives SIGUSR1, all processes
    save when they next log.

    Args:
        leave: ends the process with an exit code.

    Attributes:
        requested: the signal that requested the run to stop, or None.
        before_exit: function that the watching thread calls before it ends the process.
    """

    def __init__(self, leave: Callable[[int], None] = leave) -> None:
        self.requested: signal.Signals | None = None
        self.before_exit: Callable[[], None] = _nothing
        self._leave, self._save_requested = leave, False
        self._lock = threading.Lock()
        self._rescue: Callable[[], None] | None = None

    def __enter__(self) -> "Interrupts":
        signals = [signal.SIGINT, signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM]
        if jax.distributed.is_initialized():
            take_over()
        self._handled = handled({number: self._handle for number in signals}, self._watch)
        self._handled.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._handled.__exit__(*error)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if number == signal.SIGUSR1:
            self._save_requested = True
            return
        if number == signal.SIGINT and self.requested is not None:
            raise KeyboardInterrupt
        if number != signal.SIGHUP:  # the watching thread sends SIGTERM
            self.requested = signal.Signals(number)

    def should_stop(self, step: int) -> bool:
        """Returns whether the run should save and exit; must be called after every step."""
        if jax.distributed.is_initialized():
            from jax.experimental import multihost_utils

            if multihost_utils.reached_preemption_sync_point(step):
                self.requested = self.requested or signal.SIGTERM
                return True
            return False
        return self.requested is not None

    @property
    def is_urgent(self) -> bool:
        """Returns whether a run of one process should postpone other work and save now."""
        return self.requested is not None and not jax.distributed.is_initialized()

    def should_save(self, *, together: bool = True) -> bool:
        """Returns True one time after SIGUSR1, in all processes if any of them received it.

        Args:
            together: whether all processes call this now, and exchange their results.
        """
        if jax.process_count() > 1 and not together:
            return False
        asked, self._save_requested = self._save_requested, False
        return not parallel.all_agree(not asked)

    @contextlib.contextmanager
    def may_exit(self, save: Callable[[], None] | None = None) -> Iterator[None]:
        """Marks a section in which the watching thread may save and end the process.

        Args:
            save: saves the run from another thread; None if there is nothing to save. Several
                processes can only save together, so they do not exit in a section with `save`.
        """
        if jax.distributed.is_initialized() and save is not None:
            yield
            return
        self._rescue = save or _nothing
        try:
            yield
        finally:
            with self._lock:  # blocks if the watcher is saving, until it ends the process
                self._rescue = None

    def _watch(self, read: int) -> None:
        """Reads signals from the descriptor `read`; ends the process if the main thread hangs."""
        code, due, at_once = 0, None, False
        while True:
            left = None if due is None else max(due - time.monotonic(), 0.0)
            if select.select([read], [], [], left)[0]:
                number = os.read(read, 1)[0]
                if number == END:
                    return
                if number == signal.SIGHUP:
                    os.kill(os.getpid(), signal.SIGTERM)
                if number in (signal.SIGINT, signal.SIGTERM):
                    if jax.distributed.is_initialized():
                        tell()
                    if not code:
                        _say("stopping after this step; Ctrl-C again stops at once")
                    at_once = bool(code) and number == signal.SIGINT
                    code = INTERRUPTED if number == signal.SIGINT else REQUEUE
                    due = time.monotonic() + GRACE
                continue
            with self._lock:
                if at_once:
                    self._leave(code)
                elif self._rescue is not None:
                    _try(self._rescue, "could not save; the last checkpoint is unchanged")
                    _try(self.before_exit, "could not record the time of this start")
                    log.info(
                        "exiting immediately; nothing is lost. Re-run the same command to resume."
                    )
                    self._leave(code)
            due = time.monotonic() + GRACE

    @property
    def exit_code(self) -> int:
        """Exit code of a run that was stopped by a signal."""
        return INTERRUPTED if self.requested == signal.SIGINT else REQUEUE


def _nothing() -> None:
    pass


def _say(message: str) -> None:
    """Logs from a separate thread, as logging may block on a hanging disk or terminal."""
    threading.Thread(target=log.info, args=(message,), daemon=True).start()


def _try(call: Callable[[], None], failure: str) -> None:
    try:
        call()
    except Exception:
        log.exception(failure)
