"""The lock of a workdir, which ensures that only one run at a time writes into it."""

import contextlib
import errno
import fcntl
import logging
from collections.abc import Iterator
from pathlib import Path

from vqdit import parallel
from vqdit.files import open_own

log = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(folder: Path, option: str = "--workdir") -> Iterator[None]:
    """Holds the lock of a workdir; if a run has several processes, only the first one locks.

    The operating system releases the lock when the process ends, even if it is killed. If the file
    system has no locks, as on some network disks, a warning is logged.

    Args:
        folder: the workdir, which must exist.
        option: command-line option that selects another folder, for the error message.

    Raises:
        ValueError: another process on this machine holds the lock.
    """
    if parallel.process()[0] != 0:
        yield
        return
    with open_own(folder / ".lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise ValueError(
                    f"another run is using the workdir {folder}; wait for it, stop it, or use "
                    f"another {option}"
                ) from error
            log.warning("cannot lock %s: %s", folder, error)
        yield
