"""Audio: int16 in stored form, float32 in [-1, 1) for networks, and WAV files."""

import base64
import io
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
import numpy as np

from vqdit.modalities.base import (
    Cell,
    Modality,
    Value,
    as_file,
    find_files,
    numbered,
    report_fitted,
)
from vqdit.modalities.sounds import SUFFIXES, read_sound
from vqdit.typing import Array, Float, Int, resumable

FULL_SCALE = 32768.0


class Audio(Modality):
    """Waveforms of one length, or of any length within bounds.

    Sound files of any rate, number of channels and format are read (`vqdit.modalities.sounds`).
    Stored examples are int16 [n], or [n, 2] if they are stereo.

    Attributes:
        samples: length of every waveform, unless `seconds` is given.
        rate: samples per second, in Hz.
        seconds: shortest and longest duration in seconds. If they are equal, all waveforms have
            this length.
        outside: treatment of recordings in a data set that are shorter or longer: "cut" cuts off
            the end of longer ones and appends silence to shorter ones; "skip" leaves the example
            out; "error" raises an error.
        channels: 1 for mono, 2 for stereo.
    """

    samples: int = 8000
    rate: int = 8000
    seconds: tuple[float, ...] = ()
    outside: Literal["cut", "skip", "error"] = resumable("error")
    channels: int = 1

    def __post_init__(self) -> None:
        if self.samples < 1 or self.rate < 1:
            raise ValueError(
                f"Audio needs samples and rate >= 1, got samples={self.samples}, rate={self.rate}"
            )
        self.require("channels 1 (mono) or 2 (stereo)", self.channels in (1, 2))
        if self.seconds:
            is_range = len(self.seconds) == 2 and 0.0 <= self.seconds[0] <= self.seconds[1]
            rule = "seconds as a shortest and a longest duration of at least one sample"
            self.require(rule, is_range and self._longest >= 1)

    @property
    def _longest(self) -> int:
        return round(self.seconds[1] * self.rate) if self.seconds else self.samples

    @property
    def _least(self) -> int:
        return max(1, round(self.seconds[0] * self.rate)) if self.seconds else self.samples

    @property
    def lengths(self) -> tuple[int, int] | None:
        return (self._least, self._longest) if self._least < self._longest else None

    @property
    def shape(self) -> tuple[int, ...]:
        return (self._longest, *self._each)

    @property
    def _each(self) -> tuple[int, ...]:
        """Shape of one stored sample."""
        return () if self.channels == 1 else (self.channels,)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.int16)

    @property
    def grid(self) -> tuple[int, ...]:
        return (self._longest,)

    def standardize(self, raw: Int[Array, "b t *_"]) -> Float[Array, "b t c"]:
        x = raw.astype(jnp.float32)
        return (x if self._each else x[..., None]) / FULL_SCALE

    def restore(self, x: Float[Array, "b t c"]) -> Int[Array, "b t *_"]:
        x = jnp.round((x if self._each else x[..., 0]) * FULL_SCALE)
        return jnp.clip(x, -FULL_SCALE, FULL_SCALE - 1).astype(jnp.int16)

    @property
    def reads_files(self) -> bool:
        return True

    def read_cell(self, value: Value) -> Cell:
        read = read_sound(as_file(value), self.rate, self._longest, self.channels)
        sound, changes = self.within_bounds(read.samples, read.is_longer)
        return Cell(sound, (*read.changes, *changes))

    def within_bounds(
        self, sound: np.ndarray, is_longer: bool
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        """Returns a recording that was cut or padded to the bounds, and the changes in words.

        Args:
            sound: stored samples; samples beyond the longest duration may be missing.
            is_longer: whether the recording is longer than the longest duration.

        Raises:
            LeftOut: the recording is out of bounds, and `outside` is "skip".
            ValueError: the recording is out of bounds, and `outside` is "error".
        """
        is_short = len(sound) < self._least
        if not (is_short or is_longer):
            return sound, ()
        limit = self._duration(self._least if is_short else self._longest)
        fault = f"{'shorter' if is_short else 'longer'} than {limit}"
        self.require_cut(self.outside, "the recording", fault, "change the bounds")
        change = f"{'padded with silence' if is_short else 'cut'} to {limit}"
        return self._fitted(sound[: self._longest]), (change,)

    def read(self, value: str) -> list[np.ndarray]:
        files = find_files(value, SUFFIXES, "sound")
        read = [read_sound(file, self.rate, self._longest, self.channels) for file in files]
        fitted = [self._fitted(recording.samples) for recording in read]
        changed = [
            file
            for file, recording, sound in zip(files, read, fitted, strict=True)
            if recording.changes or recording.is_longer or len(recording.samples) < len(sound)
        ]
        if self.lengths:
            least, most = self._duration(self._least), self._duration(self._longest)
            form = f"{least} to {most} at {self.rate} Hz"
        else:
            form = f"{self._longest} samples at {self.rate} Hz"
        report_fitted(changed, f"{'stereo' if self._each else 'mono'}, {form}")
        return fitted

    def _fitted(self, sound: np.ndarray) -> np.ndarray:
        """Appends silence to a short waveform."""
        more = max(0, self._least - len(sound))
        return np.pad(sound, ((0, more), *((0, 0),) * (sound.ndim - 1)))

    def positions(self, length: float) -> int:
        """Converts seconds to samples."""
        return round(length * self.rate)

    def shown_length(self, positions: int) -> str:
        return f"{positions / self.rate:.4g} s"

    def _duration(self, samples: int) -> str:
        """Returns a number of samples as text with a unit, such as "0.5 s"."""
        if self.seconds:
            return f"{samples / self.rate:.4g} s"
        return f"{samples} samples at {self.rate} Hz"

    def write(self, values: np.ndarray, folder: Path, name: str = "audio") -> None:
        for file, value in zip(numbered(name, ".wav", len(values)), values, strict=True):
            (folder / file).write_bytes(self.wav(value))

    def wav(self, stored: np.ndarray) -> bytes:
        """Returns one waveform as the bytes of a WAV file of 16 bits."""
        import soundfile

        buffer = io.BytesIO()
        soundfile.write(buffer, stored, self.rate, format="WAV", subtype="PCM_16")
        return buffer.getvalue()

    def draw(self, stored: np.ndarray) -> np.ndarray:
        """Draws spectrograms: time to the right, frequency upwards; 60 dB from white to black."""
        return np.stack([spectrogram(sound) for sound in stored])

    def regions(self, stored: np.ndarray, tokens: tuple[int, ...]) -> list[tuple[str, np.ndarray]]:
        """Returns one region per token, named by its time span."""
        edges = np.linspace(0.0, self._longest / self.rate, tokens[0] + 1)
        unit, factor, digits = ("ms", 1000.0, 0) if edges[1] < 0.1 else ("s", 1.0, 2)
        shown = [f"{factor * edge:.{digits}f}" for edge in edges]
        names = [f"{start}-{end} {unit}" for start, end in zip(shown, shown[1:], strict=False)]
        cells = super().regions(stored, tokens)
        return [(name, belongs) for name, (_, belongs) in zip(names, cells, strict=True)]

    def html(self, stored: np.ndarray) -> str:
        data = base64.b64encode(self.wav(stored)).decode()
        return f'<audio controls src="data:audio/wav;base64,{data}"></audio>'


def spectrogram(sound: np.ndarray, edge: int = 64) -> np.ndarray:
    """Returns the spectrogram of a waveform int16 [t] as a picture uint8 [edge, edge, 1].

    A stereo sound [t, c] is first averaged over its channels.
    """
    sound = sound if sound.ndim == 1 else sound.mean(axis=1)
    window = 4 * edge
    sound = np.pad(sound / FULL_SCALE, (0, max(0, window - len(sound))))
    starts = np.linspace(0, len(sound) - window, edge).astype(int)
    frames = np.stack([sound[start : start + window] for start in starts]) * np.hanning(window)
    power = np.abs(np.fft.rfft(frames, axis=1)[:, 1:]) ** 2  # time, frequency
    power = power.reshape(edge, edge, -1).max(axis=2)
    level = 10.0 * np.log10(power + 1e-12)
    shade = np.clip((level - level.max() + 60.0) / 60.0, 0.0, 1.0) * (level.max() > -60.0)
    return np.round(255.0 * (1.0 - shade.T[::-1])).astype(np.uint8)[..., None]
