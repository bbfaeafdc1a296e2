"""`vqdit chat`: turns are the context of the next answer, until they are too many."""

import io
import re
import types

import pytest

from vqdit.cli import given
from vqdit.cli.chat import fitting
from vqdit.cli.main import main
from vqdit.modalities import Label, Text
from vqdit.typing import Named


class Echo:
    """A model that answers with the number of the turns it is given, and the last of them."""

    def __init__(self, **modalities):
        self.task = types.SimpleNamespace(
            modalities=Named(modalities),
            targets=Named({name: None for name in modalities if name != "question"}),
        )
        self.asked = []

    def modality(self, name):
        return self.task.modalities[name]

    def prepare(self, given, want, samplers, guidance):
        assert (given, want, guidance) == ({"question": [""]}, ["answer"], None)

    def pack(self, name, values):
        for value in values:
            if "~" in value:
                raise ValueError(
                    "'question' contains '~', which does not occur in the training data"
                )
        return self.modality(name).pack(values)

    def sample(self, num, *, given, want, **settings):
        (context,) = given["question"]
        self.asked.append(context)
        turns = context.split("\n")
        return {want[0]: [f"{len(turns)} {turns[-1]}"]}


@pytest.fixture
def talk(monkeypatch, capsys):
    def talk(text, *args, cls=Echo, **modalities):
        model = cls(**{"question": Text(length=36), "answer": Text(length=40), **modalities})
        monkeypatch.setattr(given, "load_generator", lambda path: model)
        monkeypatch.setattr(given, "read_samplers", lambda *args: None)
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        code = main(["chat", "--workdir=run", *args])
        shown = capsys.readouterr()
        return code, shown.out.splitlines(), shown.err, model.asked

    return talk


def test_turns_are_context_until_they_are_too_long(talk):
    code, said, notes, asked = talk("one\n\n two \nthree is long enough\n")
    assert code == 0
    assert said == ["1 one", "3 two", "3 three is long enough"]
    assert asked[1] == "one\n1 one\ntwo"
    assert asked[2] == "two\n3 two\nthree is long enough"
    assert "the oldest 2 turns are dropped" in notes


def test_a_turn_that_is_too_long_is_refused_and_the_talk_goes_on(talk):
    code, said, notes, _ = talk(f"{'x' * 37}\nhello\n")
    assert (code, said) == (2, ["1 hello"])
    assert "has 37 bytes, more than the limit of 36; shorten it" in notes


def test_what_the_model_cannot_read_is_refused_or_forgotten_and_the_talk_goes_on(talk):
    code, said, notes, asked = talk("a~\nhello\nbye\n")
    assert (code, said) == (2, ["1 hello", "3 bye"])
    assert notes.splitlines() == [
        "error: 'question' contains '~', which does not occur in the training data"
    ]

    class Tilde(Echo):
        def sample(self, num, **settings):
            return {name: ["~"] for name in super().sample(num, **settings)}

    code, said, notes, asked = talk("one\ntwo\n", cls=Tilde)
    assert (code, said, asked) == (0, ["~", "~"], ["one", "two"])  # without what it said itself
    assert notes.splitlines() == ["(the oldest 2 turns are dropped)"]


def test_an_input_that_is_no_text_is_refused_in_one_line(talk, monkeypatch):
    monkeypatch.setattr(io, "StringIO", lambda text: io.TextIOWrapper(io.BytesIO(b"\xff\n")))
    code, said, notes, _ = talk("")
    assert (code, said) == (2, [])
    assert notes.startswith("error: the input is not text: 'utf-8' codec can't decode byte 0xff")


def test_the_end_of_a_turn_counts_bytes():
    check = Text(length=40).pack
    assert fitting(["é" * 20], check) == (0, ["é" * 20])
    assert fitting(["a", "b", "é" * 20], check) == (2, ["é" * 20])
    assert fitting(["a", "b", "é" * 18], check) == (0, ["a", "b", "é" * 18])
    with pytest.raises(ValueError, match="has 42 bytes, more than the limit of 40"):
        fitting(["a", "b", "é" * 21], check)


@pytest.mark.parametrize(
    ("args", "more", "message"),
    [
        (
            [],
            {"other": Text(length=4)},
            "--answer=NAME is missing; .*: answer, other",
        ),
        (
            ["--answer=nobody"],
            {},
            "--answer=nobody is not a possible text of this model",
        ),
        (["--question=label"], {"label": Label()}, "--question=label is not a possible text"),
    ],
)
def test_what_is_asked_and_answered_must_be_clear(talk, args, more, message):
    code, _, notes, _ = talk("hello\n", *args, **more)
    assert code == 2 and re.search(message, notes)
