"""The King James Version of the Bible, from Debian's package bible-kjv: 1,189 chapters, 4.1 MB."""

import hashlib
import re
import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from vqdit.data.sources import OPTION, SPLITS, divide
from vqdit.data.text_stream import TextStream
from vqdit.files import local_path
from vqdit.typing import resumable

VERSES = "Ge1:1-Rev22:21"
CHAPTERS = 1189
WORDS = 8
"""Number of words in the phrases that are compared between chapters."""
SHARE = 0.1
"""Chapters that share at least this fraction of their phrases count as the same text."""


class KJV(TextStream):
    """Chapters of the King James Bible, packed into windows: `text` [length].

    A document is a chapter, with one verse per line and without numbers. 80 % of the chapters are
    for training, and 10 % each for validation and test. Chapters that share at least a tenth of
    their phrases of 8 words, such as 2 Kings 19 and Isaiah 37, are in the same split.

    Attributes:
        path: a file with the text as `bible -f Ge1:1-Rev22:21` prints it; if empty, the program
            `bible` of Debian's package bible-kjv is run.
    """

    path: str = resumable("")

    def key(self) -> str:
        if not self.path:
            return f"kjv_{self.form}"
        return f"kjv_{self.form}_{hashlib.sha256(self._printed()).hexdigest()[:16]}"

    def streams(self) -> Mapping[str, Iterable[bytes | str]]:
        chapters = self._chapters()
        groups = same_text(chapters)
        kinds = sorted(set(groups))
        split_of = {
            kinds[row]: split for split, rows in divide(len(kinds), "KJV").items() for row in rows
        }
        return {
            split: [
                chapter.encode()
                for chapter, group in zip(chapters, groups, strict=True)
                if split_of[group] == split
            ]
            for split in SPLITS
        }

    def _chapters(self) -> list[str]:
        try:
            printed = self._printed().decode()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{self.path or 'the output of `bible`'} is not UTF-8: {error}; save it as UTF-8"
            ) from error
        verses = re.findall(r"^(\w+?\d+):\d+ (.+)$", printed, re.MULTILINE)
        chapters: dict[str, list[str]] = {}
        for chapter, verse in verses:
            chapters.setdefault(chapter, []).append(verse)
        if len(chapters) != CHAPTERS:
            raise ValueError(
                f"the King James Bible has {CHAPTERS} chapters, got {len(chapters)}; give the "
                f"path {OPTION} of a file with the output of `bible -f {VERSES}`"
            )
        return ["\n".join(lines) for lines in chapters.values()]

    def _printed(self) -> bytes:
        if self.path:
            return local_path(self.path).read_bytes()
        program = shutil.which("bible")
        if program is None:
            raise FileNotFoundError(
                "KJV needs Debian's package bible-kjv, which is not installed; run `apt-get "
                f"install bible-kjv`, or give the path {OPTION} of a file that `bible -f {VERSES} "
                "> FILE` wrote on another machine"
            )
        done = subprocess.run([program, "-f", VERSES], capture_output=True, check=False)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["no output"]
            raise OSError(f"`bible -f {VERSES}` failed: {said[-1]}; install bible-kjv again")
        return done.stdout


def same_text(chapters: Sequence[str]) -> list[int]:
    """Returns the group number of each chapter; chapters with the same phrases are in one group."""
    phrases = []
    chapters_with: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for number, chapter in enumerate(chapters):
        words = chapter.split()
        phrases.append({tuple(words[n : n + WORDS]) for n in range(len(words) - WORDS + 1)})
        for phrase in phrases[-1]:
            chapters_with[phrase].add(number)
    common = Counter(
        pair for found in chapters_with.values() for pair in combinations(sorted(found), 2)
    )
    groups = list(range(len(chapters)))
    for (one, other), count in sorted(common.items()):
        if count >= SHARE * min(len(phrases[one]), len(phrases[other])):
            old, new = groups[other], groups[one]
            groups = [new if group == old else group for group in groups]
    return groups
