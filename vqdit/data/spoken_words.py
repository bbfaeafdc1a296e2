"""Synthetic speech: any words or phrases, spoken by espeak-ng in several ways."""

import hashlib
import io
import itertools
import wave
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from vqdit.data.espeak import VOICES, Way, check_speaker, speak
from vqdit.data.recordings import Item, Recordings
from vqdit.data.sources import OPTION, SPLITS, divide
from vqdit.escapes import escaped
from vqdit.files import local_path
from vqdit.modalities import Audio, Text
from vqdit.modalities.classes import LONGEST
from vqdit.modalities.sounds import Recording, read_recording
from vqdit.typing import resumable


class SpokenWords(Recordings):
    """Words or phrases, spoken by Debian's espeak-ng: `audio`, `text`, and `label` (which phrase).

    Every phrase is spoken in every way: by each voice, at each speed and pitch.

    Attributes:
        words: the words or phrases.
        path: a UTF-8 file with one phrase per line, which replaces `words`.
        voices: voices of espeak-ng, such as "en-us" or "de+f2"; espeak-ng silently substitutes
            another voice for an unknown name.
        speeds: speeds in words per minute.
        pitches: pitches from 0 to 99.
        held_out: what no two splits have in common. "ways": every phrase is in all splits, but each
            way of speaking is in only one; "words": every phrase is in only one split.
    """

    audio: Audio = Audio(rate=8000, seconds=(0.1, 4.0), outside="skip")
    text: Text = Text(length=64, variable=True, outside="skip")
    words: tuple[str, ...] = (
        *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    )
    path: str = resumable("")
    voices: tuple[str, ...] = VOICES
    speeds: tuple[int, ...] = (140, 175, 210)
    pitches: tuple[int, ...] = (35, 50, 65)
    held_out: Literal["ways", "words"] = "ways"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("voices", bool(self.voices))
        self.require("speeds from 80 to 500", all(80 <= speed <= 500 for speed in self.speeds))
        self.require("pitches from 0 to 99", all(0 <= pitch <= 99 for pitch in self.pitches))
        self.require("speeds", bool(self.speeds))
        self.require("pitches", bool(self.pitches))

    def key(self) -> str:
        ways = f"{self.voices} {self.speeds} {self.pitches} {self.held_out}"
        content = f"{self.form} {ways} {self._phrases()}\n"
        return f"spoken_words_{hashlib.sha256(content.encode()).hexdigest()[:16]}"

    def items(self) -> Mapping[str, Sequence[Item]]:
        check_speaker("SpokenWords")
        phrases = self._phrases()
        ways = [Way(*way) for way in itertools.product(self.voices, self.speeds, self.pitches)]
        is_way = self.held_out == "ways"
        rows = divide(len(ways if is_way else phrases), f"SpokenWords, by {self.held_out},")
        return {
            split: [
                Item(Path(f"espeak-ng {way.voice}"), label, phrase, way)
                for label, phrase in enumerate(phrases)
                for number, way in enumerate(ways)
                if (number if is_way else label) in kept
            ]
            for split, kept in ((split, {*rows[split].tolist()}) for split in SPLITS)
        }

    def classes(self) -> tuple[str, ...]:
        return self._phrases()

    @property
    def has_text(self) -> bool:
        return True

    def sound(self, item: Item) -> Recording:
        samples, rate = speak(item.text, item.how)
        return read_recording(wav(samples, rate), self.audio.rate, self.audio.channels)

    def _phrases(self) -> tuple[str, ...]:
        phrases, place = self.words, "words"
        if self.path:
            file = local_path(self.path)
            if not file.is_file():
                raise FileNotFoundError(
                    f"the list of words {file} does not exist; give the path {OPTION} of a "
                    "file with one phrase per line"
                )
            try:
                phrases = tuple(file.read_text(encoding="utf-8-sig").splitlines())
            except UnicodeDecodeError as error:
                raise ValueError(f"{file} is not UTF-8 ({error}); save it as UTF-8") from error
            place = str(file)
        phrases = tuple(dict.fromkeys(" ".join(p.split()) for p in phrases if p.strip()))
        if not phrases:
            raise ValueError(f"SpokenWords has no words in {place}; give at least one")
        for phrase in phrases:
            if len(phrase) > LONGEST or not phrase.isprintable():
                raise ValueError(
                    f"{place}: the phrase {escaped(phrase[:40])!r} must be printable and have at "
                    f"most {LONGEST} characters; shorten it"
                )
        return phrases


def wav(samples: np.ndarray, rate: int) -> bytes:
    """Returns int16 [n] as a WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()
