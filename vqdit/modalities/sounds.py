"""Reads sound files of any rate, number of channels and format; converts them to mono and one rate.

libsndfile decodes the usual formats, and FFmpeg (PyAV, the extra `av`) all others. Headers are
checked before decoding, and only the requested samples are decoded.
"""

import contextlib
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vqdit.modalities.classes import shown

FORMATS = ("WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "NIST")
"""The only formats that libsndfile decodes."""
CONTAINERS = (
    "3dostr,aac,ac3,amr,ape,asf,au,avi,caf,eac3,flac,flv,g722,gsm,matroska,webm,mov,mp4,m4a,3gp,"
    "mp3,mpeg,mpegts,ogg,tta,voc,w64,wav,wv,xwma"
)
"""The only formats that FFmpeg may open; formats that refer to other files are excluded."""
SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf"),
    *(".w64", ".sph", ".m4a", ".mp4", ".aac", ".wma", ".webm", ".mka", ".amr", ".g722"),
)
ESTIMATED = ("MP3", "OGG")
"""Formats whose headers may have a wrong number of samples."""
RATES = (100, 1_000_000)
"""Lowest and highest sampling rate that is resampled, in Hz."""
BLOCK = 2**20
"""Number of values that are decoded at a time."""


class Recording(NamedTuple):
    """A sound after it was read.

    Attributes:
        samples: the requested beginning, int16 [n].
        is_longer: whether the sound is longer than `samples`.
        changes: conversions of the sound, such as "resampled to 8000 Hz".
    """

    samples: np.ndarray
    is_longer: bool
    changes: tuple[str, ...]


def read_sound(file: Path | bytes, rate: int, most: int) -> Recording:
    """Reads a sound, mixes it to mono and resamples it.

    Samples with more than 16 bits are rounded, and floating-point samples are clipped to [-1, 1].
    Sounds are resampled by soxr, in high quality.

    Args:
        file: the sound file, or its bytes.
        rate: sampling rate of the result in Hz.
        most: largest number of samples of the result.

    Raises:
        ValueError: if the file cannot be decoded, is cut off, or has NaN or infinite samples; the
            message has the path.
        FileNotFoundError: if there is no such file.
    """
    if isinstance(file, Path) and not file.is_file():
        raise FileNotFoundError(f"no sound {shown(file)}")
    with _opened(file) as sound:
        found_rate, channels = sound.samplerate, sound.channels
        is_other = found_rate != rate
        if is_other and not RATES[0] <= found_rate <= RATES[1]:
            raise ValueError(
                f"the sound {_shown(file)} has a sampling rate of {found_rate} Hz; convert it to "
                f"{rate} Hz"
            )
        count = most + 1
        if is_other:  # half a second more for the filter
            count = math.ceil(count * found_rate / rate) + found_rate // 2
        found = sound.read_mono(count)
    if not np.isfinite(found).all():
        raise ValueError(f"the sound {_shown(file)} has values that are not finite; replace it")
    if is_other:
        import soxr

        found = soxr.resample(found, found_rate, rate)
    changes = [f"resampled to {rate} Hz"] * is_other + ["mixed down to mono"] * (channels > 1)
    stored = np.clip(np.round(found[:most] * 32768.0), -32768, 32767).astype(np.int16)
    return Recording(stored, len(found) > most, tuple(changes))


class SoundForm(NamedTuple):
    """Number of samples, sampling rate in Hz, and number of channels of a sound file."""

    samples: int
    rate: int
    channels: int


def read_form(file: Path | bytes) -> SoundForm:
    """Reads the header of a sound file; in some formats the number of samples is only an estimate.

    Raises:
        ValueError: if the file cannot be opened; the message has the path.
        FileNotFoundError: if there is no such file.
    """
    if isinstance(file, Path) and not file.is_file():
        raise FileNotFoundError(f"no sound {shown(file)}")
    with _opened(file) as sound:
        return SoundForm(sound.frames, sound.samplerate, sound.channels)


class _Sound:
    """A sound that libsndfile decodes."""

    def __init__(self, opened: Any) -> None:
        self._opened = opened
        self.samplerate, self.channels = opened.samplerate, opened.channels
        self.frames = opened.frames

    def read_mono(self, count: int) -> np.ndarray:
        """Returns at most the first `count` samples, averaged over the channels, in [-1, 1]."""
        # If a file of floats were read as integers, its scale would be ignored.
        size, frames = max(1, BLOCK // self.channels), self._opened.frames
        blocks = self._opened.blocks(size, frames=count, dtype="float64", always_2d=True)
        found = np.concatenate([np.zeros(0), *(block.mean(axis=1) for block in blocks)])
        if len(found) < min(count, frames) and self._opened.format not in ESTIMATED:
            raise RuntimeError("the file is cut off")
        return found


class _Decoded:
    """A sound that FFmpeg decodes."""

    def __init__(self, container: Any) -> None:
        self._container, self._stream = container, container.streams.audio[0]
        self.samplerate = self._stream.codec_context.sample_rate
        self.channels = self._stream.codec_context.channels
        seconds = (container.duration or 0) / 1e6  # FFmpeg's unit is a microsecond
        self.frames = round(seconds * self.samplerate)

    def read_mono(self, count: int) -> np.ndarray:
        import av
        from av.error import FFmpegError

        parts, left = [np.zeros(0)], count
        resampler = av.AudioResampler(format="dblp")  # changes only the values, not the rate
        try:
            for frame in self._container.decode(self._stream):
                for part in resampler.resample(frame):
                    parts.append(part.to_ndarray().mean(axis=0)[:left])  # c t
                    left -= len(parts[-1])
                if not left:
                    break
        except FFmpegError as error:
            raise RuntimeError(str(error)) from error
        return np.concatenate(parts)


@contextlib.contextmanager
def _opened(file: Path | bytes) -> Iterator[_Sound | _Decoded]:
    """Yields an open sound; converts decoding errors to a ValueError that names the path."""
    import soundfile

    try:
        with contextlib.ExitStack() as stack:
            try:
                sound = stack.enter_context(soundfile.SoundFile(_source(file)))
                why = f"it is {sound.format_info}"
            except soundfile.LibsndfileError as error:
                sound, why = None, error.error_string.rstrip(".")
            if sound is not None and sound.format in FORMATS:
                yield _Sound(sound)
            else:
                yield _Decoded(stack.enter_context(_container(file, why)))
    except (RuntimeError, OSError, IndexError) as error:
        why = str(error).removeprefix(f"Error opening {str(file)!r}: ").rstrip(".")
        raise ValueError(
            f"cannot decode the sound {_shown(file)}: {why}; convert it to WAV or FLAC, or remove "
            "it"
        ) from error


def _container(file: Path | bytes, why: str) -> Any:
    """Opens a sound with FFmpeg; raises RuntimeError if it cannot be opened."""
    try:
        import av
        from av.error import FFmpegError
    except ImportError:
        raise RuntimeError(f"{why} (the extra av, vqdit[av], decodes more formats)") from None
    try:
        container = av.open(_source(file), container_options={"format_whitelist": CONTAINERS})
    except (FFmpegError, ValueError):
        raise RuntimeError(why) from None
    if not container.streams.audio:
        container.close()
        raise RuntimeError("the file has no sound")
    return container


def _source(file: Path | bytes) -> str | io.BytesIO:
    return str(file) if isinstance(file, Path) else io.BytesIO(file)


def _shown(file: Path | bytes) -> str:
    return shown(file) if isinstance(file, Path) else f"of {len(file):,} bytes"
