"""Questions and answers from YAML files of conversations, such as those of chatterbot-corpus."""

import functools
import hashlib
import importlib.util
import os
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vqdit.data.recorded import Recorded
from vqdit.data.sources import OPTION, SPLITS, Feature
from vqdit.files import local_path
from vqdit.modalities import Bytes, Units
from vqdit.modalities.texts import encoded
from vqdit.typing import Named, resumable

PACKAGE = "chatterbot_corpus"
MOST, DEEPEST = 2**24, 16
"""Largest size of a file in bytes, and largest depth of nested lists."""
HELD_OUT = 0.05
"""Fraction of the questions in validation, and in test.

All answers to a question are in the same split.
"""

IN_CONTEXT = 4
"""One in this many pairs is used twice: alone, and after the previous pair."""


class Turns(NamedTuple):
    """A question, its answer, and the earlier turns, each of which ends with a line feed."""

    question: str
    answer: str
    context: str = ""


class Dialogues(Recorded):
    """Pairs of a question and an answer: the texts `question` and `answer`, of variable length.

    The files are YAML, as in the PyPI package chatterbot-corpus (`pip install chatterbot-corpus`).
    Each list of a file's `conversations` is a question and its answers. Lists without an answer and
    repeated pairs are skipped, and so are questions and answers that are too long. Every fourth
    pair is used a second time, as a longer conversation: its question then begins with the turns of
    the previous pair. Each turn is on a separate line; the answer belongs to the last line.

    Attributes:
        path: a folder of .yml files, or one file; "" uses the installed package chatterbot-corpus.
        language: language of the dialogues, which is the name of a folder in the package.
        question: largest number of units of a question, including the turns before it.
        answer: largest number of units of an answer.
        units: what a code stands for: a byte, or a unit of a `BPE`, which is learned from the
            training dialogues when the data are prepared. The texts of the task must use the same
            units.
    """

    path: str = resumable("")
    language: str = "english"
    question: int = 256
    answer: int = 160
    units: Units = Bytes()

    def __post_init__(self) -> None:
        self.require("question >= 1", self.question >= 1)
        self.require("answer >= 1", self.answer >= 1)
        if self.units.learned:
            raise ValueError(
                "Dialogues learns the merges of its units from the data; leave merges empty"
            )

    def key(self) -> str:
        form = f"{self.question} {self.answer} {type(self.units).__name__}{self.units.vocabulary}"
        digest = hashlib.sha256(f"{form}\n".encode())
        for file in self._files():
            digest.update(os.fsencode(file.name) + b"\n" + _content(file))
        return f"dialogues_{digest.hexdigest()[:16]}"

    def raw_features(self) -> Named[Feature]:
        units = _learned(self, self.key())
        kind = {"dtype": str(units.dtype), "ragged": True, "units": units.learned}
        return Named(
            question=Feature((self.question,), **kind), answer=Feature((self.answer,), **kind)
        )

    def examples(self) -> Mapping[str, Iterable[Mapping[str, Any] | str]]:
        units = _learned(self, self.key())
        examples: dict[str, list[Mapping[str, Any] | str]] = {}
        for split, dialogues in self.dialogues().items():
            long = 0
            rows = examples.setdefault(split, [])
            for turns in dialogues:
                question = units.encode(turns.context + turns.question)
                answer = units.encode(turns.answer)
                if len(question) <= self.question and len(answer) <= self.answer:
                    rows.append({"question": question, "answer": answer})
                else:
                    long += not turns.context
            if long:
                rows.append(f"{long} pairs are too long and left out")
        return examples

    def dialogues(self) -> Mapping[str, list[Turns]]:
        """Returns the dialogues of each split; all answers to a question are in the same split."""
        found = [turns for file in self._files() for turns in _pairs(file)]
        questions = sorted({turns.question for turns in found})
        if len(questions) < 10:
            raise ValueError(
                f"{self._corpus()} has {len(questions)} questions, but at least 10 are "
                "needed; add more"
            )
        order = np.random.Generator(np.random.Philox(0)).permutation(len(questions))
        count = max(1, int(HELD_OUT * len(questions)))
        parts = order[2 * count :], order[:count], order[count : 2 * count]
        split_of = {
            questions[row]: split for split, part in zip(SPLITS, parts, strict=True) for row in part
        }
        return {
            split: _in_context([turns for turns in found if split_of[turns.question] == split])
            for split in SPLITS
        }

    def _files(self) -> list[Path]:
        place = self._corpus()
        there = [place] if place.is_file() else sorted(place.glob("*.yml"))
        files = [file for file in there if file.is_file()]  # reading a pipe would block
        if not files:
            raise FileNotFoundError(
                f"no .yml file of conversations in {place}; give the path of another folder "
                f"{OPTION}"
            )
        return files

    def _corpus(self) -> Path:
        if self.path:
            return local_path(self.path)
        found = importlib.util.find_spec(PACKAGE)
        if found is None or not found.submodule_search_locations:
            raise FileNotFoundError(
                "Dialogues needs the package chatterbot-corpus; run `pip install "
                f"chatterbot-corpus`, or give a folder with YAML files of this form {OPTION}"
            )
        return Path(found.submodule_search_locations[0]) / "data" / self.language


@functools.lru_cache(maxsize=4)
def _learned(source: Dialogues, key: str) -> Units:
    """Returns the units of a source, with merges learned from its training dialogues.

    Args:
        source: the source.
        key: key of the source, which changes with the content of its files.
    """
    del key
    turns = source.dialogues()["train"]
    return source.units.learn(text for turn in turns for text in (turn.question, turn.answer))


def _pairs(file: Path) -> list[Turns]:
    """Reads the questions and answers of a file.

    Raises:
        ValueError: the file is not YAML, has no conversations, or has a turn that is not a text.
    """
    found = _yaml(file)
    conversations = found.get("conversations") if isinstance(found, dict) else None
    if not isinstance(conversations, list):
        raise ValueError(f"{file} has no list `conversations`; add one, or remove the file")
    pairs = []
    for turns in conversations:
        if not isinstance(turns, list) or not turns:  # a missing dash makes it a text
            continue
        for turn in turns:
            if not isinstance(turn, str):
                raise ValueError(
                    f"{file} has a turn that YAML reads as a list or as names with values, "
                    f"{reprlib.repr(turn)}; put quotes around it"
                )
            try:
                encoded(turn)
            except ValueError as error:
                raise ValueError(f"{file}: {error}") from error
        question, *answers = (turn.strip() for turn in turns)
        pairs += [Turns(question, answer) for answer in answers if question and answer]
    return list(dict.fromkeys(pairs))


def _yaml(file: Path) -> Any:
    """Returns the content of a YAML file as lists, objects and texts.

    Raises:
        ValueError: the file is not YAML, is nested too deeply, or has aliases, with which a small
            file may represent a very large content.
    """
    import yaml

    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        text, depth = _content(file).decode(), 0
        for event in yaml.parse(text, Loader=loader):  # this parser does not recurse
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST or isinstance(event, yaml.AliasEvent):
                why = "it uses an alias" if depth <= DEEPEST else "it is nested too deeply"
                raise ValueError(f"{why}; write conversations as lists of turns")
        return yaml.load(text, Loader=loader)
    except (yaml.YAMLError, ValueError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"cannot read the conversations in {file}: {why}") from error


def _content(file: Path) -> bytes:
    if file.stat().st_size > MOST:
        raise ValueError(
            f"{file} has {file.stat().st_size:,} bytes, but at most {MOST:,} are allowed; divide it"
        )
    return file.read_bytes()


def _in_context(pairs: list[Turns]) -> list[Turns]:
    """Returns every pair alone, and every fourth pair again, after the previous pair."""
    behind = [
        pair._replace(context=f"{before.question}\n{before.answer}\n")
        for before, pair in zip(pairs, pairs[1:], strict=False)
    ]
    return pairs + behind[::IN_CONTEXT]
