"""Reading sound files: exactly as they are, or fitted to a sampling rate and length.

What a file claims is checked from its header, before anything is decoded.
"""

import contextlib
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vqdit.modalities.classes import shown

FORMATS = ("WAV", "WAVEX", "RF64", "FLAC")
RATES = (100, 1_000_000)
"""Lowest and highest sampling rate that is resampled, in Hz."""
BLOCK = 2**20
"""Numbers that are decoded at a time."""


def read_sound(file: Path | bytes, samples: int, rate: int) -> np.ndarray:
    """Reads a mono sound that has exactly the required length and sampling rate.

    Args:
        file: WAV or FLAC file, or the bytes of one.
        samples: required length in samples.
        rate: required sampling rate in Hz.

    Returns:
        The sound, int16 [samples]. Samples with more than 16 bits are rounded, and floating-point
        samples are clipped to [-1, 1].

    Raises:
        ValueError: if the file cannot be decoded, has NaN or infinite samples, or has another
            length, rate or number of channels; the message has the path.
        FileNotFoundError: if there is no such file.
    """
    with _opened(file) as sound:
        if (sound.frames, sound.channels, sound.samplerate) != (samples, 1, rate):
            raise ValueError(
                f"the sound {_shown(file)} has {sound.frames} samples at {sound.samplerate} Hz on "
                f"{sound.channels} channel(s), but {samples} at {rate} Hz on 1 are required; "
                "convert it, or set samples and rate"
            )
        found = _mono(sound, samples)
        if len(found) < samples:
            raise ValueError(f"the sound {_shown(file)} is cut off; replace it")
    return _stored(found, file)


def fit_sound(file: Path, samples: int, rate: int) -> tuple[np.ndarray, bool]:
    """Reads a sound of any form, mixes it to mono, resamples it, and cuts or pads its end.

    Args:
        file: WAV or FLAC file.
        samples: length of the result in samples; what is missing at the end is silent.
        rate: sampling rate of the result in Hz.

    Returns:
        The sound, int16 [samples], and whether it was changed.

    Raises:
        ValueError: if the file cannot be decoded or fitted; the message has the path.
        FileNotFoundError: if there is no such file.
    """
    from scipy.signal import resample_poly

    with _opened(file) as sound:
        form, found_rate = (sound.frames, sound.channels, sound.samplerate), sound.samplerate
        if found_rate != rate and not RATES[0] <= found_rate <= RATES[1]:
            raise ValueError(
                f"the sound {_shown(file)} has a sampling rate of {found_rate} Hz; convert it to "
                f"{rate} Hz"
            )
        ratio = found_rate / rate
        margin = math.ceil(10 * max(1.0, ratio)) + 1  # half the length of the resampling filter
        found = _mono(sound, math.ceil(samples * ratio) + margin)
    if found_rate != rate and len(found):
        common = math.gcd(rate, found_rate)
        found = resample_poly(found, rate // common, found_rate // common)
    found = np.pad(found[:samples], (0, max(0, samples - len(found))))
    return _stored(found, file), form != (samples, 1, rate)


@contextlib.contextmanager
def _opened(file: Path | bytes) -> Iterator[Any]:
    """Yields an open WAV or FLAC file; errors of decoding become a ValueError with its path."""
    import soundfile

    if isinstance(file, Path) and not file.is_file():
        raise FileNotFoundError(f"no sound {_shown(file)}")
    try:
        with soundfile.SoundFile(file if isinstance(file, Path) else io.BytesIO(file)) as sound:
            if sound.format not in FORMATS:
                raise RuntimeError(f"it is {sound.format_info}")
            yield sound
    except (RuntimeError, OSError) as error:
        why = str(error).removeprefix(f"Error opening {str(file)!r}: ").rstrip(".")
        raise ValueError(
            f"cannot decode the sound {_shown(file)}: {why}; convert it to WAV or FLAC, or remove "
            "it"
        ) from error


def _mono(sound: Any, count: int) -> np.ndarray:
    """Returns at most the first `count` samples, as means over the channels, in [-1, 1]."""
    # Reading a file of floats as integers would ignore its scale.
    size = max(1, BLOCK // sound.channels)
    blocks = sound.blocks(size, frames=count, dtype="float64", always_2d=True)
    return np.concatenate([np.zeros(0), *(block.mean(axis=1) for block in blocks)])


def _stored(sound: np.ndarray, file: Path | bytes) -> np.ndarray:
    if not np.isfinite(sound).all():
        raise ValueError(f"the sound {_shown(file)} has values that are not finite; replace it")
    return np.clip(np.round(sound * 32768.0), -32768, 32767).astype(np.int16)


def _shown(file: Path | bytes) -> str:
    return shown(file) if isinstance(file, Path) else f"of {len(file):,} bytes"
