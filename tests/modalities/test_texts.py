"""Text as bytes: UTF-8 and then zeros, or an error that says what does not fit."""

import numpy as np
import pytest

from vqdit.modalities.texts import to_bytes


def test_a_text_is_its_bytes_and_then_zeros():
    stored = to_bytes("né", 5)
    assert stored.dtype == np.uint8 and stored.tolist() == [0x6E, 0xC3, 0xA9, 0, 0]
    assert to_bytes("", 2).tolist() == [0, 0] and to_bytes("ab", 2).tolist() == [97, 98]


def test_a_text_that_does_not_fit_is_refused_by_its_bytes():
    with pytest.raises(
        ValueError, match="the text 'néné' has 6 bytes, more than the limit of 5; shorten"
    ):
        to_bytes("néné", 5)


def test_a_byte_0_is_refused():
    with pytest.raises(ValueError, match="has a byte 0, which is reserved for padding"):
        to_bytes("a\0b", 5)


def test_half_a_character_is_refused():
    with pytest.raises(ValueError, match=r"the text 'a\\ud83d' has a lone surrogate .* at 1; "):
        to_bytes("a\ud83d", 8)


def test_a_long_text_is_not_shown_whole():
    with pytest.raises(ValueError, match="has 1000000 bytes") as caught:
        to_bytes("a" * 1_000_000, 8)
    assert len(str(caught.value)) < 300
