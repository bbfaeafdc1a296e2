"""Reads sound files of any rate, channels and format; converts them to one rate and format.

libsndfile decodes the usual formats, and FFmpeg (PyAV) all others. Headers are
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
FULL = 32767 / 32768
"""Full scale: the largest value of 16 bits."""
CLIPPED = 3
"""A recording counts as clipped if it has this many samples in succession at full scale."""


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


def read_sound(file: Path | bytes, rate: int, most: int, channels: int = 1) -> Recording:
    """Reads a sound, mixes it to the wanted channels and resamples it.

    Samples with more than 16 bits are rounded, and floating-point samples are clipped to [-1, 1].
    Sounds are resampled by soxr, in high quality.

    Args:
        file: the sound file, or its bytes.
        rate: sampling rate of the result in Hz.
        most: largest number of samples of the result.
        channels: 1 (mono) or 2 (stereo); see `mixed`.

    Raises:
        ValueError: if the file cannot be decoded, is cut off, or has NaN or infinite samples; the
            message has the path.
        FileNotFoundError: if there is no such file.
    """
    if isinstance(file, Path) and not file.is_file():
        raise FileNotFoundError(f"no sound {shown(file)}")
    with _opened(file) as sound:
        found_rate, is_other = _rate(file, sound, rate), sound.samplerate != rate
        count = most + 1
        if is_other:  # half a second more for the filter
            count = math.ceil(count * found_rate / rate) + found_rate // 2
        parts = [mixed(block, channels) for block in sound.blocks(count)]
        changes = _changes(sound, rate, channels)
    found = np.concatenate([np.zeros((0, channels)), *parts])
    _check_finite(file, found)
    if is_other:
        import soxr

        found = soxr.resample(found, found_rate, rate)
    return Recording(_stored(found[:most]), len(found) > most, changes)


def read_recording(file: Path | bytes, rate: int, channels: int = 1) -> Recording:
    """Reads a whole sound of any length block by block, and converts it as `read_sound` does.

    Only the result is in memory as a whole. `changes` also reports whether the file is clipped:
    whether it has `CLIPPED` samples in succession at full scale.
    """
    if isinstance(file, Path) and not file.is_file():
        raise FileNotFoundError(f"no sound {shown(file)}")
    parts, is_clipped, stream = [_stored(np.zeros((0, channels)))], False, None
    with _opened(file) as sound:
        found_rate = _rate(file, sound, rate)
        if found_rate != rate:
            import soxr

            stream = soxr.ResampleStream(found_rate, rate, channels, dtype="float64")
        for block in sound.blocks(None):
            _check_finite(file, block)
            is_clipped = is_clipped or _is_clipped(block)
            block = mixed(block, channels)
            parts.append(_stored(stream.resample_chunk(block) if stream else block))
        if stream:
            parts.append(_stored(stream.resample_chunk(np.zeros((0, channels)), last=True)))
        changes = _changes(sound, rate, channels) + ("clipped already in the file",) * is_clipped
    return Recording(np.concatenate(parts), False, changes)


def resampled(sound: np.ndarray, found: int, rate: int) -> np.ndarray:
    """Returns int16 [n] or [n, c] at another rate; `found` and `rate` are in Hz."""
    if found == rate:
        return sound
    import soxr

    return _rounded(soxr.resample(sound / 32768.0, found, rate))


def mixed(block: np.ndarray, channels: int) -> np.ndarray:
    """Returns samples [n, c] with 1 or 2 channels.

    Mono is the mean over all channels. As stereo, a mono sound has two equal channels, and a sound
    with more than two channels is mixed to mono first.
    """
    if block.shape[1] == channels:
        return block
    return np.repeat(block.mean(axis=1, keepdims=True), channels, axis=1)


def _rate(file: Path | bytes, sound: "_Sound | _Decoded", rate: int) -> int:
    """Returns a sound's sampling rate; raises ValueError if it cannot be resampled."""
    found = sound.samplerate
    if found != rate and not RATES[0] <= found <= RATES[1]:
        raise ValueError(
            f"the sound {_shown(file)} has the unsupported sampling rate {found} Hz; convert it to "
            f"{rate} Hz"
        )
    return found


def _changes(sound: "_Sound | _Decoded", rate: int, channels: int) -> tuple[str, ...]:
    found, changes = sound.channels, []
    if sound.samplerate != rate:
        changes.append(f"resampled to {rate} Hz")
    if found > 1 and found != channels:
        changes.append("mixed down to mono")
    if found < channels:
        changes.append("mono, stored as two equal channels")
    return tuple(changes)


def _check_finite(file: Path | bytes, found: np.ndarray) -> None:
    if not np.isfinite(found).all():
        raise ValueError(f"the sound {_shown(file)} has values that are not finite; replace it")


def _stored(found: np.ndarray) -> np.ndarray:
    """Returns samples [n, c] as int16: [n] if there is one channel, else [n, c]."""
    stored = _rounded(found)
    return stored[:, 0] if stored.shape[1] == 1 else stored


def _rounded(found: np.ndarray) -> np.ndarray:
    return np.clip(np.round(found * 32768.0), -32768, 32767).astype(np.int16)


def _is_clipped(block: np.ndarray) -> bool:
    """Returns whether a channel has `CLIPPED` samples in succession at full scale."""
    is_full = np.abs(block) >= FULL
    runs = is_full[CLIPPED - 1 :]
    for shift in range(1, CLIPPED):
        runs = runs & is_full[CLIPPED - 1 - shift : len(is_full) - shift]
    return bool(runs.any())


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

    def blocks(self, count: int | None) -> Iterator[np.ndarray]:
        """Yields at most the first `count` samples as blocks float64 [n, c] in [-1, 1]."""
        # If a file of floats were read as integers, its scale would be ignored.
        size, frames, found = max(1, BLOCK // self.channels), self._opened.frames, 0
        most = -1 if count is None else count
        for block in self._opened.blocks(size, frames=most, dtype="float64", always_2d=True):
            found += len(block)
            yield block
        wanted = frames if count is None else min(count, frames)
        if found < wanted and self._opened.format not in ESTIMATED:
            raise RuntimeError("the file is cut off")


class _Decoded:
    """A sound that FFmpeg decodes."""

    def __init__(self, container: Any) -> None:
        self._container, self._stream = container, container.streams.audio[0]
        self.samplerate = self._stream.codec_context.sample_rate
        self.channels = self._stream.codec_context.channels
        seconds = (container.duration or 0) / 1e6  # FFmpeg's unit is a microsecond
        self.frames = round(seconds * self.samplerate)

    def blocks(self, count: int | None) -> Iterator[np.ndarray]:
        import av
        from av.error import FFmpegError

        left = count
        resampler = av.AudioResampler(format="dblp")  # changes only the values, not the rate
        try:
            for frame in self._container.decode(self._stream):
                for part in resampler.resample(frame):
                    yield part.to_ndarray().T[:left]  # t c
                    if left is not None:
                        left = max(0, left - part.samples)
                if left == 0:
                    return
        except FFmpegError as error:
            raise RuntimeError(str(error)) from error


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
    import av
    from av.error import FFmpegError

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
