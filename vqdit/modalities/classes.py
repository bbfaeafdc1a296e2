"""Names of classes: valid names, and the order of classes, for all sources.

If the names of all classes are whole numbers, they are sorted as numbers, otherwise as text. For
example, the order of the classes 0 to 11 is 0, 1, 2, ..., 11, both in folders and in tables.
"""

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

LONGEST = 200
"""Largest number of characters in the name of a class."""


def class_name(text: str, place: str) -> str:
    """Returns the name of a class in Unicode's composed form (NFC), without surrounding blanks.

    Args:
        text: the name, from a table or a folder.
        place: where the name was found, for the error message.

    Raises:
        ValueError: if the name is not UTF-8, is longer than `LONGEST`, or has control characters.
    """
    name = unicodedata.normalize("NFC", text).strip()
    fault = ""
    if not is_utf8(name):
        fault = "is not UTF-8"
    elif len(name) > LONGEST:
        fault = f"has more than {LONGEST} characters"
    elif any(unicodedata.category(letter) == "Cc" for letter in name):
        fault = "has control characters, such as a new line"
    if fault:
        raise ValueError(f"{place}: the class {ascii(name[:LONGEST])} {fault}; rename it")
    return name


def in_order(names: Iterable[str], place: str) -> tuple[str, ...]:
    """Sorts distinct class names: as numbers if all are whole numbers, else as text.

    Raises:
        ValueError: two distinct names would be shown alike.
    """
    found = sorted(set(names))
    seen: dict[str, str] = {}
    for name in found:
        other = seen.setdefault(_look(name), name)
        if other != name:
            raise ValueError(
                f"{place}: the classes {ascii(other)} and {ascii(name)} look the same; if they "
                "are one class, use one name, else use names that differ clearly"
            )
    if all(is_whole(name) for name in found):
        found.sort(key=int)
    return tuple(found)


def is_whole(name: str) -> bool:
    """Returns whether a name is a whole number, such as 7, 07 or -1."""
    return re.fullmatch(r"-?\d+", name) is not None


def is_utf8(text: str) -> bool:
    """Returns whether a text can be encoded as UTF-8; lone surrogates cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(path: Path) -> str:
    """Returns a printable path, in which bytes that are not UTF-8 are escaped."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _look(name: str) -> str:
    """Returns a key that is equal for names that look the same, even in different alphabets."""
    seen = "".join(letter for letter in name if unicodedata.category(letter) != "Cf")
    return " ".join(seen.translate(_ALIKE).split())


_ALIKE = str.maketrans(
    "асеорхуіјѕАВЕКМНОРСТХІЈЅΑΒΕΖΗΙΚΜΝΟΡΤΥΧο", "aceopxyijsABEKMHOPCTXIJSABEZHIKMNOPTYXo"
)
"""Cyrillic and Greek letters that look like Latin ones."""
