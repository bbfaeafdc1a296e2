"""Streams of documents: every byte once, no character divided between splits, nothing leaks."""

import shutil

import numpy as np
import pytest

from vqdit.data import KJV, Data, TextFiles
from vqdit.data.builders.description import remarks
from vqdit.data.kjv import same_text
from vqdit.data.sources import SPLITS
from vqdit.data.text_stream import document_numbers, windows
from vqdit.modalities import BPE, Bytes


@pytest.fixture(autouse=True)
def own_data(data_folder):
    """Prepared data of every test are its own."""


def stream(source, split="train"):
    found = source.split(split)
    return found.take(np.arange(len(found)))["text"].tobytes()


def documents(source, split="train"):
    return stream(source, split).rstrip(b"\0").split(b"\0")


def test_windows_are_the_documents_one_behind_the_other_each_with_its_end():
    found = list(windows([b"abcde", "a remark", b"f", b"gh"], 4, Bytes()))
    assert found.pop(1) == "a remark"
    assert b"".join(bytes(window["text"]) for window in found) == b"abcde\0f\0gh\0\0"
    assert [len(window["text"]) for window in found] == [4, 4, 4]
    assert (
        len(list(windows([b"abc"], 4, Bytes()))) == 1
    )  # nothing follows a stream that ends with a window


def test_every_position_knows_its_document_and_what_only_fills_has_none():
    stored = np.frombuffer(b"ab\0cd\0\0\0" + b"\0ef\0ghij" + b"\0\0\0\0\0\0\0\0", np.uint8)
    numbers = document_numbers(stored.reshape(3, 8))
    assert numbers.tolist() == [
        [0, 0, 0, 1, 1, 1, -1, -1],
        [0, 1, 1, 1, 2, 2, 2, 2],
        [0, -1, -1, -1, -1, -1, -1, -1],
    ]
    assert numbers.dtype == np.int32


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("file", [b"one\ntwo\r\n\n \nthree\n"]),
        ("line", [b"one", b"two", b"three"]),
        ("blank_lines", [b"one\ntwo", b"three"]),
    ],
)
def test_a_document_is_a_file_or_a_line_or_stands_between_blank_lines(tmp_path, kind, expected):
    for split in SPLITS:
        (tmp_path / split).mkdir()
        (tmp_path / split / "a.txt").write_bytes(b"\xef\xbb\xbfone\ntwo\r\n\n \nthree\n")
        (tmp_path / split / "b.md").write_bytes(split.encode())
        (tmp_path / split / "c.pdf").write_bytes(b"\xff")
    source = TextFiles(path=str(tmp_path), length=8, documents=kind)
    for split in SPLITS:
        assert documents(source, split) == [*expected, split.encode()]


def test_documents_are_divided_and_equal_ones_stay_together(tmp_path):
    lines = [f"line {number % 20}" for number in range(60)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    source = TextFiles(path=str(tmp_path / "a.txt"), length=16, documents="line")
    found = {split: documents(source, split) for split in SPLITS}
    assert [len(found[split]) for split in SPLITS] == [48, 6, 6]
    assert [len({*found[split]}) for split in SPLITS] == [16, 2, 2]
    assert sorted(sum(found.values(), [])) == sorted(line.encode() for line in lines)


def test_by_position_the_splits_are_the_text_in_a_row_and_no_character_is_divided(tmp_path):
    text = "é" * 99 + "ab" + "€" * 33
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    source = TextFiles(path=str(tmp_path / "a.txt"), length=8, split_by="position")
    parts = [stream(source, split).rstrip(b"\0").decode() for split in SPLITS]
    assert "".join(parts) == text
    shares = np.cumsum([len(part.encode()) for part in parts]) / len(text.encode())
    assert np.allclose(shares, [0.9, 0.95, 1.0], atol=0.01)


def test_text8_has_27_symbols(tmp_path):
    (tmp_path / "a.txt").write_text("The 1st caf\u00e9,\n\nA 42.\n" * 9, encoding="utf-8")
    source = TextFiles(path=str(tmp_path), length=8, letters="text8", split_by="position")
    text = b"".join(stream(source, split).rstrip(b"\0") for split in SPLITS)
    assert text == b"the one st caf a four two " * 9


def test_bytes_that_are_no_text_are_named_by_file_and_place_or_replaced(tmp_path):
    file = tmp_path / "x\n.txt"
    file.write_bytes(b"\xef\xbb\xbfgood\nb\xffad\nz\0ero\n" + b"more\n" * 30)
    strict = TextFiles(path=str(tmp_path), length=8, split_by="position")
    with pytest.raises(ValueError, match=r"x\\n\.txt at byte 9 has 0xff; .* with errors=replace"):
        strict.features()
    file.write_bytes(b"good\nz\0ero\xff\n" + b"more\n" * 30)
    with pytest.raises(ValueError, match=r"at byte 6 has a byte 0, which ends documents; "):
        strict.features()
    loose = TextFiles(path=str(tmp_path), length=8, split_by="position", errors="replace")
    assert stream(loose).startswith("good\nz\ufffdero\ufffd\nmore\n".encode())
    (line,) = remarks(loose.prepare())
    assert line.startswith("lines in which bytes were replaced with U+FFFD: 1, the first in ")


def test_empty_documents_are_left_out_and_said(tmp_path):
    for number in range(12):
        (tmp_path / f"{number:02d}.txt").write_text(f"text {number}")
    (tmp_path / "empty.txt").write_text(" \n")
    source = TextFiles(path=str(tmp_path), length=8)
    assert len(sum((documents(source, split) for split in SPLITS), [])) == 12
    (line,) = remarks(source.prepare())
    assert line == f"empty documents, left out: 1, the first in {tmp_path / 'empty.txt'}"


def test_what_cannot_be_used_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file or folder .*nowhere; give the path"):
        TextFiles(path=str(tmp_path / "nowhere")).features()
    with pytest.raises(ValueError, match=r"no text in .*; the names of files must end in \.txt"):
        TextFiles(path=str(tmp_path)).features()
    (tmp_path / "a.txt").write_text("\n\n")
    with pytest.raises(ValueError, match="has only empty documents"):
        TextFiles(path=str(tmp_path)).features()
    (tmp_path / "a.txt").write_text("one\ntwo")
    with pytest.raises(ValueError, match="has 1 different documents, but at least 10 .*split_by="):
        TextFiles(path=str(tmp_path)).features()
    with pytest.raises(ValueError, match="TextFiles needs length from 2 to 1048576, got 1"):
        TextFiles(length=1)


def test_batches_have_the_numbers_of_documents(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(f"line {number}" for number in range(40)))
    data = Data(source=TextFiles(path=str(tmp_path), length=16, documents="line"), batch_size=4)
    for batch in (data.first_batch(0), next(iter(data.split_batches("test")))):
        expected = document_numbers(batch.data["text"])
        np.testing.assert_array_equal(batch.documents["text"], expected)
        assert expected.max() == 2


def test_chapters_of_the_same_phrases_are_a_group():
    words = "the quick brown fox jumps over the lazy dog and runs away from it all".split()
    other = [f"word{number}" for number in range(30)]
    chapters = [" ".join(words), " ".join(other), " ".join([*other[:9], *words[:12]]), "short"]
    groups = same_text(chapters)
    assert groups[0] == groups[1] == groups[2] != groups[3]  # the third joins the other two
    assert len({*same_text([chapters[0], chapters[1]])}) == 2


def test_the_bible_is_divided_by_chapters(tmp_path, monkeypatch):
    file = tmp_path / "kjv.txt"
    books = [f"Bo{'abcdefghij'[number % 10]}{number // 10 + 1}" for number in range(1189)]
    verses = [f"{book}:{verse} {book} verse {verse}." for book in books for verse in (1, 2)]
    file.write_text("\n".join(verses))
    source = KJV(path=str(file), length=32)
    found = {split: documents(source, split) for split in SPLITS}
    assert [len(found[split]) for split in SPLITS] == [953, 118, 118]
    assert sorted(sum(found.values(), [])) == sorted(
        f"{book} verse 1.\n{book} verse 2.".encode() for book in books
    )
    file.write_text("\n".join(verses[2:]))
    with pytest.raises(ValueError, match="has 1189 chapters, got 1188; give the path"):
        KJV(path=str(file)).features()
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(
        FileNotFoundError, match="run `apt-get install bible-kjv`, or give the path"
    ):
        KJV().features()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("bible"), reason="needs Debian's package bible-kjv")
def test_no_chapter_of_the_real_bible_leaks():
    source = KJV(length=4096)
    found = {split: documents(source, split) for split in SPLITS}
    assert sum(map(len, found.values())) == 1189
    assert sum(len(text) for texts in found.values() for text in texts) == 4_136_661
    verses = {s: {v for text in found[s] for v in text.split(b"\n") if len(v) > 60} for s in SPLITS}
    held_out = verses["validation"] | verses["test"]
    assert len(held_out & verses["train"]) < 0.01 * len(held_out)
    assert documents(source)[0].startswith(b"In the beginning God created")


def test_a_bpe_is_learned_from_the_training_documents_alone(tmp_path):
    for split in SPLITS:
        (tmp_path / split).mkdir()
        (tmp_path / split / "a.txt").write_text(
            "\n".join([f"{word_of(split)} é"] * 20), encoding="utf-8"
        )
    source = TextFiles(path=str(tmp_path), length=7, documents="line", units=BPE(size=270))
    feature = source.features()["text"]
    assert (feature.shape, str(feature.stored), feature.packed) == ((7,), "int32", True)
    units = BPE(size=270, merges=feature.units)
    assert units.vocabulary == 270 and len(units.encode("training")) == 1 < len(
        units.encode("testing")
    )
    for split in SPLITS:
        found = source.split(split)
        codes = found.take(np.arange(len(found)))["text"].ravel()
        texts = [units.decode(part) for part in np.split(codes, np.flatnonzero(codes == 0))]
        assert [text for text in texts if text] == [f"{word_of(split)} é".encode()] * 20
    assert source.key() != TextFiles(path=str(tmp_path), length=7, documents="line").key()
    with pytest.raises(ValueError, match="TextFiles learns the merges of its units from the data"):
        TextFiles(units=units)


def word_of(split):
    return {"train": "training", "validation": "validating", "test": "testing"}[split]
