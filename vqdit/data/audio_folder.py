"""Data from a folder of sound files."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from vqdit.data.class_folders import ClassFolder, Grouped, text_beside
from vqdit.data.recordings import Item, Recordings
from vqdit.data.sources import OPTION, SPLITS
from vqdit.modalities.classes import shown
from vqdit.modalities.sounds import SUFFIXES, read_form
from vqdit.typing import resumable

NAMED = 10
"""Number of unreadable recordings that an error names."""


class AudioFolder(Recordings):
    """A folder of sounds: `audio`, and `label` and `text` if there are classes and transcripts.

    WAV, FLAC, Ogg, Opus, MP3, AIFF, M4A, AAC, WMA and other files are read, at any rate and with
    any number of channels. Sub-folders are classes, as in an `ImageFolder`. If the folder has the
    sub-folders `train`, `validation` and `test`, these are the splits; otherwise 10 % of the
    recordings of each class go to validation and 10 % to test, and all parts of a recording are in
    one split. Hidden files are ignored, and symbolic links are followed.

    If `audio.seconds` has two different bounds, examples are whole recordings, which differ in
    length; `augment=(Crop(...),)` then trains on random windows of them. If the bounds are equal,
    or `audio.samples` is set, examples are consecutive windows of one length.

    Attributes:
        path: the folder.
        transcripts: "files": the transcript of `hello.wav` is the UTF-8 file `hello.txt` beside it;
            "names": the transcript is the name of the file, with underscores read as blanks;
            "none": there are no transcripts. A recording without a transcript lacks `text`.
        labels: "folders": sub-folders are classes; "none": there are no labels.
        on_error: "error" raises ValueError for a sound that cannot be read; "skip" leaves such
            sounds out.
    """

    path: str = resumable("recordings")
    transcripts: Literal["none", "files", "names"] = "none"
    labels: Literal["folders", "none"] = "folders"
    on_error: Literal["error", "skip"] = resumable("error")

    def key(self) -> str:
        files = self._files()
        texts = [one.file.with_suffix(".txt") for one in files] if self._has_files else []
        stats = [f"{text.stat().st_mtime_ns}" if text.is_file() else "-" for text in texts]
        form = f" {self.form} {self.transcripts} {self.labels} {self.on_error} {stats}\n"
        return f"audio_folder_{self._folder.digest(form, files)}"

    def items(self) -> Mapping[str, Sequence[Item]]:
        files, names = self._files(), self.classes()
        numbers = {name: number for number, name in enumerate(names)}
        parts = self._folder.divided(files, names)
        return {
            split: [
                Item(one.file, numbers.get(one.group, 0), self._text(one)) for one in parts[split]
            ]
            for split in SPLITS
        }

    def classes(self) -> tuple[str, ...]:
        return () if self.labels == "none" else self._folder.classes(self._files())

    @property
    def has_text(self) -> bool:
        return self.transcripts != "none"

    def remarks(self) -> Iterable[str]:
        return self._folder.remarks(self.classes())

    def unreadable(self, error: ValueError, rest: Sequence[Item]) -> str | ValueError:
        if self.on_error == "skip":
            return f"left out: {error}"
        others = []
        for item in rest:
            try:
                read_form(item.file)
            except ValueError:
                others.append(shown(item.file))
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        named = f" (so are {', '.join(others[:NAMED])}{more})" if others else ""
        way_out = f"on-error=skip {OPTION.replace('path', 'on-error')}"
        return ValueError(f"{error}{named}; or leave such sounds out with {way_out}")

    @property
    def _has_files(self) -> bool:
        return self.transcripts == "files"

    def _text(self, one: Grouped) -> str:
        if self.transcripts == "names":
            return " ".join(one.file.stem.replace("_", " ").split())
        return text_beside(one.file) if self._has_files else ""

    @property
    def _folder(self) -> ClassFolder:
        beside = (".txt",) if self._has_files else ()
        return ClassFolder(path=self.path, what="sound", endings=SUFFIXES, beside=beside)

    def _files(self) -> list[Grouped]:
        files = self._folder.files()
        return files if self.labels == "folders" else [one._replace(group="") for one in files]
