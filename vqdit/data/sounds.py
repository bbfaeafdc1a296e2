"""Reading sound files of a required sampling rate and length."""

from pathlib import Path

import numpy as np


def read_sound(file: Path, samples: int, rate: int) -> np.ndarray:
    """Reads a mono sound that has exactly the required length and sampling rate.

    Args:
        file: WAV or FLAC file.
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
    import soundfile

    if not file.is_file():
        raise FileNotFoundError(f"no sound {file}")
    try:
        # Reading a file of floats as integers would ignore its scale.
        sound, found = soundfile.read(file, dtype="float64", always_2d=True)
    except (RuntimeError, OSError) as error:
        why = str(error).removeprefix(f"Error opening {str(file)!r}: ").rstrip(".")
        raise ValueError(
            f"cannot decode the sound {file}: {why}; convert it to WAV or FLAC, or remove it"
        ) from error
    if not np.isfinite(sound).all():
        raise ValueError(f"the sound {file} has values that are not finite; replace it")
    if (*sound.shape, found) != (samples, 1, rate):
        raise ValueError(
            f"the sound {file} has {len(sound)} samples at {found} Hz on {sound.shape[1]} "
            f"channel(s), but {samples} at {rate} Hz on 1 are required; convert it, or set "
            "samples and rate"
        )
    return np.clip(np.round(sound[:, 0] * 32768.0), -32768, 32767).astype(np.int16)
