"""What can interrupt a run: SIGTERM (preemption) and Ctrl-C.

The first signal asks the loop to save and leave; a second Ctrl-C leaves at once. A run that saved
after SIGTERM exits with code 75 ("try again later", for schedulers to requeue), after Ctrl-C
with 130. A run whose steps are not finite ends with 3.
"""

import signal
import threading
from types import FrameType
from typing import Any

import jax

DIVERGED = 3
REQUEUE = 75
INTERRUPTED = 130


class Interrupts:
    """Notes signals while it is entered.

    With `jax.distributed` it is JAX's own notifier that sees SIGTERM: a Python handler installed
    after `initialize` would switch that off, and the processes would not stop at the same step.
    """

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None
        self._old: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            signals = [signal.SIGINT]
            if not jax.distributed.is_initialized():
                signals.append(signal.SIGTERM)
            self._old = {number: signal.signal(number, self._note) for number in signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
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
    def exit_code(self) -> int:
        """The exit code of a run that was interrupted."""
        return INTERRUPTED if self.requested == signal.SIGINT else REQUEUE
