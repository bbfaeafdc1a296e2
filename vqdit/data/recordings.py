"""The base class of sources of recordings: reads and divides them, and adjusts their loudness."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vqdit.data.builders.records import Example
from vqdit.data.recorded import Recorded
from vqdit.data.row_source import feature_of, summary
from vqdit.data.row_source import form as set_fields
from vqdit.data.sources import SPLITS, Feature
from vqdit.modalities import Audio, Text
from vqdit.modalities.base import LeftOut
from vqdit.modalities.classes import shown
from vqdit.modalities.loudness import brought_to
from vqdit.modalities.sounds import Recording, read_recording
from vqdit.typing import Named

SILENT = 33
"""Peaks below this value, 60 dB below full scale, are silence."""
OFFSET = 328
"""Means beyond this value, 1 % of full scale, are a constant offset (DC), which is removed."""


class Item(NamedTuple):
    """One recording, before it is read.

    Attributes:
        file: the sound file, or a name for messages if there is none.
        label: number of its class.
        text: its transcript; empty if it has none.
        how: settings from which the source synthesizes the sound; used if there is no file.
    """

    file: Path
    label: int = 0
    text: str = ""
    how: Any = None


class Recordings(Recorded):
    """Base class of sources of recordings: `audio`, and `text` and `label` if they exist.

    All recordings are converted to the rate and the channels of `audio`. Examples whose peak is
    below a thousandth of full scale (-60 dB) are left out as silent, and a constant offset (DC) is
    removed. `vqdit prepare` prints how many recordings each change affected, and how many were
    already clipped in their files.

    Attributes:
        audio: format of the sounds; the task must have the same `Audio`. Its `outside` determines
            what happens to recordings that are too short, or too long and not divided.
        divide: whether to divide longer recordings into consecutive examples. If less than the
            shortest duration would remain for the last example, it begins earlier.
        loudness: loudness of each recording in LUFS (ITU-R BS.1770), such as -16; a recording that
            would clip becomes as loud as it can without clipping. None keeps the loudness of the
            files.
        text: format of the transcripts; the task must have the same `Text`. Its `outside`
            determines what happens to longer transcripts. Parts of a divided recording have no
            transcript.
    """

    audio: Audio = Audio(rate=16000, seconds=(0.5, 10.0), outside="skip")
    divide: bool = True
    loudness: float | None = None
    text: Text = Text(length=256, variable=True, outside="skip")

    def __post_init__(self) -> None:
        if self.loudness is not None:
            self.require("loudness from -70 to 0 LUFS", -70.0 <= self.loudness <= 0.0)

    @property
    def form(self) -> str:
        """The fields that determine the stored examples, as a text that is a part of `key`."""
        return f"{set_fields(self.audio)} {self.divide} {self.loudness} {set_fields(self.text)}"

    def items(self) -> Mapping[str, Sequence[Item]]:
        """Returns the recordings of every split."""
        raise TypeError(f"{type(self).__name__} must define the method 'items'")

    def classes(self) -> tuple[str, ...]:
        """Returns the names of the classes; () if there is no label."""
        return ()

    @property
    def has_text(self) -> bool:
        """Whether recordings have transcripts."""
        return False

    def remarks(self) -> Iterable[str]:
        """Returns remarks on all recordings."""
        return ()

    def sound(self, item: Item) -> Recording:
        """Returns the whole recording, at the rate and with the channels of `audio`.

        Raises:
            ValueError: the recording cannot be read.
        """
        return read_recording(item.file, self.audio.rate, self.audio.channels)

    def unreadable(self, error: ValueError, rest: Sequence[Item]) -> str | ValueError:
        """Returns a remark if a recording that cannot be read is left out, else the error to raise.

        Args:
            error: the error that occurred when the recording was read; its message names the
                recording.
            rest: the recordings that are not read yet.
        """
        del rest
        return error

    def raw_features(self) -> Named[Feature]:
        columns = {"audio": feature_of(self.audio)}
        if self.has_text:
            columns["text"] = feature_of(self.text)
        if classes := self.classes():
            columns["label"] = Feature((), len(classes), classes)
        return Named(columns)

    def announced(self) -> Named[Feature]:
        return self.features() if self.is_prepared() else self.raw_features()

    def examples(self) -> Mapping[str, Iterable[Example]]:
        items = self.items()
        order = [item for split in SPLITS for item in items[split]]
        starts = np.cumsum([0, *(len(items[split]) for split in SPLITS)]).tolist()
        ranges = {split: range(*starts[n : n + 2]) for n, split in enumerate(SPLITS)}
        counts: Counter[str] = Counter()
        found: dict[str, Iterable[Example]] = {
            split: self._read(order, ranges[split], counts) for split in SPLITS
        }
        # A split is read to its end before the next one, so counts are complete after the last one.
        found[SPLITS[0]] = itertools.chain(self.remarks(), found[SPLITS[0]])
        return found | {SPLITS[-1]: itertools.chain(found[SPLITS[-1]], summary(counts))}

    def _read(
        self, items: list[Item], numbers: range, counts: Counter[str]
    ) -> Iterator[Mapping[str, Any] | str]:
        has_text, has_label = self.has_text, bool(self.classes())
        for number in numbers:
            item = items[number]
            try:
                recording = self.sound(item)
            except ValueError as error:
                found = self.unreadable(error, items[number + 1 :])
                if isinstance(found, str):
                    yield found
                    continue
                raise found from error
            counts.update(recording.changes)
            example: dict[str, Any] = {"label": item.label} if has_label else {}
            if has_text and item.text:
                try:
                    cell = self.text.read_cell(item.text)
                except LeftOut as error:
                    counts[f"left out, text {error}"] += 1
                    continue
                except ValueError as error:
                    raise ValueError(f"{shown(item.file)}: {error}") from error
                example["text"] = cell.stored
                counts.update(f"text {change}" for change in cell.changes)
            sound = self._levelled(recording.samples, counts)
            parts = self._parts(sound, counts, item)
            if "text" in example and any(len(part) < len(sound) for part in parts):
                del example["text"]
                counts["without text, since the text belongs to a longer recording"] += 1
            for part in parts:
                if np.abs(part.astype(np.int32)).max() < SILENT:
                    counts["left out, silent"] += 1
                else:
                    yield {"audio": part, **example}

    def _levelled(self, sound: np.ndarray, counts: Counter[str]) -> np.ndarray:
        """Returns a recording without a constant offset, with the wanted loudness."""
        offset = np.round(sound.mean(axis=0)) if len(sound) else np.zeros(())
        if np.abs(offset).max() > OFFSET:
            counts["a constant offset (DC) removed"] += 1
            sound = np.clip(sound - offset, -32768, 32767).astype(np.int16)
        if self.loudness is not None and len(sound):
            sound, is_softer = brought_to(sound, self.audio.rate, self.loudness)
            counts[f"brought to {self.loudness:g} LUFS"] += 1
            if is_softer:
                counts[f"softer than {self.loudness:g} LUFS, since they would clip"] += 1
        return sound

    def _parts(self, sound: np.ndarray, counts: Counter[str], item: Item) -> list[np.ndarray]:
        """Returns the examples of a recording; none if it is left out."""
        least, most = self.audio.lengths or (self.audio.shape[0], self.audio.shape[0])
        try:
            is_long = len(sound) > most and not self.divide
            sound, changes = self.audio.within_bounds(sound, is_long)
        except LeftOut as error:
            counts[f"left out, {error}"] += 1
            return []
        except ValueError as error:
            raise ValueError(f"{shown(item.file)}: {error}") from error
        if changes:
            counts.update(changes)
            return [sound]
        parts = windows(len(sound), least, most)
        if len(parts) > 1:
            counts[f"divided into parts of at most {most / self.audio.rate:.4g} s"] += 1
        return [sound[start:end] for start, end in parts]


def windows(length: int, least: int, most: int) -> list[tuple[int, int]]:
    """Returns begin and end of consecutive parts of a recording, of `least` to `most` positions.

    All parts but the last have `most` positions. The last one has what remains, or begins earlier,
    within the part before it, if less than `least` would remain.
    """
    starts = range(0, length, most)
    found = [(start, min(start + most, length)) for start in starts]
    last, end = found[-1]
    return [*found[:-1], (max(0, min(last, end - least)), end)]
