"""Recorded speech: the prompts of the telephone exchange Asterisk, spoken by one woman."""

import gzip
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vqdit.data.recordings import Item, Recordings
from vqdit.data.sources import OPTION, SPLITS, divide
from vqdit.files import local_path
from vqdit.modalities import Audio, Text
from vqdit.typing import resumable

SOUNDS = "/usr/share/asterisk/sounds/en_US_f_Allison"
TRANSCRIPTS = "/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
LARGEST = 2**24
"""Only this many bytes of the transcripts are read."""
REMARK = re.compile(r"\[[^]]*\]|<[^>]*>|\([^)]*\)")
"""Matches text in brackets, which is not spoken."""


class AsteriskSpeech(Recordings):
    """English prompts, such as "Please hold.": `audio` at 8 kHz, mono, and `text`.

    Debian's package asterisk-core-sounds-en-wav has 568 recordings of one voice (Allison Smith,
    CC-BY-SA-3.0); the package asterisk-core-sounds-en has their transcripts. Sounds without words,
    such as tones and silence, are left out. A tenth of the different transcripts goes to validation
    and a tenth to test, so that no text of one split is in another.

    Attributes:
        path: folder of the recordings; if empty, the folder of the Debian package.
        transcripts: file of the transcripts, plain or compressed by gzip, with a line `NAME: text`
            for each recording `NAME.wav`; if empty, the file of the Debian package.
    """

    audio: Audio = Audio(rate=8000, seconds=(0.2, 8.0), outside="skip")
    text: Text = Text(length=160, variable=True, outside="skip")
    divide: bool = False
    path: str = resumable("")
    transcripts: str = resumable("")

    def key(self) -> str:
        digest = hashlib.sha256(f"{self.form}\n".encode())
        for name, (file, text) in self._found().items():
            stat = file.stat()
            digest.update(f"{name} {stat.st_size} {stat.st_mtime_ns} {text}\n".encode())
        return f"asterisk_speech_{digest.hexdigest()[:16]}"

    def items(self) -> Mapping[str, Sequence[Item]]:
        found = {name: item for name, item in self._found().items() if item[1]}
        texts = sorted({text.lower() for _, text in found.values()})
        split_of = {
            texts[row]: split
            for split, rows in divide(len(texts), "AsteriskSpeech").items()
            for row in rows
        }
        return {
            split: [
                Item(file, text=text)
                for file, text in found.values()
                if split_of[text.lower()] == split
            ]
            for split in SPLITS
        }

    @property
    def has_text(self) -> bool:
        return True

    def remarks(self) -> Iterable[str]:
        wordless = sum(not text for _, text in self._found().values())
        return [f"left out, without words: {wordless}"] if wordless else []

    def _found(self) -> dict[str, tuple[Path, str]]:
        """Returns file and text of each recording by name; the text is "" if there are no words."""
        folder = local_path(self.path or SOUNDS)
        files = sorted(folder.rglob("*.wav"))
        if not files:
            raise FileNotFoundError(
                f"no recordings in {folder}; run `apt-get install asterisk-core-sounds-en-wav "
                f"asterisk-core-sounds-en`, or give the path {OPTION} of their folder"
            )
        texts = self._texts()
        names = {file: file.relative_to(folder).with_suffix("").as_posix() for file in files}
        for file, name in names.items():
            if name not in texts:
                raise ValueError(f"the recording {file} has no transcript; remove it, or add one")
        return {name: (file, texts[name]) for file, name in names.items()}

    def _texts(self) -> dict[str, str]:
        file = local_path(self.transcripts or TRANSCRIPTS)
        if not file.is_file():
            option = OPTION.replace("path", "transcripts")
            raise FileNotFoundError(
                f"the file of transcripts {file} does not exist; run `apt-get install "
                f"asterisk-core-sounds-en`, or give its path {option}"
            )
        with file.open("rb") as opened:
            is_compressed = opened.read(2) == b"\x1f\x8b"
        with gzip.open(file) if is_compressed else file.open("rb") as opened:
            lines = opened.read(LARGEST).decode().splitlines()
        pairs = (line.partition(":") for line in lines if not line.startswith(";"))
        return {
            name.strip(): " ".join(REMARK.sub(" ", text).split())
            for name, colon, text in pairs
            if colon
        }
