"""Clips: uint8 in stored form, float32 in [-1, 1] for networks, and MP4 files."""

from pathlib import Path
from typing import Literal

import numpy as np

from vqdit.files import write_whole
from vqdit.modalities.base import (
    Cell,
    Value,
    as_file,
    find_files,
    numbered,
    report_fitted,
)
from vqdit.modalities.drawing import tile
from vqdit.modalities.pictures import DONE
from vqdit.modalities.pixels import Pixels
from vqdit.modalities.video_files import mp4, video_html
from vqdit.modalities.videos import SUFFIXES, Form, read_clip
from vqdit.typing import resumable

SHEET = 9
"""Largest number of frames of a clip on its contact sheet."""


class Video(Pixels):
    """Clips of one number of frames, one frame rate and one size.

    MP4, WebM, MOV, GIF and other files are read at any frame rate and size
    (`vqdit.modalities.videos`). Stored examples are uint8 [frames, h, w, channels].

    Attributes:
        frames: number of frames of every clip.
        size: height and width in pixels.
        fps: frames per second. If a file has another frame rate, or a variable one, the frames
            nearest in time are used.
        channels: 1 for grey, 3 for colour.
        fit: treatment of another aspect ratio: "crop" cuts off both ends of the longer side, "pad"
            adds black bars on both sides of the shorter one, "stretch" distorts.
        outside: treatment of videos in a data set that are shorter or longer: "cut" cuts off the
            end of longer ones and repeats the last frame of shorter ones; "skip" leaves the example
            out; "error" raises an error.
    """

    frames: int = 17
    size: tuple[int, int] = (32, 32)
    fps: float = 8.0
    channels: int = 3
    fit: Literal["crop", "pad", "stretch"] = "crop"
    outside: Literal["cut", "skip", "error"] = resumable("error")

    def __post_init__(self) -> None:
        self.require("frames >= 1", self.frames >= 1)
        self.require("size of at least one pixel", min(self.size) >= 1)
        self.require("fps from 0.01 to 1000", 0.01 <= self.fps <= 1000.0)
        self.require("channels 1 (grey) or 3 (colour)", self.channels in (1, 3))

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.frames, *self.size, self.channels)

    @property
    def grid(self) -> tuple[int, ...]:
        return (self.frames, *self.size)

    @property
    def form(self) -> Form:
        """The form of frames that are read."""
        return Form(self.size, self.channels, self.fps, self.fit)

    def read_cell(self, value: Value) -> Cell:
        read = read_clip(as_file(value), self.frames, self.form)
        clip, changes = self.within_bounds(read.frames, read.is_longer)
        return Cell(clip, (*read.changes, *changes))

    def within_bounds(
        self, clip: np.ndarray, is_longer: bool
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        """Returns a clip that was cut or padded to `frames` frames, and the changes in words.

        Args:
            clip: the frames [f, h, w, c], at most `frames` of them.
            is_longer: whether the video has more frames.

        Raises:
            LeftOut: the video is shorter or longer, and `outside` is "skip".
            ValueError: the video is shorter or longer, and `outside` is "error".
        """
        is_short = len(clip) < self.frames
        if not (is_short or is_longer):
            return clip, ()
        limit = f"{self.frames} frames at {self.fps:g} per second"
        fault = f"{'shorter' if is_short else 'longer'} than {limit}"
        self.require_cut(self.outside, "the video", fault, "change frames or fps")
        change = f"{'last frame repeated up' if is_short else 'cut'} to {limit}"
        return self._fitted(clip), (change,)

    def read(self, value: str) -> list[np.ndarray]:
        files = find_files(value, SUFFIXES, "video")
        read = [read_clip(file, self.frames, self.form) for file in files]
        changed = [
            file
            for file, clip in zip(files, read, strict=True)
            if clip.changes or clip.is_longer or len(clip.frames) < self.frames
        ]
        size = "x".join(map(str, self.size))
        form = f"{self.frames} frames at {self.fps:g} per second"
        report_fitted(changed, f"{DONE[self.fit]} and resized to {size} pixels, {form}")
        return [self._fitted(clip.frames) for clip in read]

    def _fitted(self, clip: np.ndarray) -> np.ndarray:
        """Repeats the last frame of a short clip."""
        return np.concatenate([clip, clip[-1:].repeat(self.frames - len(clip), axis=0)])

    def write(self, values: np.ndarray, folder: Path, name: str = "video") -> None:
        for file, value in zip(numbered(name, ".mp4", len(values)), values, strict=True):
            write_whole(folder / file, mp4(value, self.fps))

    def draw(self, stored: np.ndarray) -> np.ndarray:
        """Draws contact sheets: at most 9 evenly spaced frames of each clip, row by row."""
        chosen = np.linspace(0, self.frames - 1, min(SHEET, self.frames)).round().astype(int)
        return np.stack([tile(clip[chosen], edge=1) for clip in stored])

    def html(self, stored: np.ndarray) -> str:
        return video_html(mp4(stored, self.fps), self.size)
