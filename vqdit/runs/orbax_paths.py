"""Paths of checkpoints for Orbax, which reads some characters as patterns or addresses."""

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BUCKETS = ("gs:", "s3:", "az:", "hf:")
"""Names of folders that Orbax reads as the beginning of an address."""


def check_path(folder: Path) -> None:
    """Checks that Orbax writes to exactly this absolute path.

    Raises:
        ValueError: the path has a backslash, which TensorStore reads as "/", or a folder like
            "gs:", or it is not UTF-8 on this machine.
    """
    text, wrong = str(folder), ""
    if "\\" in text:
        wrong = "a backslash"
    elif found := [part for part in folder.parts if part in BUCKETS]:
        wrong = f"a folder {found[0]!r}, which is the beginning of an address"
    elif os.fsencode(text) != text.encode("utf-8", "replace"):
        wrong = "a character that is not UTF-8 in the encoding of this machine's file names"
    if wrong:
        raise ValueError(
            f"checkpoints cannot be saved in {text!a}: the path has {wrong}; use another path"
        )


def literal(folder: Path) -> Any:
    """Returns a path whose characters Orbax does not read as patterns or addresses."""
    from etils.epath.gpath import PosixGPath

    class Literal(PosixGPath):
        """A path on this machine's disks with any characters."""

        @property
        def _uri_scheme(self) -> None:
            return None

        def glob(self, pattern: str) -> Iterator["Literal"]:
            """Yields the paths in this folder that match a pattern."""
            return map(self._new, glob.glob(os.path.join(glob.escape(str(self)), pattern)))

    return Literal(folder)
