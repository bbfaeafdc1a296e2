"""Labels: given by number or name, refused with what was probably meant."""

import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.modalities import Label

ANIMALS = Label(classes=4, names=("Cat", "dog", "t-shirt, blue", "zebra finch"))
NUMBERED = Label(classes=3, names=("1", "2", "5"))


def values(label, text):
    read = label.read(text)
    assert all(one.shape == label.shape for one in read)
    packed = label.pack(np.stack(read))
    assert packed.dtype == np.int32
    return packed.tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", [0]),
        ("3", [3]),
        ("dog", [1]),
        ("1,3,1", [1, 3, 1]),
        (" 2 , dog ", [2, 1]),
        ("zebra finch,Cat", [3, 0]),
        ("t-shirt, blue", [2]),
    ],
)
def test_numbers_names_and_lists_are_read(text, expected):
    assert values(ANIMALS, text) == expected


def test_numbers_without_names_are_read():
    assert values(Label(classes=10), "9,0") == [9, 0]


@pytest.mark.parametrize("text", ["4", "-2", "99", "0,4"])
def test_a_number_out_of_range_is_refused_with_the_range(text):
    wrong = text.split(",")[-1]
    with pytest.raises(ValueError, match=f"label {wrong} is out of range; labels go from 0 to 3"):
        ANIMALS.read(text)


@pytest.mark.parametrize(
    ("text", "near"),
    [("dgo", "dog"), ("DOG", "dog"), ("cat", "Cat"), ("zebrafinch", "zebra finch")],
)
def test_an_unknown_name_is_refused_with_the_nearest(text, near):
    with pytest.raises(
        ValueError, match=f"unknown label '{text}'; .* or one of .*; nearest: {near}"
    ):
        ANIMALS.read(text)


@pytest.mark.parametrize("text", ["", "1,", ",", "--1", "1.5", "+", "²", "1-2", "0x1"])
def test_what_is_no_label_is_refused_with_what_is_one(text):
    many = Label(classes=26, names=tuple(5 * chr(97 + n) for n in range(26)))
    listed = " or one of Cat, dog, t-shirt, blue, zebra finch"
    assert values(ANIMALS, "none,-1") == [-1, -1]
    for label, hint in ((ANIMALS, listed), (Label(classes=4), ""), (many, " or a name")):
        match = f"unknown label .*; give a number from 0 to {label.classes - 1}{hint}$"
        with pytest.raises(ValueError, match=match):
            label.read(text)


@pytest.mark.parametrize("kind", [int, str, np.int64])
def test_where_numbers_are_names_they_mean_the_same_everywhere(kind):
    """`label=2` on the command line, {"label": 2} and {"label": "2"} are one class."""
    assert values(NUMBERED, "5,1") == [2, 0]
    assert NUMBERED.pack([kind(5), kind(1), kind(-1)]).tolist() == [2, 0, -1]
    assert NUMBERED.pack(kind(2)).tolist() == [1]
    with pytest.raises(ValueError, match="unknown label '0'; give one of 1, 2, 5$"):
        NUMBERED.pack(kind(0))
    with pytest.raises(ValueError, match="unknown label '0'; give one of 1, 2, 5$"):
        NUMBERED.read("0")
    assert values(Label(classes=10, names=tuple("0123456789")), "7") == [7]
    assert ANIMALS.pack(["dog", "none", "3"]).tolist() == [1, -1, 3]
    assert Label(classes=4).pack(kind(2)).tolist() == [2]


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        (NUMBERED, [5, 1, -1]),
        (ANIMALS, [2, 0, -1]),
        (Label(classes=3, names=("07", "7", "a")), ["a", "07", "none"]),
        (Label(classes=3, names=("-1", "none", "1")), ["1", "-1", ""]),
    ],
)
def test_values_can_be_given_again(label, shown, tmp_path):
    stored = np.asarray([2, 0, -1], np.int32)
    found = label.unpack(stored)
    assert found.tolist() == shown
    assert label.pack(found[:2]).tolist() == [2, 0]
    label.write(found[:2], tmp_path)
    names = (tmp_path / "labels.txt").read_text().splitlines()
    assert names == label.captions(found[:2]) == [label.name(one) for one in stored[:2]]


def test_a_class_called_none_is_a_class():
    label = Label(classes=2, names=("none", "some"))
    assert values(label, "none,some") == [0, 1]
    assert values(label, "-1") == [-1]
    assert [label.name(np.int32(one)) for one in (0, -1)] == ["none", "-1"]


def test_both_forms_of_a_name_are_the_name():
    label = Label(classes=2, names=("caf\u00e9", "b"))
    assert values(label, "cafe\u0301") == values(label, "caf\u00e9") == [0]


def test_a_name_is_one_line(tmp_path):
    Label(classes=2, names=("a\nb", "\x1b[2Jc")).write(np.asarray([0, 1]), tmp_path)
    assert (tmp_path / "labels.txt").read_text() == "a\\nb\n\\x1b[2Jc\n"


def test_a_file_of_several_is_named_by_the_plural(tmp_path):
    for name in ("class", "colour"):
        Label(classes=2).write(np.asarray([1]), tmp_path, name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classes.txt", "colours.txt"]


def test_standardize_and_restore_are_inverse():
    raw = jnp.asarray([3, 0, 2])
    codes = ANIMALS.standardize(raw)
    assert codes.shape == (3, 1, 1) and codes.dtype == jnp.int32
    np.testing.assert_array_equal(ANIMALS.restore(codes), raw)


def test_labels_are_written_by_name_one_a_line(tmp_path):
    ANIMALS.write(np.asarray([1, 0, -1], np.int32), tmp_path)
    assert (tmp_path / "labels.txt").read_text() == "dog\nCat\nnone\n"
    Label(classes=10).write(np.asarray([9, -1], np.int32), tmp_path)
    assert (tmp_path / "labels.txt").read_text() == "9\nnone\n"


def test_its_only_region_is_the_label_by_name():
    for label, value, name in ((ANIMALS, 1, "dog"), (ANIMALS, -1, "none"), (NUMBERED, 2, "5")):
        ((found, belongs),) = label.regions(np.int32(value), (1,))
        assert found == name and belongs.tolist() == [True]


def test_bad_fields_are_refused_by_value():
    with pytest.raises(ValueError, match="Label needs classes >= 1, got 0"):
        Label(classes=0)
    with pytest.raises(ValueError, match="Label has 3 classes but 2 names; give one name per"):
        Label(classes=3, names=("a", "b"))
