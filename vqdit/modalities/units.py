"""Units of text, which are represented by codes: bytes, or frequent sequences of bytes (BPE).

Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", arXiv:1508.07909,
over bytes as in GPT-2, so that every text can be encoded and is decoded exactly.
"""

import functools
import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from vqdit.modalities.texts import check_length, encoded
from vqdit.typing import Component, Int, Shaped

END = 0
"""The code that pads a text of fixed length, and ends a document."""
LARGEST = 2**20
"""Largest number of units of a BPE."""


def _letters() -> list[str]:
    """Returns the printable character with which GPT-2 represents each byte."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in visible else next(others)) for byte in range(256)]


LETTERS = _letters()


class Units(Component):
    """Division of texts into units. Code `END` marks the end of a text."""

    @property
    def vocabulary(self) -> int:
        """Number of codes."""
        raise TypeError(f"{type(self).__name__} must define the property 'vocabulary'")

    @property
    def dtype(self) -> np.dtype:
        """Data type of stored codes."""
        raise TypeError(f"{type(self).__name__} must define the property 'dtype'")

    @property
    def learned(self) -> str:
        """Text form of what `learn` has learned, such as the merges of a `BPE`, or ""."""
        return ""

    @property
    def end_is_text(self) -> bool:
        """Whether `END` is also the code of byte 0 of a text."""
        return False

    @property
    def noun(self) -> str:
        """Name of several units, for messages."""
        return "bytes" if self.end_is_text else "units"

    def learn(self, texts: Iterable[str]) -> "Units":
        """Returns these units with what they learn from training texts, such as merges."""
        del texts
        return self

    def encode(self, text: str, length: int | None = None) -> Shaped[np.ndarray, " n"]:
        """Returns the codes of a text.

        Raises:
            ValueError: there are more than `length` codes (if it is given), or the text cannot be
                written as UTF-8.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'encode'")

    def encode_invalid(self, text: str, strange: str) -> Shaped[np.ndarray, " n"]:
        """Returns the codes of a text in which `strange` replaces bytes that were not UTF-8."""
        del strange
        return self.encode(text)

    def decode(self, codes: Shaped[np.ndarray, " n"]) -> bytes:
        """Returns the bytes that codes stand for; codes from `encode` give valid UTF-8."""
        raise TypeError(f"{type(self).__name__} must define the method 'decode'")


class Bytes(Units):
    """Every byte of a text in UTF-8 is a unit."""

    @property
    def vocabulary(self) -> int:
        return 256

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8)

    @property
    def end_is_text(self) -> bool:
        return True

    def encode(self, text: str, length: int | None = None) -> Shaped[np.ndarray, " n"]:
        return encoded(text, length)

    def encode_invalid(self, text: str, strange: str) -> Shaped[np.ndarray, " n"]:
        return np.frombuffer(text.encode().replace(strange.encode(), b"\xff"), np.uint8)

    def decode(self, codes: Shaped[np.ndarray, " n"]) -> bytes:
        return bytes(codes.astype(np.uint8))


class BPE(Units):
    """Byte-pair encoding: code 0 ends a text, 1 to 256 are the bytes, and the others are merges.

    The merges are learned from the training texts by the library tokenizers (the extra
    `bpe`). Units do not cross the boundaries of words.

    Attributes:
        size: number of codes; if the training texts have too few pairs, some codes never occur.
        merges: the pairs that are merged, one per line and in order, in GPT-2's spelling of bytes.
            Empty in a config; set when the data are prepared.
    """

    size: int = 4096
    merges: str = ""

    def __post_init__(self) -> None:
        self.require(f"size from 258 to {LARGEST}", 258 <= self.size <= LARGEST)
        pairs = self.merges.split("\n") if self.merges else []
        are_pairs = all(0 < pair.find(" ") == pair.rfind(" ") < len(pair) - 1 for pair in pairs)
        if not are_pairs or not set(self.merges) <= {" ", "\n", *LETTERS}:
            raise ValueError("the merges of a BPE are damaged; restore the file from a copy")
        self.require(f"size >= 257 + {len(pairs)} merges", self.size >= 257 + len(pairs))

    def __repr__(self) -> str:
        learned = f", {len(self.merges.splitlines())} merges" if self.merges else ""
        return f"BPE(size={self.size}{learned})"

    @property
    def vocabulary(self) -> int:
        return self.size

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.int32)

    @property
    def learned(self) -> str:
        return self.merges

    def learn(self, texts: Iterable[str]) -> "BPE":
        tokenizers = _tokenizers()
        tokenizer = _tokenizer({letter: byte for byte, letter in enumerate(LETTERS)}, [])
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=self.size - 1, initial_alphabet=LETTERS, show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        found = json.loads(tokenizer.to_str())["model"]["merges"]
        if not found:
            raise ValueError(
                "the training texts have no word of at least two bytes, so a BPE has nothing to "
                "merge; use Bytes()"
            )
        return BPE(size=self.size, merges="\n".join(" ".join(pair) for pair in found))

    def encode(self, text: str, length: int | None = None) -> Int[np.ndarray, " n"]:
        encoded(text)  # rejects lone surrogates
        codes = np.asarray(self._tokenizer.encode(text).ids, np.int32) + 1
        if length is not None:
            check_length(text, len(codes), length, "units")
        return codes

    def decode(self, codes: Shaped[np.ndarray, " n"]) -> bytes:
        return b"".join(self._bytes[code] for code in codes.tolist())

    @functools.cached_property
    def _vocabulary(self) -> dict[str, int]:
        vocabulary = {letter: byte for byte, letter in enumerate(LETTERS)}
        for pair in filter(None, self.merges.split("\n")):
            if not set(pair.split(" ", 1)) <= vocabulary.keys():
                raise ValueError(
                    f"the merges of a BPE are damaged: {pair[:40]!a} joins a unit that no earlier "
                    "line makes; restore the file from a copy"
                )
            vocabulary.setdefault(pair.replace(" ", "", 1), len(vocabulary))
        return vocabulary

    @functools.cached_property
    def _tokenizer(self) -> Any:
        if not self.merges:
            raise ValueError(
                "this BPE has no merges, which are learned when the data are prepared; give the "
                "source of the data the same BPE(size=...)"
            )
        merges = [tuple(pair.split(" ", 1)) for pair in self.merges.split("\n")]
        return _tokenizer(self._vocabulary, merges)

    @functools.cached_property
    def _bytes(self) -> list[bytes]:
        """The bytes of every code; empty for the end code and for codes that do not occur."""
        byte_of = {letter: byte for byte, letter in enumerate(LETTERS)}
        found = [bytes(byte_of[letter] for letter in unit) for unit in self._vocabulary]
        return [b"", *found, *[b""] * (self.size - 1 - len(found))]


def _tokenizers() -> Any:
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise ValueError(
            'units of a BPE need the library tokenizers; run: pip install "vqdit[bpe]"'
        ) from error
    return tokenizers


def _tokenizer(vocabulary: dict[str, int], merges: list[Any]) -> Any:
    tokenizers = _tokenizers()
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer
