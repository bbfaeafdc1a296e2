"""Paths of checkpoints for Orbax, which takes characters of some for patterns or addresses."""

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BUCKETS = ("gs:", "s3:", "az:", "hf:")
"""Names of folders that Orbax takes for the beginning of an address."""


def check_path(folder: Path) -> None:
    """Checks that Orbax writes to an absolute path, and not to another one.

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
            f"no checkpoints can be kept in {text!a}: its path has {wrong}; use another path"
        )


def literal(folder: Path) -> Any:
    """Returns a path for Orbax, which takes no character of it for a pattern or an address."""
    from etils.epath.gpath import PosixGPath

    class Literal(PosixGPath):
        """A path on this machine's disks, whatever its characters are."""

        @property
        def _uri_scheme(self) -> None:
            return None

        def glob(self, pattern: str) -> Iterator["Literal"]:
            """Yields the paths in this folder that fit a pattern."""
            return map(self._new, glob.glob(os.path.join(glob.escape(str(self)), pattern)))

    return Literal(folder)
