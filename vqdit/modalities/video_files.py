"""Writes clips as MP4 files (H.264 and AAC) that browsers play, and as animated GIFs."""

import base64
import io
from fractions import Fraction
from typing import Any

import numpy as np

from vqdit.modalities.sounds import resampled

EDGE = 256
"""Small clips are enlarged until the longer edge has about this many pixels."""
QUALITY = "14"
"""H.264's constant rate factor, from 0 (lossless) to 51."""
SOUND_RATE = 48000
"""Sampling rate in Hz of the sound of written clips."""
BT709 = 1
"""The number of BT.709 among colour spaces, primaries and transfer functions, in ITU-T H.273."""


def enlarged(frames: np.ndarray) -> np.ndarray:
    """Returns uint8 [f, h, w, c] with small pixels repeated by an even factor, and even edges.

    H.264 halves the resolution of colour, which must not mix neighbouring pixels of small clips. An
    odd edge of a large clip is made even by repeating its last row or column.
    """
    factor = EDGE // max(frames.shape[1:3]) // 2 * 2
    if factor > 1:
        return frames.repeat(factor, axis=1).repeat(factor, axis=2)
    high, wide = frames.shape[1] % 2, frames.shape[2] % 2
    return np.pad(frames, ((0, 0), (0, high), (0, wide), (0, 0)), mode="edge")


def mp4(frames: np.ndarray, fps: float, sound: np.ndarray | None = None, rate: int = 0) -> bytes:
    """Returns a clip as an MP4 file: H.264 in yuv420p, and AAC if it has a sound.

    Args:
        frames: uint8 [f, h, w, c].
        fps: frames per second.
        sound: int16 [n] or [n, c].
        rate: sampling rate of the sound in Hz.
    """
    import av

    target, pictures = io.BytesIO(), enlarged(frames)
    if pictures.shape[-1] == 1:
        pictures = pictures.repeat(3, axis=-1)
    with av.open(target, "w", format="mp4") as container:
        stream: Any = container.add_stream(_encoder(), Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt, stream.options = "yuv420p", {"crf": QUALITY}
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = 1  # limited, as players expect it
        audio = None if sound is None else _sound_stream(container, sound)
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=BT709, dst_color_range=1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio is not None and sound is not None:
            _write_sound(container, audio, resampled(sound, rate, SOUND_RATE))
    return target.getvalue()


def _encoder() -> str:
    """Returns the name of the H.264 encoder; raises OSError if there is none."""
    import av

    for name in ("libx264", "libopenh264"):
        if name in av.codecs_available:
            return name
    raise OSError("the installed PyAV (av) has no H.264 encoder; install av from PyPI")


def _sound_stream(container: Any, sound: np.ndarray) -> Any:
    layout = "mono" if sound.ndim == 1 else "stereo"
    return container.add_stream("aac", SOUND_RATE, layout=layout)


def _write_sound(container: Any, stream: Any, sound: np.ndarray) -> None:
    import av

    layout = "mono" if sound.ndim == 1 else "stereo"
    frame = av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="s16", layout=layout)
    frame.sample_rate, frame.pts = SOUND_RATE, 0
    container.mux(stream.encode(frame))
    container.mux(stream.encode())


def gif(frames: np.ndarray, fps: float) -> bytes:
    """Returns uint8 [f, h, w, c] as an animated GIF that repeats endlessly."""
    from PIL import Image

    frames = frames[..., 0] if frames.shape[-1] == 1 else frames
    first, *rest = (Image.fromarray(frame) for frame in frames)
    times = np.round(100.0 * np.arange(len(frames) + 1) / fps)  # GIF counts in 1/100 s
    target, durations = io.BytesIO(), (10.0 * np.diff(times)).astype(int).tolist()
    first.save(target, "GIF", save_all=True, append_images=rest, duration=durations, loop=0)
    return target.getvalue()


def video_html(content: bytes, size: tuple[int, int]) -> str:
    """Returns an MP4 file as HTML that plays it; `size` are the height and width of the clip."""
    data = base64.b64encode(content).decode()
    factor = max(1, round(EDGE / 2 / max(size)))
    height, width = (factor * edge for edge in size)
    return (
        f'<video controls loop muted autoplay playsinline src="data:video/mp4;base64,{data}" '
        f'width="{width}" height="{height}"></video>'
    )
