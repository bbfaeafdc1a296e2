"""A source of texts: a file, or the files of a folder, of any size."""

import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from vqdit.data.sources import OPTION, SPLITS, divide
from vqdit.data.text_stream import TextStream
from vqdit.escapes import escaped
from vqdit.files import local_path
from vqdit.modalities.pictures import find_pictures
from vqdit.modalities.units import END
from vqdit.typing import resumable

ENDINGS = (".txt", ".text", ".md")
"""Endings of the files that are read from a folder; a single file may have any ending."""
MARK = b"\xef\xbb\xbf"
"""The byte order mark, which is not part of a text."""
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHARES = {"train": (0.0, 0.9), "validation": (0.9, 0.95), "test": (0.95, 1.0)}
"""Where each split begins and ends, as fractions, if the text is divided by position."""


class TextFiles(TextStream):
    """Documents from UTF-8 files, packed into windows: `text` [length].

    If a folder has the sub-folders train, validation and test, they are the splits. Otherwise a
    tenth of the documents goes to validation and a tenth to test, at random; equal documents are in
    the same split.

    Attributes:
        path: a file, or a folder. The files of a folder and its sub-folders are read in the order
            of their names.
        documents: what a document is: "file": a file; "line": a line; "blank_lines": the lines
            between two blank lines. Empty documents are left out.
        errors: "strict": bytes that are not UTF-8, and byte 0, which ends documents, are errors;
            "replace": these bytes are replaced by the character U+FFFD.
        letters: "all": the text as it is; "text8": 27 symbols, as in the benchmark of this name:
            letters a to z in lower case, digits spelled out, and one blank for anything else
            (Mahoney, "Large Text Compression Benchmark").
        split_by: "documents": at random, as above; "position": the first 90 % of the bytes are for
            training, the next 5 % for validation and the last 5 % for test.
    """

    path: str = resumable("texts")
    documents: Literal["file", "line", "blank_lines"] = "file"
    errors: Literal["strict", "replace"] = "strict"
    letters: Literal["all", "text8"] = "all"
    split_by: Literal["documents", "position"] = "documents"

    def key(self) -> str:
        path = local_path(self.path)
        how = (
            f" {self.form} {self.documents} {self.errors} {self.letters} {self.split_by}\n".encode()
        )
        digest = hashlib.sha256(os.fsencode(path.resolve()) + how)
        for file in self._files():
            stat = file.stat()
            digest.update(os.fsencode(file) + f" {stat.st_size} {stat.st_mtime_ns}\n".encode())
        return f"text_files_{digest.hexdigest()[:16]}"

    def streams(self) -> Mapping[str, Iterable[bytes | str]]:
        files, path = self._files(), local_path(self.path)
        if path.is_dir() and all((path / split).is_dir() for split in SPLITS):
            if self.split_by == "position":
                raise ValueError(
                    f"{path} has folders of the splits, which split_by='position' would mix; "
                    "rename them, or use split_by='documents'"
                )
            parts = {s: [f for f in files if f.is_relative_to(path / s)] for s in SPLITS}
            read = {split: _Reader(part, self) for split, part in parts.items()}
            remarks = [line for reader in read.values() for line in reader.survey().remarks]
            streams: dict[str, Iterable[bytes | str]] = {s: read[s].read() for s in SPLITS}
        else:
            reader = _Reader(files, self)
            survey = reader.survey()
            remarks = survey.remarks
            divided = self._by_position if self.split_by == "position" else self._by_documents
            streams = divided(reader, survey)
        return streams | {"train": itertools.chain(remarks, streams["train"])}

    def _by_documents(
        self, reader: "_Reader", survey: "_Survey"
    ) -> dict[str, Iterable[bytes | str]]:
        different = max(survey.numbers) + 1
        if different < 10:
            raise ValueError(
                f"{self.path} has {different} different documents, but at least 10 are needed "
                "to divide them into splits; use documents=line, documents=blank_lines, or "
                f"split_by=position {OPTION.replace('path', 'split-by')}"
            )
        split_of = np.zeros(different, int)
        for number, rows in enumerate(divide(different, self.path).values()):
            split_of[rows] = number
        owner = split_of[survey.numbers]
        return {
            split: itertools.compress(reader.read(), owner == number)
            for number, split in enumerate(SPLITS)
        }

    def _by_position(
        self, reader: "_Reader", survey: "_Survey"
    ) -> dict[str, Iterable[bytes | str]]:
        if survey.bytes < 20:
            raise ValueError(
                f"{self.path} has {survey.bytes} bytes, but at least 20 are needed; add more text"
            )
        return {
            split: _between(reader.read(), *(round(share * survey.bytes) for share in shares))
            for split, shares in SHARES.items()
        }

    def _files(self) -> list[Path]:
        path = local_path(self.path)
        if path.is_file():
            return [path]
        if not path.is_dir():
            raise FileNotFoundError(
                f"no file or folder {path}; give the path {OPTION} of a text or a folder of texts"
            )
        files = find_pictures(path, ENDINGS).pictures
        if not files:
            raise ValueError(
                f"no text in {path}; the names of files must end in {', '.join(ENDINGS)}"
            )
        return files


class _Survey(NamedTuple):
    """The results of one pass over all documents.

    Attributes:
        numbers: number of every document, the same for equal documents.
        bytes: number of bytes of all documents.
        remarks: lines about what was left out or replaced.
    """

    numbers: list[int]
    bytes: int
    remarks: list[str]


class _Reader:
    """Reads the documents of the files of a `TextFiles`, according to its fields."""

    def __init__(self, files: list[Path], source: TextFiles) -> None:
        self._files, self._source = files, source
        self._remarks: dict[str, list[str]] = {}

    def survey(self) -> _Survey:
        """Reads all documents once.

        Raises:
            ValueError: bytes are not UTF-8, or no document is left.
        """
        numbers, known, total = [], {}, 0
        for text in self.read():
            numbers.append(known.setdefault(hashlib.sha256(text).digest()[:16], len(known)))
            total += len(text)
        if not numbers:
            raise ValueError(f"{self._source.path} has only empty documents; add some text")
        remarks = [
            f"{what}: {len(places)}, the first in {places[0]}"
            for what, places in self._remarks.items()
        ]
        return _Survey(numbers, total, remarks)

    def read(self) -> Iterator[bytes]:
        """Yields all documents that are not empty."""
        self._remarks = {}
        for file in self._files:
            for text in self._divided(self._lines(file)):
                text = text8(text) if self._source.letters == "text8" else text
                if text.strip():
                    yield text
                elif self._source.documents != "blank_lines":
                    self._remark("empty documents, left out", _shown(file))

    def _divided(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        """Divides the lines of a file into documents."""
        if self._source.documents == "file":
            yield b"".join(lines)
        elif self._source.documents == "line":
            yield from (line.rstrip(b"\r\n") for line in lines)
        else:
            for is_text, group in itertools.groupby(lines, lambda line: bool(line.strip())):
                if is_text:
                    yield b"".join(group).rstrip(b"\r\n")

    def _lines(self, file: Path) -> Iterator[bytes]:
        """Yields the lines of a file with their line ends, as valid UTF-8 without the byte END."""
        offset = 0
        with file.open("rb") as opened:
            for line in opened:
                content = line.removeprefix(MARK) if offset == 0 else line
                yield self._checked(content, file, offset + len(line) - len(content))
                offset += len(line)

    def _checked(self, line: bytes, file: Path, offset: int) -> bytes:
        at = line.find(END)
        try:
            line.decode()
        except UnicodeDecodeError as error:
            at = error.start if at < 0 else min(at, error.start)
        if at < 0:
            return line
        place = f"{_shown(file)} at byte {offset + at}"
        if self._source.errors == "strict":
            what = "a byte 0, which ends documents" if line[at] == END else f"0x{line[at]:02x}"
            raise ValueError(
                f"the text is not UTF-8: {place} has {what}; convert the file, or replace "
                f"such bytes with errors=replace {OPTION.replace('path', 'errors')}"
            )
        self._remark("lines in which bytes were replaced with U+FFFD", place)
        return line.decode(errors="replace").replace(chr(END), "\N{REPLACEMENT CHARACTER}").encode()

    def _remark(self, what: str, place: str) -> None:
        self._remarks.setdefault(what, []).append(place)


def text8(text: bytes) -> bytes:
    """Returns a text in the 27 symbols of text8."""
    lower = text.lower()
    for digit, word in enumerate(DIGITS):
        lower = lower.replace(str(digit).encode(), f" {word} ".encode())
    return re.sub(b"[^a-z]+", b" ", lower)


def _between(documents: Iterable[bytes], start: int, end: int) -> Iterator[bytes]:
    """Yields the parts of documents between bytes `start` and `end`; characters stay whole."""
    position = 0
    for text in documents:
        cuts = (_boundary(text, cut - position) for cut in (start, end))
        if part := text[slice(*cuts)]:
            yield part
        position += len(text)
        if position >= end:
            return


def _boundary(text: bytes, at: int) -> int:
    """Returns the last position at or before `at` that is not inside a UTF-8 character."""
    at = min(max(at, 0), len(text))
    while 0 < at < len(text) and text[at] & 0xC0 == 0x80:
        at -= 1
    return at


def _shown(file: Path) -> str:
    return escaped(str(file))
