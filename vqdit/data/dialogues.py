"""Questions and answers from YAML files of conversations, such as those of chatterbot-corpus."""

import hashlib
import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vqdit.data.recorded import Recorded
from vqdit.data.sources import OPTION, SPLITS, Feature
from vqdit.files import local_path
from vqdit.modalities.texts import encoded
from vqdit.typing import Named, resumable

PACKAGE = "chatterbot_corpus"
HELD_OUT = 0.05
"""Share of the questions in each of validation and test; all answers to one are in one split."""


class Turns(NamedTuple):
    """A question and its answer, and the turns before them, each with a line end behind it."""

    question: str
    answer: str
    context: str = ""


class Dialogues(Recorded):
    """Pairs of a question and an answer: the texts `question` and `answer`, of variable length.

    Each list of a file's `conversations` is a question and its answers; what is no list with an
    answer is passed over. A file is YAML as in the
    PyPI package chatterbot-corpus (`pip install chatterbot-corpus`). Every pair occurs a second
    time, behind another pair of its file: the turns of a conversation stand on lines of their own,
    and the answer is to the last of them. Questions and answers that are too long are left out.

    Attributes:
        path: a folder of .yml files, or one file; "" takes the installed package chatterbot-corpus.
        language: folder within the package.
        question: bytes of the longest question, with the turns before it.
        answer: bytes of the longest answer.
    """

    path: str = resumable("")
    language: str = "english"
    question: int = 256
    answer: int = 160

    def __post_init__(self) -> None:
        self.require("question >= 1", self.question >= 1)
        self.require("answer >= 1", self.answer >= 1)

    def key(self) -> str:
        digest = hashlib.sha256(f"{self.question} {self.answer}\n".encode())
        for file in self._files():
            digest.update(file.name.encode() + b"\n" + file.read_bytes())
        return f"dialogues_{digest.hexdigest()[:16]}"

    def raw_features(self) -> Named[Feature]:
        return Named(
            question=Feature((self.question,), ragged=True),
            answer=Feature((self.answer,), ragged=True),
        )

    def examples(self) -> Mapping[str, Iterable[Mapping[str, Any] | str]]:
        found = [turns for file in self._files() for turns in _in_context(_pairs(file))]
        rows = [turns for turns in found if self._fits(turns)]
        questions = sorted({turns.question for turns in rows})
        if len(questions) < 10:
            raise ValueError(
                f"{self._place()} has {len(questions)} questions that fit; at least 10 are needed"
            )
        order = np.random.Generator(np.random.Philox(0)).permutation(len(questions))
        count = max(1, int(HELD_OUT * len(questions)))
        parts = order[2 * count :], order[:count], order[count : 2 * count]
        split_of = {
            questions[row]: split for split, part in zip(SPLITS, parts, strict=True) for row in part
        }
        examples: dict[str, list[Mapping[str, Any] | str]] = {split: [] for split in SPLITS}
        for turns in rows:
            question = encoded(turns.context + turns.question, self.question)
            answer = encoded(turns.answer, self.answer)
            examples[split_of[turns.question]].append({"question": question, "answer": answer})
        alone = sum(not turns.context for turns in found) - sum(not turns.context for turns in rows)
        if alone:
            examples["train"].append(f"{alone} pairs are too long and left out")
        return examples

    def _fits(self, turns: "Turns") -> bool:
        asked = len((turns.context + turns.question).encode())
        return asked <= self.question and len(turns.answer.encode()) <= self.answer

    def _files(self) -> list[Path]:
        place = self._place()
        files = [place] if place.is_file() else sorted(place.glob("*.yml"))
        if not files:
            raise FileNotFoundError(f"no .yml file of conversations in {place}; give one {OPTION}")
        return files

    def _place(self) -> Path:
        if self.path:
            return local_path(self.path)
        found = importlib.util.find_spec(PACKAGE)
        if found is None or not found.submodule_search_locations:
            raise FileNotFoundError(
                "Dialogues needs the package chatterbot-corpus; run `pip install "
                f"chatterbot-corpus`, or give a folder of such files {OPTION}"
            )
        return Path(found.submodule_search_locations[0]) / "data" / self.language


def _pairs(file: Path) -> list[Turns]:
    """Reads the questions and answers of a file.

    Raises:
        ValueError: the file is no YAML, or has no conversations.
    """
    import yaml

    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(f"cannot read the conversations in {file}: {why}") from error
    conversations = found.get("conversations") if isinstance(found, dict) else None
    if not isinstance(conversations, list):
        raise ValueError(f"{file} has no list `conversations`")
    pairs = []
    for turns in conversations:
        if not isinstance(turns, list) or not turns:  # a slip in YAML makes one text of a list
            continue
        question, *answers = (str(turn).strip() for turn in turns)
        pairs += [Turns(question, answer) for answer in answers if question and answer]
    return pairs


def _in_context(pairs: list[Turns]) -> list[Turns]:
    """Returns every pair alone, and once more behind another pair."""
    others = np.random.Generator(np.random.Philox(1)).integers(len(pairs), size=len(pairs))
    before = [f"{pairs[other].question}\n{pairs[other].answer}\n" for other in others]
    return pairs + [
        pair._replace(context=context) for pair, context in zip(pairs, before, strict=True)
    ]
