"""A speech recogniser that is independent of the training data: CMU PocketSphinx.

Its grammar contains only the known phrases, so it chooses among them. Its acoustic model is for
American English at 16 kHz; sounds of other rates are resampled.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from vqdit.evaluation.recognizers import UNKNOWN, Recognizer
from vqdit.modalities.sounds import resampled
from vqdit.typing import Int

RATE = 16_000
"""Sampling rate of the acoustic model in Hz."""
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
BEAMS = {"beam": 1e-80, "pbeam": 1e-80, "wbeam": 1e-60}
"""Beam widths, wider than the defaults, with which the search finds no result for some sounds."""
MARGIN = 0.25
"""Seconds of silence before and after each sound."""


class PhraseRecognizer(Recognizer):
    """Recognises which of some phrases is spoken.

    Phrases are compared by their words alone: in lower case, without punctuation, and with digits
    spelled out one by one. A phrase with a word that the pronouncing dictionary lacks is not known.

    Attributes:
        classes: class of each known phrase, by its words.
        missing: words that the dictionary lacks.

    Args:
        phrases: the phrases of classes 0, 1, ...; of phrases with equal words, the first counts.
        rate: samples per second of the sounds, in Hz.

    Raises:
        ImportError: the package pocketsphinx is not installed.
        ValueError: no phrase is known.
    """

    def __init__(self, phrases: Sequence[str], rate: int) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError as error:
            raise ImportError(
                "recognising speech needs the package pocketsphinx; run: pip install "
                '"vqdit[speech]"'
            ) from error
        self.rate = rate
        self._decoder: Any = Decoder(samprate=RATE, lm=None, loglevel="FATAL", **BEAMS)
        words = [words_of(phrase) for phrase in phrases]
        used = {word for phrase in words for word in phrase.split()}
        self.missing = sorted(word for word in used if not self._decoder.lookup_word(word))
        self.classes: dict[str, int] = {}
        for number, phrase in enumerate(words):
            if phrase and not set(phrase.split()) & set(self.missing):
                self.classes.setdefault(phrase, number)
        if not self.classes:
            raise ValueError(
                "every phrase has a word that is not in the pronouncing dictionary; use English "
                "phrases"
            )
        choices = " | ".join(self.classes)
        grammar = f"#JSGF V1.0;\ngrammar phrases;\npublic <phrase> = {choices};\n"
        self._decoder.add_jsgf_string("phrases", grammar)
        self._decoder.activate_search("phrases")

    def class_of(self, phrase: str) -> int:
        """Returns the class of the first known phrase that has the same words."""
        return self.classes.get(words_of(phrase), UNKNOWN)

    def predict(self, values: Sequence[np.ndarray] | np.ndarray) -> Int[np.ndarray, " b"]:
        """Returns the class of each sound, int16 [n] or [n, c]; -1 where nothing is recognised."""
        return np.asarray([self._recognized(sound) for sound in values], np.int64)

    def _recognized(self, sound: np.ndarray) -> int:
        mono = sound.reshape(len(sound), -1).mean(axis=1).astype(np.int16)
        heard = np.pad(resampled(mono, self.rate, RATE), round(MARGIN * RATE))
        self._decoder.start_utt()
        self._decoder.process_raw(heard.tobytes(), full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return self.classes.get(found.hypstr, UNKNOWN) if found else UNKNOWN


def words_of(text: str) -> str:
    """Returns the words of a phrase as they are spoken, with blanks between them."""
    spelled = re.sub(r"\d", lambda found: f" {DIGITS[int(found[0])]} ", text.lower())
    words = re.findall(
        r"[a-z]+(?:'[a-z]+)*", spelled.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    )
    return " ".join(words)
