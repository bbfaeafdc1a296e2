"""SIGTERM in a process of several: Python's handlers see it, and JAX's notifier is told of it.

`jax.distributed.initialize` installs a handler in C that only records SIGTERM for the next call of
`reached_preemption_sync_point`, after a step. A process that waits for others before its first step
would wait on.
"""

import ctypes
import signal
import threading
from collections.abc import Callable

_notify: Callable[[int], None] | None = None


def take_over() -> None:
    """Gives SIGTERM back to Python's handler, and remembers JAX's one for `tell`.

    Call it in the main thread after `jax.distributed.initialize`; elsewhere it does nothing. A
    program without a handler of its own gets one that calls `tell`.
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
    """Tells JAX's notifier of a SIGTERM: all processes then stop after the same step."""
    if _notify is not None:
        _notify(signal.SIGTERM)


def _address() -> int:
    """Returns the address of the C function that handles SIGTERM."""
    action = (ctypes.c_void_p * 64)()  # at least as long as a struct sigaction, which it begins
    ctypes.CDLL(None).sigaction(signal.SIGTERM, None, action)
    return action[0] or 0
