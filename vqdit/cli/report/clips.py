"""Writes generated clips: MP4 files with their sounds, and one GIF of all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vqdit.modalities import Audio, Video
from vqdit.modalities.base import numbered
from vqdit.modalities.drawing import tile
from vqdit.modalities.video_files import gif, mp4, video_html


class Sounds:
    """The sounds that accompany the clips of samples.

    Clips are written without sound if the samples have no modality of sounds, or several.
    """

    def __init__(self, model: Any, samples: Mapping[str, np.ndarray]) -> None:
        found = [name for name in samples if isinstance(model.modality(name), Audio)]
        self._sounds, self._rate = None, 0
        if len(found) == 1:
            modality = model.modality(found[0])
            self._sounds, self._rate = modality.repack(samples[found[0]]), modality.rate

    def mp4(self, number: int, clip: np.ndarray, fps: float) -> bytes:
        """Returns the clip of sample `number` as an MP4 file, with its sound if there is one."""
        sound = None if self._sounds is None else self._sounds[number]
        return mp4(clip, fps, sound, self._rate)


def write_clips(
    video: Video, clips: np.ndarray, sounds: Sounds, folder: Path, name: str, shown: int
) -> list[str]:
    """Writes NAME_0000.mp4 and so on, and NAME_grid.gif.

    Args:
        video: modality of the clips.
        clips: stored clips, uint8 [n, f, h, w, c].
        sounds: the sounds of the clips.
        folder: folder of the files.
        name: name of the clips' column.
        shown: largest number of clips in the GIF and in the result.

    Returns:
        The first `shown` clips as HTML.
    """
    found = []
    for number, file in enumerate(numbered(name, ".mp4", len(clips))):
        content = sounds.mp4(number, clips[number], video.fps)
        (folder / file).write_bytes(content)
        if number < shown:
            found.append(video_html(content, video.size))
    grid = np.stack([tile(frames) for frames in clips[:shown].swapaxes(0, 1)])
    (folder / f"{name}_grid.gif").write_bytes(gif(grid, video.fps))
    return found
