"""Data from a folder of video files."""

import contextlib
import itertools
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vqdit.data.class_folders import ClassFolder, Grouped, text_beside
from vqdit.data.recorded import Recorded
from vqdit.data.row_source import feature_of, summary
from vqdit.data.row_source import form as set_fields
from vqdit.data.sources import OPTION, SPLITS, Feature
from vqdit.modalities import Audio, Text, Video
from vqdit.modalities.base import LeftOut
from vqdit.modalities.classes import shown
from vqdit.modalities.sounds import SUFFIXES as SOUNDS
from vqdit.modalities.sounds import read_recording
from vqdit.modalities.videos import SUFFIXES, has_sound, read_frames
from vqdit.typing import Named, resumable


class VideoFolder(Recorded):
    """A folder of videos: `video`, and `label`, `text` and `audio` where the folder has them.

    MP4, WebM, MOV, GIF and other files are read, at any frame rate, size and aspect ratio.
    Sub-folders are classes, as in an `ImageFolder`. If the folder has the sub-folders `train`,
    `validation` and `test`, these are the splits; otherwise 10 % of the videos of each class go to
    validation and 10 % to test, and all clips of a video are in one split. Hidden files are
    ignored, and symbolic links are followed. The clips are prepared when they are first used, and
    again when files or options change.

    Attributes:
        path: the folder.
        video: format of the clips; the task must have the same `Video`. Its `outside` determines
            what happens to videos that are too short, or too long and not divided.
        divide: divide longer videos into consecutive clips. The last one begins earlier, so that it
            is as long as the others.
        audio: format of the sound of a clip; its length should be the duration of a clip. None
            leaves sounds out. A sound file of the same name beside a video (`dog.wav` beside
            `dog.mp4`) replaces the sound of the video. A clip without any sound lacks `audio`.
        captions: "files": the caption of `dog.mp4` is the UTF-8 file `dog.txt` beside it; "names":
            the caption is the name of the file, with underscores read as blanks; "none": there are
            no captions. All clips of a video have its caption; a video without a caption lacks
            `text`.
        text: format of captions; the task must have the same `Text`.
        labels: "folders": sub-folders are classes; "none": there are no labels.
        on_error: "error" raises ValueError for a video that cannot be read; "skip" leaves such
            videos out.
    """

    path: str = resumable("videos")
    video: Video = Video(outside="skip")
    divide: bool = True
    audio: Audio | None = None
    captions: Literal["none", "files", "names"] = "none"
    text: Text = Text(length=256, variable=True, outside="skip")
    labels: Literal["folders", "none"] = "folders"
    on_error: Literal["error", "skip"] = resumable("error")

    def key(self) -> str:
        files = self._files()
        beside = [one.file.with_suffix(".txt") for one in files if self.captions == "files"]
        beside += [place for one in files if self.audio for place in _sounds_beside(one.file)]
        stats = [f"{file} {file.stat().st_mtime_ns}" for file in beside if file.is_file()]
        forms = [set_fields(one) for one in (self.video, self.text, self.audio) if one is not None]
        form = f" {forms} {self.divide} {self.captions} {self.labels} {self.on_error} {stats}\n"
        return f"video_folder_{self._folder.digest(form, files)}"

    def raw_features(self) -> Named[Feature]:
        columns = {"video": feature_of(self.video)}
        if self.audio is not None:
            columns["audio"] = feature_of(self.audio)
        if self.captions != "none":
            columns["text"] = feature_of(self.text)
        if classes := self._classes(self._files()):
            columns["label"] = Feature((), len(classes), classes)
        return Named(columns)

    def announced(self) -> Named[Feature]:
        return self.features() if self.is_prepared() else self.raw_features()

    def examples(self) -> Mapping[str, Iterable[Mapping[str, Any] | str]]:
        files = self._files()
        names = self._classes(files)
        counts: Counter[str] = Counter()
        parts = self._folder.divided(files, names)
        found = {split: self._read(parts[split], names, counts) for split in SPLITS}
        # A split is read to its end before the next one, so counts are complete behind the last.
        first = itertools.chain(self._folder.remarks(names), found[SPLITS[0]])
        return found | {
            SPLITS[0]: first,
            SPLITS[-1]: itertools.chain(found[SPLITS[-1]], summary(counts)),
        }

    def _read(
        self, files: list[Grouped], names: tuple[str, ...], counts: Counter[str]
    ) -> Iterator[Mapping[str, Any] | str]:
        sounding = 0
        for one in files:
            common: dict[str, Any] = {"label": names.index(one.group)} if names else {}
            try:
                common |= self._caption(one)
                sound = self._sound(one.file)
                for begin, clip in self._clips(one.file, counts):
                    try:
                        part = {} if sound is None else self._heard(sound, begin)
                    except LeftOut as error:
                        counts[f"left out, sound {error}"] += 1
                        continue
                    sounding += len(part)
                    yield {"video": clip, **part, **common}
            except LeftOut as error:
                counts[f"left out, {error}"] += 1
            except ValueError as error:
                name = shown(one.file)
                why = str(error) if name in str(error) else f"{name}: {error}"
                if self.on_error == "error":
                    way_out = f"on-error=skip {OPTION.replace('path', 'on-error')}"
                    raise ValueError(f"{why}; or leave such videos out by {way_out}") from error
                yield f"left out: {why}"
            else:
                counts["without sound"] += self.audio is not None and sound is None
        if self.audio is not None and not sounding:
            raise ValueError(
                f"no video of a split of {self.path} has a sound; remove `audio`, or put "
                "sound files of the same names beside the videos"
            )

    def _clips(self, file: Path, counts: Counter[str]) -> Iterator[tuple[int, np.ndarray]]:
        """Yields the number of the first frame, and the frames, of every clip of a video."""
        most, changes, count = self.video.frames, dict[str, None](), 0
        latest: deque[np.ndarray] = deque(maxlen=most)
        with contextlib.closing(read_frames(file, self.video.form, changes)) as frames:
            for count, frame in enumerate(frames, 1):
                if count > most and not self.divide:
                    break
                latest.append(frame)
                if self.divide and count % most == 0:
                    yield count - most, np.stack(latest)
        counts.update(changes)
        if not self.divide or count < most:
            clip, more = self.video.within_bounds(np.stack(latest), count > most)
            counts.update(more)
            yield 0, clip
        elif count > most:
            counts[f"divided into clips of {most} frames"] += 1
            if count % most:
                yield count - most, np.stack(latest)

    def _caption(self, one: Grouped) -> dict[str, Any]:
        if self.captions == "names":
            caption = " ".join(one.file.stem.replace("_", " ").split())
        else:
            caption = text_beside(one.file) if self.captions == "files" else ""
        return {"text": self.text.read_cell(caption).stored} if caption else {}

    def _sound(self, file: Path) -> np.ndarray | None:
        """Returns the whole sound of a video; None if the video has none, or `audio` is None."""
        if self.audio is None:
            return None
        beside = _sounds_beside(file)
        if not beside and not has_sound(file):
            return None
        return read_recording((beside or [file])[0], self.audio.rate, self.audio.channels).samples

    def _heard(self, sound: np.ndarray, begin: int) -> dict[str, np.ndarray]:
        """Returns the sound of the clip whose first frame has the number `begin`."""
        audio = self.audio or Audio()
        start = round(begin / self.video.fps * audio.rate)
        part = sound[start : start + audio.shape[0]]
        return {"audio": audio.within_bounds(part, False)[0]}

    def _classes(self, files: list[Grouped]) -> tuple[str, ...]:
        return () if self.labels == "none" else self._folder.classes(files)

    @property
    def _folder(self) -> ClassFolder:
        beside = (".txt",) * (self.captions == "files") + SOUNDS * (self.audio is not None)
        return ClassFolder(path=self.path, what="video", endings=SUFFIXES, beside=beside)

    def _files(self) -> list[Grouped]:
        files = self._folder.files()
        return files if self.labels == "folders" else [one._replace(group="") for one in files]


def _sounds_beside(file: Path) -> list[Path]:
    """Returns the sound files in a video's folder that have the same name as the video."""
    endings = [ending for ending in SOUNDS if ending not in SUFFIXES]
    return [sound for ending in endings if (sound := file.with_suffix(ending)).is_file()]
