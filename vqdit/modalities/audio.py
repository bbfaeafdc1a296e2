"""Audio: int16 when stored, float32 in [-1, 1) for networks, WAV files for people."""

import base64
import io
from pathlib import Path

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
from vqdit.modalities.sounds import fit_sound, read_sound
from vqdit.typing import Array, Float, Int

SUFFIXES = (".wav", ".flac")
FULL_SCALE = 32768.0


class Audio(Modality):
    """Mono waveforms of one length.

    Attributes:
        samples: length of a waveform.
        rate: samples per second, in Hz.
    """

    samples: int = 8000
    rate: int = 8000

    def __post_init__(self) -> None:
        if self.samples < 1 or self.rate < 1:
            raise ValueError(
                f"Audio needs samples and rate >= 1, got samples={self.samples} rate={self.rate}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.samples,)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.int16)

    @property
    def grid(self) -> tuple[int, ...]:
        return (self.samples,)

    def standardize(self, raw: Int[Array, "b t"]) -> Float[Array, "b t 1"]:
        return raw.astype(jnp.float32)[..., None] / FULL_SCALE

    def restore(self, x: Float[Array, "b t 1"]) -> Int[Array, "b t"]:
        x = jnp.round(x[..., 0] * FULL_SCALE)
        return jnp.clip(x, -FULL_SCALE, FULL_SCALE - 1).astype(jnp.int16)

    @property
    def reads_files(self) -> bool:
        return True

    def read_cell(self, value: Value) -> Cell:
        return Cell(read_sound(as_file(value), self.samples, self.rate))

    def read(self, value: str) -> list[np.ndarray]:
        files = find_files(value, SUFFIXES, "sound")
        read = [fit_sound(file, self.samples, self.rate) for file in files]
        changed = [file for file, (_, is_changed) in zip(files, read, strict=True) if is_changed]
        report_fitted(changed, f"mono, {self.samples} samples at {self.rate} Hz")
        return [sound for sound, _ in read]

    def write(self, values: np.ndarray, folder: Path) -> None:
        for name, value in zip(numbered("audio", ".wav", len(values)), values, strict=True):
            (folder / name).write_bytes(self._wav(value))

    def _wav(self, stored: np.ndarray) -> bytes:
        import soundfile

        buffer = io.BytesIO()
        soundfile.write(buffer, stored, self.rate, format="WAV", subtype="PCM_16")
        return buffer.getvalue()

    def draw(self, stored: np.ndarray) -> np.ndarray:
        """Spectrograms: time to the right, frequency upwards, a range of 60 dB, black is loud."""
        return np.stack([spectrogram(sound) for sound in stored])

    def regions(self, stored: np.ndarray, tokens: tuple[int, ...]) -> list[tuple[str, np.ndarray]]:
        """One region per token, named by its time span."""
        edges = np.linspace(0.0, self.samples / self.rate, tokens[0] + 1)
        unit, factor, digits = ("ms", 1000.0, 0) if edges[1] < 0.1 else ("s", 1.0, 2)
        shown = [f"{factor * edge:.{digits}f}" for edge in edges]
        names = [f"{start}-{end} {unit}" for start, end in zip(shown, shown[1:], strict=False)]
        cells = super().regions(stored, tokens)
        return [(name, belongs) for name, (_, belongs) in zip(names, cells, strict=True)]

    def html(self, stored: np.ndarray) -> str:
        data = base64.b64encode(self._wav(stored)).decode()
        return f'<audio controls src="data:audio/wav;base64,{data}"></audio>'


def spectrogram(sound: np.ndarray, edge: int = 64) -> np.ndarray:
    """Returns the spectrogram of a waveform int16 [t] as a picture uint8 [edge, edge, 1]."""
    window = 4 * edge
    sound = np.pad(sound / FULL_SCALE, (0, max(0, window - len(sound))))
    starts = np.linspace(0, len(sound) - window, edge).astype(int)
    frames = np.stack([sound[start : start + window] for start in starts]) * np.hanning(window)
    power = np.abs(np.fft.rfft(frames, axis=1)[:, 1:]) ** 2  # time, frequency
    power = power.reshape(edge, edge, -1).max(axis=2)
    level = 10.0 * np.log10(power + 1e-12)
    shade = np.clip((level - level.max() + 60.0) / 60.0, 0.0, 1.0) * (level.max() > -60.0)
    return np.round(255.0 * (1.0 - shade.T[::-1])).astype(np.uint8)[..., None]
