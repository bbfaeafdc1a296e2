"""Dialogues: pairs from YAML files, divided by question, with and without turns before them."""

import os

import numpy as np
import pytest

from vqdit.data import Dialogues
from vqdit.data.sources import take
from vqdit.modalities import BPE


def written(folder, count=40):
    lines = [f"- - Question {n}?\n  - Answer {n}.\n  - Other {n}.\n" for n in range(count)]
    (folder / "talk.yml").write_text("categories: [x]\nconversations:\n" + "".join(lines))
    return folder


def rows(source, split):
    found = take(source.split(split), np.arange(len(source.split(split))), source.features())
    return [
        (bytes(question).decode(), bytes(answer).decode())
        for question, answer in zip(found["question"], found["answer"], strict=True)
    ]


def test_pairs_stand_alone_and_behind_other_turns(tmp_path):
    source = Dialogues(path=str(written(tmp_path)))
    train, validation, test = (rows(source, split) for split in ("train", "validation", "test"))
    assert len(train) == 2 * 36 + 2 * 36 // 4 and len(validation) == len(test) == 2 * 2 + 1
    alone = [(question, answer) for question, answer in train if "\n" not in question]
    assert len(alone) == 2 * 36
    for question, answer in train:
        *context, last = question.split("\n")
        number = last.removeprefix("Question ").removesuffix("?")
        assert answer in (f"Answer {number}.", f"Other {number}.")
        assert len(context) in (0, 2)
    turns = [{turn for row in part for turn in row[0].split("\n")} for part in (train, validation)]
    assert not turns[0] & turns[1]  # those before a question neither


def test_two_sources_of_one_corpus_have_their_own_data(tmp_path):
    folder = written(tmp_path)
    every, short = (Dialogues(path=str(folder), question=most) for most in (256, 12))
    assert len(rows(every, "train")) > len(rows(short, "train"))


def test_units_are_learned_from_the_training_dialogues(tmp_path):
    source = Dialogues(path=str(written(tmp_path)), units=BPE(size=300))
    split, features = source.split("train"), source.features()
    found = take(split, np.arange(len(split)), features)
    units = BPE(size=300, merges=features["answer"].units)
    assert features["question"].units == units.merges and units.merges
    answers = [units.decode(codes).decode() for codes in found["answer"]]
    assert set(answers) <= {f"{kind} {n}." for kind in ("Answer", "Other") for n in range(40)}
    assert max(map(len, found["answer"])) < len(b"Answer 10.")


def test_units_are_learned_anew_from_files_that_change(tmp_path):
    source = Dialogues(path=str(written(tmp_path)), units=BPE(size=300))
    before = source.raw_features()["answer"].units
    file = tmp_path / "talk.yml"
    file.write_text(file.read_text().replace("Answer", "Reply to"))
    assert source.raw_features()["answer"].units != before


def test_what_is_too_long_is_left_out_and_said(tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("VQDIT_DATA", str(tmp_path / "data"))
    source = Dialogues(path=str(written(tmp_path)), question=12, answer=9)
    assert all(len(answer) <= 9 for _, answer in rows(source, "train"))
    assert "too long and left out" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("conversations: [[a", "cannot read the conversations in .*x.yml"),
        ("- a", "no list `conversations`"),
        ("conversations:\n- a\n", "0 questions, but at least 10"),
        ("conversations:\n- - a\n", "0 questions, but at least 10"),
        ("conversations:\n- - a\n  - b\n", "1 questions, but at least 10"),
        ("conversations: []\n", "0 questions, but at least 10"),
        ("conversations:\n- - a\n  - b: c\n", "names with values, {'b': 'c'}; put quotes around"),
        ("a: &a [b]\nconversations: [*a, *a]\n", "cannot read .*x.yml: it uses an alias"),
        ("conversations: " + "[" * 100_000, "nested too deep|flow level"),
        ('conversations:\n- - "\\ud83d"\n  - b\n', r"x\.yml"),
        ("conversations:\n- - !!int 'a'\n  - 2020-99-99\n", "1 questions, but at least 10"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, text, message):
    (tmp_path / "x.yml").write_text(text)
    with pytest.raises(ValueError, match=message):
        Dialogues(path=str(tmp_path)).split("train")
    (tmp_path / "x.yml").unlink()
    os.mkfifo(tmp_path / "x.yml")  # is not waited for
    with pytest.raises(FileNotFoundError, match=r"no \.yml file"):
        Dialogues(path=str(tmp_path)).split("train")
    with pytest.raises(FileNotFoundError, match=r"no \.yml file"):
        Dialogues(path=str(tmp_path / "none")).split("train")


def test_words_that_yaml_knows_and_large_files(tmp_path, monkeypatch):
    """A `No` is the word, and not what YAML makes of it."""
    monkeypatch.setenv("VQDIT_DATA", str(tmp_path / "data"))
    lines = [f"- - {n}\n  - {answer}\n" for n in range(12) for answer in ["No"]]
    (tmp_path / "x.yml").write_text("conversations:\n" + "".join(lines))
    assert {answer for _, answer in rows(Dialogues(path=str(tmp_path)), "train")} == {"No"}
    (tmp_path / "y.yml").write_bytes(b"#" * (2**24 + 1))
    with pytest.raises(ValueError, match="16,777,217 bytes, but at most 16,777,216 are allowed"):
        Dialogues(path=str(tmp_path / "y.yml")).split("train")
