"""What can interrupt a run: SIGTERM (preemption), Ctrl-C, and SIGUSR1, which only asks to save.

The first SIGTERM or Ctrl-C asks the loop to save and leave; a second Ctrl-C leaves at once. A run
that saved after SIGTERM exits with code 75 ("try again later", for schedulers to requeue), after
Ctrl-C with 130.

Python's handlers do not run while the main thread is inside a long native call, such as a
compilation. So a thread watches too: if the main thread has not come back `GRACE` seconds after
the signal, and the state is at rest, the thread saves in its stead and ends the process.
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
from vqdit.train.exit_codes import INTERRUPTED, REQUEUE, leave

log = logging.getLogger(__name__)

GRACE = 3.0
"""Seconds that the main thread has to notice a signal by itself."""
_END = 0


class Interrupts:
    """Notes signals while it is entered.

    With `jax.distributed` it is JAX's own notifier that sees SIGTERM, and a run stops at the end
    of a step: a Python handler installed after `initialize` would switch the notifier off, and the
    processes would not stop at the same step. SIGUSR1 to any of them is told to all when they next
    log.

    Attributes:
        requested: the signal that asks to stop, if one came.
        parting: called before the thread ends the process.
    """

    def __init__(self, leave: Callable[[int], None] = leave) -> None:
        self.requested: signal.Signals | None = None
        self.parting: Callable[[], None] = _nothing
        self._leave, self._save_requested = leave, False
        self._old: dict[signal.Signals, Any] = {}
        self._lock = threading.Lock()
        self._rescue: Callable[[], None] | None = None

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            self._read, self._write = os.pipe()
            os.set_blocking(self._write, False)
            self._old_wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
            self._watcher = threading.Thread(target=self._watch, name="signals", daemon=True)
            self._watcher.start()
            signals = [signal.SIGINT, signal.SIGUSR1]
            if not jax.distributed.is_initialized():
                signals.append(signal.SIGTERM)
            self._old = {number: signal.signal(number, self._note) for number in signals}
        return self

    def __exit__(self, *_: object) -> None:
        if not self._old:
            return
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_wakeup)
        os.write(self._write, bytes([_END]))
        self._watcher.join()
        os.close(self._read)
        os.close(self._write)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if number == signal.SIGUSR1:
            self._save_requested = True
            return
        if number == signal.SIGINT and self.requested is not None:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number)

    def should_stop(self, step: int) -> bool:
        """Returns True once the run should save and leave; called at every step."""
        if jax.distributed.is_initialized():
            from jax.experimental import multihost_utils

            if multihost_utils.reached_preemption_sync_point(step):
                self.requested = self.requested or signal.SIGTERM
                return True
            return False
        return self.requested is not None

    @property
    def pressing(self) -> bool:
        """True if what a single process does within a step should be left for later."""
        return self.requested is not None and not jax.distributed.is_initialized()

    def should_save(self, *, together: bool = True) -> bool:
        """Returns True once after each SIGUSR1, to every process if one of them got it.

        Args:
            together: whether several processes ask one another now, which they all have to do.
        """
        if jax.process_count() > 1 and not together:
            return False
        asked, self._save_requested = self._save_requested, False
        return not parallel.all_agree(not asked)

    @contextlib.contextmanager
    def at_rest(self, save: Callable[[], None] | None = None) -> Iterator[None]:
        """While it is entered, the process may end at any moment.

        Args:
            save: saves what must not be lost, from another thread; None: there is nothing.
        """
        if jax.distributed.is_initialized() and save is not None:
            yield  # processes save together or not at all
            return
        self._rescue = save or _nothing
        try:
            yield
        finally:
            with self._lock:  # waits for ever if the watcher is saving: it ends the process
                self._rescue = None

    def _watch(self) -> None:
        """Ends the process where the main thread does not come to it."""
        code, due, at_once = 0, None, False
        while True:
            left = None if due is None else max(due - time.monotonic(), 0.0)
            if select.select([self._read], [], [], left)[0]:
                number = os.read(self._read, 1)[0]
                if number == _END:
                    return
                if number in (signal.SIGINT, signal.SIGTERM):
                    at_once = bool(code) and number == signal.SIGINT
                    code = INTERRUPTED if number == signal.SIGINT else REQUEUE
                    due = time.monotonic() + GRACE
                continue
            with self._lock:
                if at_once:
                    self._leave(code)
                elif self._rescue is not None:
                    _try(self._rescue, "could not save; the last checkpoint stays")
                    _try(self.parting, "could not note how long this start took")
                    log.info("left at once: nothing is lost; the same command goes on, or starts")
                    self._leave(code)
            due = time.monotonic() + GRACE

    @property
    def exit_code(self) -> int:
        """The exit code of a run that was interrupted."""
        return INTERRUPTED if self.requested == signal.SIGINT else REQUEUE


def _nothing() -> None:
    pass


def _try(call: Callable[[], None], failure: str) -> None:
    try:
        call()
    except Exception:
        log.exception(failure)
