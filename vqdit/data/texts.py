"""Conversion of text to UTF-8 bytes, padded at the end with byte 0."""

import numpy as np


def to_bytes(text: str, length: int) -> np.ndarray:
    """Returns a text as uint8 [length].

    Raises:
        ValueError: if the text has more than `length` bytes in UTF-8, or contains byte 0, which is
            reserved for padding.
    """
    encoded = text.encode()
    if len(encoded) > length:
        raise ValueError(
            f"the text {text!r} has {len(encoded)} bytes, more than the {length} that fit; "
            "shorten it, or set a greater length"
        )
    if 0 in encoded:
        raise ValueError(f"the text {text!r} has a byte 0, which is kept for padding")
    return np.frombuffer(encoded.ljust(length, b"\0"), np.uint8)
