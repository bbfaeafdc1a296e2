"""Text: bytes and letters, files of lines, and the parts a person would point at."""

import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.modalities import BPE, Text
from vqdit.modalities.base import LeftOut
from vqdit.modalities.texts import to_bytes
from vqdit.ragged import ragged

TEXT = Text(length=12)


def test_a_text_is_its_bytes_and_then_zeros():
    stored = TEXT.pack("né")
    assert stored.tolist() == [[0x6E, 0xC3, 0xA9, *[0] * 9]]
    codes = TEXT.standardize(jnp.asarray(stored))
    assert codes.shape == (1, 12, 1) and codes[0, :4, 0].tolist() == [0x6E, 0xC3, 0xA9, 0]
    assert (TEXT.vocabulary, TEXT.grid, TEXT.shape) == (256, (12,), (12,))


def test_a_code_that_is_no_byte_is_restored_as_padding():
    restored = Text(length=4).restore(jnp.asarray([[[104], [105], [-1], [0]]]))
    assert restored.tolist() == [[104, 105, 0, 0]]


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        (b"seven\0\0", "seven"),
        (b"", ""),
        (b"\xc3\xa9t\xc3\xa9", "été"),
        (b"\xc3", "\N{REPLACEMENT CHARACTER}"),  # half a letter, as a model may generate
        (b"ab\0cd", "ab\N{REPLACEMENT CHARACTER}cd"),  # padding in the middle
        (b"\0\0x", "\N{REPLACEMENT CHARACTER}" * 2 + "x"),
    ],
)
def test_bytes_are_shown_as_letters_whatever_they_are(stored, text):
    row = np.frombuffer(stored.ljust(12, b"\0"), np.uint8)
    values = TEXT.unpack(row[None])
    assert values.tolist() == [text]
    assert values.dtype.kind == "U"
    again = TEXT.repack(values)
    assert (again.dtype, again.shape) == (row.dtype, (1, 12))
    assert TEXT.unpack(again).tolist() == [text]


def test_a_list_may_be_of_texts_of_any_length():
    stored = TEXT.pack(["a", "longer", ""])
    assert TEXT.unpack(stored).tolist() == ["a", "longer", ""]


def test_a_literal_or_the_lines_of_a_file_are_read(tmp_path, monkeypatch):
    assert [str(text) for text in TEXT.read("seven")] == ["seven"]
    file = tmp_path / "lines.txt"
    file.write_text("one\n\né two \n", encoding="utf-8")
    assert [str(text) for text in TEXT.read(str(file))] == ["one", "", "é two "]
    file.write_text("one\ntwo\n", encoding="utf-8-sig")  # a byte order mark is no letter
    assert [str(text) for text in TEXT.read(str(file))] == ["one", "two"]
    file.write_bytes(b"one\r\ntwo")  # as another system ends its lines, and no end at the end
    assert [str(text) for text in TEXT.read(str(file))] == ["one", "two"]
    file.write_text("a\u2028b\x0cc\n", encoding="utf-8")  # these divide pages, not lines
    assert [str(text) for text in TEXT.read(str(file))] == ["a\u2028b\x0cc"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(TEXT.read("~/lines.txt")) == 1


def test_files_that_are_no_use_are_refused_by_path(tmp_path, caplog):
    file = tmp_path / "x.txt"
    with pytest.raises(FileNotFoundError, match=f"^no text file {file}$"):
        TEXT.read(str(file))
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=f"^{file} is not UTF-8 text: "):
        TEXT.read(str(file))
    for nothing in ("", "\n\n"):
        file.write_text(nothing)
        with pytest.raises(ValueError, match=f"^{file} has no text; write"):
            TEXT.read(str(file))
    file.write_text("one\n \ntwo\n")
    assert [str(text) for text in TEXT.read(str(file))] == ["one", " ", "two"]
    assert f"{file}: line 2 is blank; it counts as a text" in caplog.text


def regions(text):
    return [
        (name, np.flatnonzero(belongs).tolist())
        for name, belongs in TEXT.regions(to_bytes(text, 12), (12,))
    ]


def test_a_word_is_divided_into_letters_of_one_byte_or_more():
    assert regions("abc") == [("a", [0]), ("b", [1]), ("c", [2])]
    assert regions("né") == [("n", [0]), ("é", [1, 2])]
    assert regions("") == []


def test_several_words_are_divided_into_words_with_the_blank_behind_each():
    assert regions("a red shoe") == [
        ("a", [0, 1]),
        ("red", [2, 3, 4, 5]),
        ("shoe", [6, 7, 8, 9]),
    ]
    assert regions("é b") == [("é", [0, 1, 2]), ("b", [3])]


def test_a_text_is_drawn_in_black_on_white():
    drawn = TEXT.draw(TEXT.pack(["seven", "", "five"]))
    assert drawn.shape == (3, 64, 64, 1)
    assert (drawn[1] == 255).all()
    for picture in (drawn[0], drawn[2]):
        assert picture.min() < 64 and np.mean(picture == 255) > 0.7
    assert Text(length=500).draw(Text(length=500).pack("word " * 99)).shape == (1, 64, 64, 1)


def test_a_full_text_of_bytes_that_are_no_letters_has_a_stored_form():
    """Each is shown as a letter of three bytes, which together would not fit."""
    values = TEXT.unpack(np.full((2, 12), 0xC3, np.uint8))
    with pytest.raises(ValueError, match="36 bytes"):
        TEXT.pack(values)
    assert TEXT.unpack(TEXT.repack(values)).tolist() == values.tolist()


def test_a_text_of_variable_length_is_its_bytes_alone():
    text = Text(length=12, variable=True)
    values = ["né", "", "a\0b", "👍🏽"]
    stored = text.pack(values)
    assert [bytes(row) for row in stored] == [value.encode() for value in values]
    assert text.unpack(stored).tolist() == values
    assert (text.lengths, TEXT.lengths) == ((0, 12), None)
    assert bytes(text.pack("seven")[0]) == b"seven"
    strange = ragged([np.asarray([0xC3], np.uint8)])  # half a letter
    assert text.unpack(text.repack(text.unpack(strange))).tolist() == ["\N{REPLACEMENT CHARACTER}"]
    assert text.pack(stored).tolist() == stored.tolist()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("x" * 13, "has 13 bytes, more than the limit of 12"),
        ("\ud800", "lone surrogate"),
        ([3], "must be"),
    ],
)
def test_a_text_of_variable_length_that_is_none_is_refused(value, message):
    with pytest.raises(ValueError, match=message):
        Text(length=12, variable=True).pack(value)


@pytest.mark.parametrize("variable", [False, True])
def test_long_texts_of_data_are_cut_behind_a_whole_character_or_left_out(variable):
    cutting = Text(length=4, outside="cut", variable=variable)
    cell = cutting.read_cell("abcéd")
    assert bytes(cell.stored).rstrip(b"\0") == b"abc" and cell.changes == ("cut to 4 bytes",)
    assert len(cell.stored) == (3 if variable else 4)
    assert cutting.read_cell("abé").changes == ()
    units = BPE(size=300, merges="a b\nĠ Ã\nĠÃ ©")
    short = Text(length=2, outside="cut", units=units, variable=variable)
    assert short.unpack(ragged([short.read_cell("ab éab").stored])).tolist() == ["ab é"]
    assert short.read_cell("ab éab").changes == ("cut to 2 units",)
    with pytest.raises(LeftOut, match="longer than 4 bytes"):
        Text(length=4, outside="skip", variable=variable).read_cell("abcde")
    with pytest.raises(ValueError, match="has 5 bytes, more than the limit of 4"):
        Text(length=4, variable=variable).read_cell("abcde")
