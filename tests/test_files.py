"""Paths that a user gives, JSON that is checked as it is read, and files that are written whole."""

import json
import os

import pytest

from vqdit import files

SHAPE = {"steps": int, "rate?": (float, None), "names": [str], "parts": {str: {"sha256": str}}}
GOOD = {"steps": 3, "names": ["a"], "parts": {"b": {"sha256": "c"}}, "more": [{}]}


def refused(tmp_path, content, shape=object):
    """What is said of a file, without its name and the remedy."""
    file = tmp_path / "a.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError) as error:
        files.read_json(file, shape)
    begin, end = f"{file} is damaged: ", "; restore it from a copy"
    said = str(error.value)
    assert said.startswith(begin) and said.endswith(end) and "\n" not in said and len(said) < 400
    return said.removeprefix(begin).removesuffix(end)


def test_json_of_the_right_shape_is_read(tmp_path):
    for value in (GOOD, GOOD | {"rate": 1}, GOOD | {"rate": 0.5}, GOOD | {"rate": None}):
        files.write_json(tmp_path / "a.json", value)
        assert files.read_json(tmp_path / "a.json", SHAPE) == value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "it must be an object, got []"),
        (None, "it must be an object, got None"),
        ({**GOOD, "steps": True}, "steps must be an integer, got True"),
        ({**GOOD, "steps": 3.0}, "steps must be an integer, got 3.0"),
        ({**GOOD, "rate": "1"}, "rate must be a number or null, got '1'"),
        ({**GOOD, "names": ["a", 2]}, "names[1] must be a text, got 2"),
        ({**GOOD, "parts": {"b": {}}}, "parts.b lacks 'sha256'"),
        ({**GOOD, "parts": {"é\n": 1}}, r"parts.'\xe9\n' must be an object, got 1"),
        ({"names": [], "parts": {}}, "it lacks 'steps'"),
    ],
)
def test_another_shape_is_refused_with_its_place(tmp_path, value, said):
    assert refused(tmp_path, json.dumps(value), SHAPE) == said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ('{"a": NaN}', "the JSON has the number NaN, but numbers must be finite"),
        ('{"a": -Infinity}', "the JSON has the number -Infinity, but numbers must be finite"),
        ('{"a": 1e999}', "the JSON has the number '1e999', but numbers must be finite"),
        ("1" * 5000, "the JSON has an integer of 5000 characters"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "a JSON object has the name 'c' twice"),
        ("[" * 100 + "]" * 100, "the JSON is nested more than 64 levels deep"),
        ("[" * 10**6 + "]" * 10**6, "the JSON is nested more than 64 levels deep"),
        (r'{"a": "\ud83d"}', r"a has a lone surrogate (half a character) in '\ud83d'"),
        (
            r'{"\udc80": 1}',
            r"the name '\udc80' has a lone surrogate (half a character) in '\udc80'",
        ),
        (b"\xef\xbb\xbf{}", "Unexpected UTF-8 BOM"),
        ("{}".encode("utf-16"), "'utf-8' codec can't decode byte 0xff in position 0"),
        (b'{"a": "\xe9"}', "'utf-8' codec can't decode byte 0xe9 in position 7"),
        ('{"a": 1}{', "Extra data"),
    ],
)
def test_what_is_no_strict_json_is_refused(tmp_path, content, said):
    assert refused(tmp_path, content).startswith(said)


def test_every_flipped_bit_is_json_still_or_one_line(tmp_path):
    file = tmp_path / "a.json"
    content = json.dumps(GOOD).encode()
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(changed)
        try:
            files.read_json(file, SHAPE)
        except ValueError as error:
            assert str(error).startswith(f"{file} is damaged: ")


def test_a_pipe_a_folder_and_a_huge_file_are_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="not a regular file"):
        files.read_json(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError):
        files.read_json(tmp_path)
    monkeypatch.setattr(files, "MAX_BYTES", 10)
    assert refused(tmp_path, '"0123456789"') == "the file has 12 bytes, but at most 10 are allowed"


def test_what_is_written_is_strict(tmp_path):
    files.write_json(tmp_path / "a.json", {"a": [float("nan"), (float("inf"), 1.5)]})
    assert files.read_json(tmp_path / "a.json") == {"a": ["nan", ["inf", 1.5]]}


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "other").write_text("mine")
    (tmp_path / "a.json").symlink_to(tmp_path / "other")
    files.write_json(tmp_path / "a.json", 1)
    assert (tmp_path / "other").read_text() == "mine"
    assert not (tmp_path / "a.json").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["a.json", "other"]


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(OSError, match="cannot write .*a.json: Is a directory; free some space"):
        files.write_json(tmp_path / "a.json", 1)
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_home_folder_is_found(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert str(files.local_path("~/runs/x")) == "/home/me/runs/x"
    assert str(files.local_path("runs/~x")) == "runs/~x"
    with pytest.raises(ValueError, match="'~nobody-here/x' uses an unknown home folder"):
        files.local_path("~nobody-here/x")


@pytest.mark.parametrize("given", ["gs://b/x", "s3://b", "hf://b", "https://a.b/c", "gs:/b"])
def test_buckets_are_refused(given):
    with pytest.raises(ValueError, match=f"'{given}' is the address of a bucket or server"):
        files.local_path(given)


def test_a_null_character_is_refused():
    with pytest.raises(ValueError, match="null character"):
        files.local_path("a\0b")
