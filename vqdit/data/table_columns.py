"""Names of a table's columns: their names in the file, and the Python identifiers for them."""

import difflib

from vqdit.data.batch import GIVEN
from vqdit.data.sources import MIRRORED, PRESENT

SPLIT = "split"
"""Name of the column that assigns rows to splits."""
SHOWN = 20
"""Largest number of columns that an error names."""


def check_name(name: str) -> None:
    """Raises ValueError unless a name is valid for a column."""
    if not name.isidentifier():
        new = identifier(name)
        raise ValueError(
            f"Table cannot have a column named {name!r}, which is not a Python identifier; name "
            f"it {new}, and add headers=Named({new}={name!r})"
        )
    if is_used(name):
        raise ValueError(
            f"Table cannot have the column {name!r}, as vqdit reserves this name; choose another "
            "name, and set headers"
        )


def is_used(name: str) -> bool:
    """Returns whether a name is reserved, so that no column of a table may have it."""
    return name == SPLIT or name.startswith(PRESENT) or name.endswith((MIRRORED, GIVEN))


def identifier(header: str) -> str:
    """Returns a Python identifier for a column's name in a table."""
    name = "".join(letter if f"a{letter}".isidentifier() else "_" for letter in header)
    return name if name.isidentifier() else f"_{name}"


def missing(header: str, names: list[str]) -> str:
    """Describes a missing column for an error message, with the nearest name."""
    shown = ", ".join(ascii(known)[1:-1][:100] for known in names[:SHOWN])
    close = difflib.get_close_matches(header, names, n=1)
    hint = f"; nearest: {close[0]!r}" if close else ""
    if close and identifier(close[0]) == header:
        hint = f"; add headers=Named({header}={close[0]!r})"
    return f"{header!r}{hint}; it has: {shown}"
