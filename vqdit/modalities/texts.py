"""Conversion of text to UTF-8 bytes, padded at the end with byte 0."""

import numpy as np

SHOWN = 100
"""Maximum number of characters of a text in an error message."""


def to_bytes(text: str, length: int) -> np.ndarray:
    """Returns a text as uint8 [length].

    Raises:
        ValueError: if the text has more than `length` bytes in UTF-8, cannot be written as UTF-8,
            or contains byte 0, which is reserved for padding.
    """
    shown = repr(text) if len(text) <= SHOWN else f"{repr(text[:SHOWN])}..."
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text {shown} has half a character (a lone surrogate) at {error.start}; write it "
            "as UTF-8"
        ) from error
    if len(encoded) > length:
        raise ValueError(
            f"the text {shown} has {len(encoded)} bytes, more than the {length} that fit; "
            "shorten it, or set a greater length"
        )
    if 0 in encoded:
        raise ValueError(f"the text {shown} has a byte 0, which is kept for padding")
    return np.frombuffer(encoded.ljust(length, b"\0"), np.uint8)
