"""Reads video files of any codec, size, aspect ratio and frame rate, by FFmpeg (PyAV).

Headers are checked before decoding, and only the requested frames are kept: a video of any length
needs the memory of one clip.
"""

import contextlib
import io
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vqdit.modalities.classes import shown
from vqdit.modalities.pictures import conversions, fit, opaque

CONTAINERS = "mov,mp4,matroska,webm,gif,avi,mpegts,mpeg,ogg,flv,asf"
"""The only formats that FFmpeg may open; formats that refer to other files are excluded."""
SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".webm", ".mkv", ".gif", ".avi", ".3gp", ".ogv", ".mpg", ".mpeg"),
    *(".ts", ".mts", ".flv", ".wmv"),
)
PIXELS = 2**25
"""Largest number of pixels of a frame; an 8K frame has 33 million."""
MOST = 10_000
"""Largest number of frames between two of the result, and of repetitions of a frame."""


class Clip(NamedTuple):
    """The beginning of a video.

    Attributes:
        frames: the requested beginning, uint8 [f, h, w, c].
        is_longer: whether the video is longer than `frames`.
        changes: conversions of the video, such as "cropped".
    """

    frames: np.ndarray
    is_longer: bool
    changes: tuple[str, ...]


class Form(NamedTuple):
    """Form of the frames of a result.

    Attributes:
        size: height and width in pixels.
        channels: 1 for grey, 3 for colour.
        fps: frames per second.
        fit: treatment of another aspect ratio, as in `pictures.fit`.
    """

    size: tuple[int, int]
    channels: int
    fps: float
    fit: str


def read_clip(file: Path | bytes, most: int, form: Form) -> Clip:
    """Reads the beginning of a video.

    Args:
        file: the video file, or its bytes.
        most: largest number of frames of the result.
        form: form of the frames.

    Raises:
        ValueError: if the file cannot be decoded or has no frames; the message has the path.
        FileNotFoundError: if there is no such file.
    """
    changes: dict[str, None] = {}
    frames, is_longer = [], False
    with contextlib.closing(read_frames(file, form, changes)) as read:
        for frame in read:
            if is_longer := len(frames) == most:
                break
            frames.append(frame)
    return Clip(np.stack(frames), is_longer, tuple(changes))


def read_frames(file: Path | bytes, form: Form, changes: dict[str, None]) -> Generator[np.ndarray]:
    """Yields the frames of a video at the rate of the form, each uint8 [h, w, c].

    Frame i of the result is the frame whose time is nearest to i / fps seconds after the first
    frame, so that videos of variable frame rate keep their speed. The result ends before the last
    frame of the file does. Frames are rotated as the file demands (phones), non-square pixels are
    made square, and transparent pixels are blended with white.

    Args:
        file: the video file, or its bytes.
        form: form of the frames.
        changes: a dictionary to which conversions such as "cropped" are added as keys.

    Raises:
        ValueError: if the file cannot be decoded or has no frames; the message has the path.
        FileNotFoundError: if there is no such file.
    """
    if isinstance(file, Path) and not file.is_file():
        raise FileNotFoundError(f"no video {shown(file)}")
    before, picture = None, np.zeros(())
    with _naming(file), _container(file) as container:
        stream = _stream(container)
        _compare_rate(stream, form.fps, changes)
        for frame in _at_rate(_timed(container, stream), form.fps):
            if frame is not before:
                before, picture = frame, _fitted(frame, stream, form, changes)
            yield picture
        if before is None:
            raise RuntimeError("it has no frames")


def has_sound(file: Path) -> bool:
    """Returns whether a video file has a sound.

    Raises:
        ValueError: if the file cannot be opened; the message has the path.
    """
    with _naming(file), _container(file) as container:
        return bool(container.streams.audio)


@contextlib.contextmanager
def _naming(file: Path | bytes) -> Iterator[None]:
    """Converts decoding errors to a ValueError that names the file."""
    from av.error import FFmpegError

    try:
        yield
    except (FFmpegError, RuntimeError, OSError) as error:
        why = error.strerror if isinstance(error, FFmpegError) else str(error)
        raise ValueError(
            f"cannot decode the video {_shown(file)}: {why}; convert it to MP4 (H.264), or remove "
            "it"
        ) from error


def _container(file: Path | bytes) -> Any:
    import av

    source = str(file) if isinstance(file, Path) else io.BytesIO(file)
    return av.open(source, container_options={"format_whitelist": CONTAINERS})


def _stream(container: Any) -> Any:
    """Returns the first video stream that is not a cover picture, after a check of its header."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if stream.disposition & Disposition.attached_pic:
            continue
        context = stream.codec_context
        if context is None:
            raise RuntimeError("the installed PyAV (av) has no decoder for the codec of the video")
        _check_size(context.width, context.height)
        return stream
    raise RuntimeError("the file has no video")


def _check_size(width: int, height: int) -> None:
    if not 0 < width * height <= PIXELS:
        raise RuntimeError(
            f"its frames have {width} x {height} pixels, but must have 1 to {PIXELS:,}"
        )


def _compare_rate(stream: Any, fps: float, changes: dict[str, None]) -> None:
    rate = stream.average_rate or stream.guessed_rate
    if rate and abs(float(rate) / fps - 1.0) > 0.01:
        changes[f"frame rate changed to {fps:g} per second"] = None


def _timed(container: Any, stream: Any) -> Iterator[tuple[float, float, Any]]:
    """Yields begin and end in seconds, and the decoded frame, of every frame of a stream."""
    usual = 1.0 / float(stream.guessed_rate or stream.average_rate or 25)
    start, begin, end = None, 0.0, 0.0
    for frame in container.decode(stream):
        if frame.is_corrupt:
            raise RuntimeError(f"the frame at {end:.2f} s is damaged")
        _check_size(frame.width, frame.height)
        if frame.time is None:
            begin = end
        else:
            start = frame.time if start is None else start
            begin = max(begin, frame.time - start)
        duration = float(frame.duration * frame.time_base) if frame.duration else usual
        end = begin + duration
        yield begin, end, frame


def _at_rate(timed: Iterator[tuple[float, float, Any]], fps: float) -> Iterator[Any]:
    """Yields the frame that is nearest to each multiple of 1 / fps seconds."""
    number, still = 0, 0
    end, before, latest = 0.0, 0.0, None
    for begin, until, frame in timed:
        still, end = still + 1, until
        if still > MOST or (begin - before) * fps > MOST:
            raise RuntimeError(f"its frames have invalid times near {before:.2f} s")
        while latest is not None and (wanted := number / fps) < begin:
            yield latest if wanted - before <= begin - wanted else frame
            number, still = number + 1, 0
        before, latest = begin, frame
    end = min(end, before + MOST / fps)
    while latest is not None and (number == 0 or (number + 0.01) / fps < end):
        yield latest
        number += 1


def _fitted(frame: Any, stream: Any, form: Form, changes: dict[str, None]) -> np.ndarray:
    """Converts a decoded frame to a picture of the form: uint8 [h, w, c]."""
    from PIL import Image

    turn = Image.Transpose
    is_transparent = any(part.is_alpha for part in frame.format.components)
    image = Image.fromarray(frame.to_ndarray(format="rgba" if is_transparent else "rgb24"))
    aspect = stream.sample_aspect_ratio
    if aspect and aspect > 0 and aspect != 1:
        width = min(max(1, round(image.width * aspect)), PIXELS // image.height)
        image = image.resize((width, image.height), Image.Resampling.BICUBIC)
        changes["pixels made square"] = None
    if turns := round(frame.rotation / 90) % 4:
        image = image.transpose((turn.ROTATE_90, turn.ROTATE_180, turn.ROTATE_270)[turns - 1])
        changes["rotated"] = None
    pixels = np.asarray(opaque(image, form.channels))
    pixels = pixels.reshape(image.height, image.width, form.channels)
    changes.update(dict.fromkeys(conversions(pixels.shape[:2], form.size, form.fit)))
    return _resized(pixels, form)


def _resized(pixels: np.ndarray, form: Form) -> np.ndarray:
    """Fits a frame to the form, as `pictures.fit` does, or by means over k x k pixels.

    Means are used if height and width are k times those of the form. This undoes the enlargement of
    clips that vqdit wrote.
    """
    (height, width), (high, wide) = pixels.shape[:2], form.size
    factor = height // high
    if factor > 1 and (height, width) == (factor * high, factor * wide):
        parts = pixels.reshape(high, factor, wide, factor, -1)
        return np.round(parts.mean(axis=(1, 3))).astype(np.uint8)
    return fit(pixels, form.size, form.fit)


def _shown(file: Path | bytes) -> str:
    return shown(file) if isinstance(file, Path) else f"of {len(file):,} bytes"
