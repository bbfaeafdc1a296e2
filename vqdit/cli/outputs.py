"""Writes results to a folder; all results of an earlier run are replaced at once.

New files are written to a hidden folder inside the user's folder, and are moved into the user's
folder when all are complete. If a command is killed before that, the earlier results are unchanged,
and the next command removes the incomplete files.
"""

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vqdit.runs.workdir import make_folder

PREFIX = ".vqdit-new-"
EXPLANATION = "explanation"
"""Name of the only sub-folder that results may have."""


@contextlib.contextmanager
def replacing(folder: Path, record: str, earlier: str = "") -> Iterator[Path]:
    """Yields an empty folder for new results, which afterwards replace earlier ones in `folder`.

    Other files of the folder are not changed. If an error is raised, no file is changed.

    Args:
        folder: folder of the results; it is made if it is missing.
        record: name of the result that describes the others. It is removed first and written last,
            so if it exists, all results are from one run.
        earlier: pattern of the paths of other results that an earlier run may have written. If the
            folder has a record, these files are removed unless new files replace them.

    Raises:
        OSError: the folder cannot be written, or has a folder with the name of a result.
    """
    make_folder(folder, "--out")
    _remove_leftovers(folder)
    new = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
    held = os.open(new, os.O_RDONLY)  # tells other processes that this folder is in use
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(held, fcntl.LOCK_SH)
        yield new
        _move(new, folder, record, earlier)
    finally:
        os.close(held)
        shutil.rmtree(new, ignore_errors=True)


def _move(new: Path, folder: Path, record: str, earlier: str) -> None:
    names = [path.relative_to(new) for path in sorted(new.rglob("*")) if path.is_file()]
    for name in names:
        if (folder / name).is_dir():
            raise IsADirectoryError(
                f"cannot write {folder / name}: it is a folder; move it, or choose another --out"
            )
    old = []
    if (folder / record).is_file():
        paths = [path for pattern in ("*", f"{EXPLANATION}/*") for path in folder.glob(pattern)]
        found = [path.relative_to(folder) for path in paths if path.is_file()]
        old = [n for n in found if re.fullmatch(earlier, n.as_posix()) and n not in names]

    def move() -> None:
        (folder / record).unlink(missing_ok=True)
        for name in old:
            (folder / name).unlink(missing_ok=True)
        for name in {name.parent for name in old} - {Path()}:
            with contextlib.suppress(OSError):  # it still has files
                (folder / name).rmdir()
        for name in sorted(names, key=lambda name: name == Path(record)):
            if (new / name).is_file():
                (folder / name).parent.mkdir(exist_ok=True)
                os.replace(new / name, folder / name)

    try:
        move()
    except KeyboardInterrupt:
        if (new / record).is_file():
            move()
        raise


def _remove_leftovers(folder: Path) -> None:
    """Removes incomplete files of commands that were killed while they wrote."""
    for left in folder.glob(f"{PREFIX}*"):
        if left.is_symlink() or not left.is_dir():
            continue
        held = os.open(left, os.O_RDONLY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
        except OSError:  # another command is writing into it
            pass
        finally:
            os.close(held)
