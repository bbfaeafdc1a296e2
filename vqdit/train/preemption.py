"""SIGTERM with several processes: forwards it to Python's handlers and to JAX's notifier.

`jax.distributed.initialize` installs a handler in C that only records SIGTERM for the next call of
`reached_preemption_sync_point`, after a step. A process that waits for others before its first step
would not react.
"""

import ctypes
import signal
import threading
from collections.abc import Callable

_notify: Callable[[int], None] | None = None


def take_over() -> None:
    """Restores Python's handler of SIGTERM, and stores JAX's handler for `tell`.

    It must be called in the main thread, after `jax.distributed.initialize`; in other threads it
    does nothing. If the program has no handler, one that calls `tell` is installed.
    """
    global _notify
    if threading.current_thread() is not threading.main_thread():
        return
    before, python = _address(), signal.getsignal(signal.SIGTERM)
    if not callable(python) and before in (signal.SIG_DFL, signal.SIG_IGN):
        return
    signal.signal(signal.SIGTERM, python if callable(python) else lambda *_: tell())
    if before != _address():
        _notify = ctypes.CFUNCTYPE(None, ctypes.c_int)(before)


def tell() -> None:
    """Notifies JAX of a SIGTERM; all processes then stop after the same step."""
    if _notify is not None:
        _notify(signal.SIGTERM)


def _address() -> int:
    """Returns the address of the C function that handles SIGTERM."""
    action = (ctypes.c_void_p * 64)()  # large enough for a struct sigaction
    ctypes.CDLL(None).sigaction(signal.SIGTERM, None, action)
    return action[0] or 0
