"""Speech by the program espeak-ng."""

import io
import shutil
import subprocess
import wave
from typing import NamedTuple

import numpy as np

VOICES = (
    "en-us",
    "en-gb",
    "en-gb-scotland",
    "en-gb-x-rp",
    "en-029",
    "en-us+f3",
    "en-us-nyc+m3",
    "en-gb-scotland+f5",
    "en-gb-x-rp+f2",
    "en-gb-x-gbclan+m1",
)
"""Distinct voices of espeak-ng. For an unknown name it uses another voice without an error."""


class Way(NamedTuple):
    """A way of speaking: a voice of espeak-ng, words per minute, and a pitch of 0 to 99."""

    voice: str
    speed: int
    pitch: int


def check_speaker(who: str) -> None:
    """Raises FileNotFoundError, which names `who`, if the program espeak-ng is not installed."""
    if shutil.which("espeak-ng") is None:
        raise FileNotFoundError(
            f"{who} needs the program espeak-ng, which is not installed; "
            "run `apt-get install espeak-ng`"
        )


def speak(text: str, way: Way) -> tuple[np.ndarray, int]:
    """Returns the speech as int16 [n], and its sampling rate in Hz.

    Raises:
        OSError: if espeak-ng fails.
    """
    options = ["-z", "-v", way.voice, "-s", str(way.speed), "-p", str(way.pitch), "--stdout"]
    done = subprocess.run(["espeak-ng", *options, "--", text], capture_output=True, check=False)
    try:
        with wave.open(io.BytesIO(done.stdout)) as reader:
            speech = reader.readframes(reader.getnframes())
            return np.frombuffer(speech, "<i2"), reader.getframerate()
    except (wave.Error, EOFError) as error:
        said = done.stderr.decode(errors="replace").strip() or error
        raise OSError(f"espeak-ng failed to speak {text!r} with {way}: {said}") from error
