"""Reading sound files: one rate and one length, or an error that says what was found."""

from pathlib import Path

import numpy as np


def read_sound(file: Path, samples: int, rate: int) -> np.ndarray:
    """Reads a mono sound of exactly one length and rate.

    Args:
        file: WAV or FLAC.
        samples: its length.
        rate: its samples per second, in Hz.

    Returns:
        int16 [samples]; sounds of more bits are rounded, and floats beyond -1 and 1 are clipped.

    Raises:
        ValueError: it cannot be decoded, has NaN or infinity, or another length, rate or number of
            channels; names the path, and says what was found and what is wanted.
        FileNotFoundError: there is no such file.
    """
    import soundfile

    if not file.is_file():
        raise FileNotFoundError(f"no sound {file}")
    try:
        # As integers, a file of floats would be read without its scale.
        sound, found = soundfile.read(file, dtype="float64", always_2d=True)
    except (RuntimeError, OSError) as error:
        why = str(error).removeprefix(f"Error opening {str(file)!r}: ").rstrip(".")
        raise ValueError(
            f"cannot decode the sound {file}: {why}; make it a WAV or FLAC file, or leave it out"
        ) from error
    if not np.isfinite(sound).all():
        raise ValueError(f"the sound {file} has values that are not finite; replace it")
    if (*sound.shape, found) != (samples, 1, rate):
        raise ValueError(
            f"the sound {file} has {len(sound)} samples at {found} Hz on {sound.shape[1]} "
            f"channel(s); wanted are {samples} at {rate} Hz on 1: convert it, or set samples and "
            "rate"
        )
    return np.clip(np.round(sound[:, 0] * 32768.0), -32768, 32767).astype(np.int16)
