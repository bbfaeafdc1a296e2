"""Failed saves of checkpoints: the cause in one line, and whether it is a disk error."""

import errno
import re

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE)
"""Error numbers of disks that are full, read-only, broken or removed."""


class FailedSave(OSError):
    """A checkpoint could not be written. Earlier checkpoints are unchanged.

    Attributes:
        is_of_disk: whether every process that failed reports a disk error (see `DISK`).
    """

    def __init__(self, message: str, *, is_of_disk: bool) -> None:
        super().__init__(message)
        self.is_of_disk = is_of_disk


def is_disk_error(error: BaseException | None) -> bool:
    """Returns whether an error, or one of its causes, is a disk error (see `DISK`)."""
    while error is not None:
        code = re.search(r"os_error_code='(\d+)'", str(error))  # in messages of tensorstore
        number = int(code[1]) if code else getattr(error, "errno", None)
        if number in DISK:
            return True
        error = error.__cause__ or error.__context__
    return False


def short(error: BaseException) -> str:
    """Returns the beginning and end of an error's message; Orbax's messages may be very long."""
    first = (str(error).strip().splitlines() or [""])[0]
    if len(first) > 200:
        first = f"{first[:100]} ... {first[-100:]}"
    return f"{type(error).__name__}: {first}"
