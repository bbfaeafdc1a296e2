"""Conversion of text to UTF-8 bytes, which may be padded with byte 0."""

import numpy as np

SHOWN = 100
"""Maximum number of characters of a text in an error message."""


def to_bytes(text: str, length: int) -> np.ndarray:
    """Returns a text padded with zeros: uint8 [length].

    Raises:
        ValueError: if the text has more than `length` bytes in UTF-8, cannot be written as UTF-8,
            or contains byte 0, which is reserved for padding.
    """
    found = encoded(text, length)
    no_end(text)
    return np.pad(found, (0, length - len(found)))


def no_end(text: str) -> None:
    """Raises ValueError if a text contains byte 0."""
    if "\0" in text:
        raise ValueError(f"the text {_shown(text)} has a byte 0, which is reserved for padding")


def encoded(text: str, length: int | None = None) -> np.ndarray:
    """Returns the UTF-8 bytes of a text, at most `length` if it is given: uint8 [n].

    Raises:
        ValueError: if the text is longer, or cannot be written as UTF-8.
    """
    try:
        found = text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text {_shown(text)} has a lone surrogate (half a character) at {error.start}; "
            "write it as UTF-8"
        ) from error
    if length is not None:
        check_length(text, len(found), length, "bytes")
    return np.frombuffer(found, np.uint8)


def check_length(text: str, count: int, length: int, units: str) -> None:
    """Raises ValueError if a text of `count` units has more than `length`."""
    if count > length:
        raise ValueError(
            f"the text {_shown(text)} has {count} {units}, more than the limit of {length}; "
            "shorten it, or set a larger length"
        )


def _shown(text: str) -> str:
    return repr(text) if len(text) <= SHOWN else f"{repr(text[:SHOWN])}..."
