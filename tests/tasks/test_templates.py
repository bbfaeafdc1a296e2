"""Templates of texts: what is known where, the lengths of gaps, and what is refused."""

import numpy as np
import pytest

from vqdit.modalities import BPE, Image, Text
from vqdit.tasks.templates import (
    Gap,
    Prompt,
    Template,
    arrange,
    as_text,
    lengths_to_compare,
    pieces,
    shares,
    stored_template,
)

PADDED, PACKED = Text(length=12), Text(length=12, packed=True)


def shown(parts, units=PADDED.units):
    return [part.units if isinstance(part, Gap) else units.decode(part) for part in parts]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (Template("a ___ b"), [b"a ", 0, b" b"]),
        (Template("a ___3 b ____"), [b"a ", 3, b" b ", 0]),
        (Template("___12"), [12]),
        (Template("___2___x"), [2, 0, b"x"]),
        (Prompt("in_ ___"), [b"in_ ___", 0]),
        (Prompt(""), [b"", 0]),
    ],
)
def test_a_template_is_its_parts_and_gaps(spec, expected):
    assert shown(pieces(PADDED, spec)) == expected


def test_a_blank_before_a_gap_belongs_to_it_if_units_begin_with_blanks():
    units = BPE(size=300, merges="Ġ b")
    parts = pieces(Text(length=12, units=units), Template("a ___ b"))
    assert shown(parts, units) == [b"a", 0, b" b"] and len(parts[2]) == 1


def test_what_is_known_of_a_padded_text_is_its_end_too():
    parts = pieces(PADDED, Template("ab___3c"))
    layout = arrange(PADDED, parts, is_whole=True)
    assert bytes(layout.codes) == b"ab\0\0\0c\0\0\0\0\0\0"
    assert layout.keep.tolist() == [True] * 2 + [False] * 3 + [True] * 7
    assert np.flatnonzero(layout.gaps).tolist() == [2, 3, 4]
    edit = stored_template([layout])
    np.testing.assert_array_equal(edit.mask, ~layout.keep[None])
    open_ended = arrange(PADDED, pieces(PADDED, Prompt("ab")), is_whole=True)
    assert np.flatnonzero(open_ended.keep).tolist() == [0, 1]
    assert not open_ended.gaps.any() and not open_ended.is_whole


def test_what_follows_in_a_packed_text_is_generated_and_cut_off():
    layout = arrange(PACKED, pieces(PACKED, Template("ab___3c")), is_whole=True)
    assert np.flatnonzero(layout.keep).tolist() == [0, 1, 5] and layout.end == 6
    edit = stored_template([layout])
    generated = np.frombuffer(b"xyTHEzabcdef", np.uint8)
    assert PACKED.unpack(edit.pasted(generated[None])).tolist() == ["abTHEc"]
    prompt = stored_template([arrange(PACKED, pieces(PACKED, Prompt("ab")), is_whole=True)])
    generated = np.frombuffer(b"xyz\0zabcdefg", np.uint8)
    assert PACKED.unpack(prompt.pasted(generated[None])).tolist() == ["abz"]


def test_the_lengths_of_a_gap_are_those_that_leave_room_for_the_rest():
    parts = pieces(PADDED, Template("ab___c___d"))
    assert lengths_to_compare(parts, 1, 12).tolist() == [*range(1, 8)]
    assert lengths_to_compare(pieces(PADDED, Prompt("ab")), 1, 12, 0).tolist() == [*range(11)]
    many = lengths_to_compare(pieces(Text(length=999), Template("a___b")), 1, 999)
    assert (many[0], many[-1]) == (1, 997) and len(many) <= 32 and (np.diff(many) > 0).all()


def test_lengths_have_their_share_of_the_probability():
    p = shares(np.asarray([1, 2, 3]), np.asarray([5.0, 5.0 - np.log(3.0), 5.0]))
    np.testing.assert_allclose(p, [0.2, 0.6, 0.2])
    # With equal bounds, a length stands for its neighbourhood: [0.5, 1.5], [1.5, 4], [4, 6.5].
    np.testing.assert_allclose(
        shares(np.asarray([1, 2, 6]), np.zeros(3)), np.asarray([1, 2.5, 2.5]) / 6
    )


@pytest.mark.parametrize(
    ("modality", "spec", "message"),
    [
        (PADDED, Template("abc"), "has no gap; write one as ___, or ___12"),
        (PADDED, Template("a___0b"), "has a gap of 0 units; write ___ for a gap of any"),
        (PADDED, Template("___12a"), "at least 13 units, more than the 12 of the model; shorten"),
        (PADDED, Template("abcdefghijk___l"), "at least 13 units, more than the 12"),
        (PADDED, Prompt("abcdefghijklm"), "13 bytes, more than the limit of 12"),
        (PADDED, Template("a\0___"), "a byte 0, which ends a text"),
    ],
)
def test_what_does_not_fit_is_refused(modality, spec, message):
    with pytest.raises(ValueError, match=message):
        pieces(modality, spec)


def test_other_modalities_have_no_templates():
    with pytest.raises(ValueError, match="only texts can have templates and prompts"):
        as_text(Image())


def test_of_a_variable_text_nothing_is_known_behind_its_end():
    varying = Text(length=12, variable=True)
    layout = arrange(varying, pieces(varying, Template("ab___3c")), is_whole=True)
    assert layout.keep.tolist() == [*[True] * 2, *[False] * 3, True, *[False] * 6]
    edit = stored_template([layout], varies=True)
    assert edit.lengths.tolist() == [6] and edit.cut(8, 8).values.shape == (1, 8)
    assert pieces(varying, Template("a___2b___c"))[1:4:2] == [Gap(2), Gap(0)]
    with pytest.raises(ValueError, match="one gap of any length; write the others"):
        pieces(varying, Template("a___b___"))
