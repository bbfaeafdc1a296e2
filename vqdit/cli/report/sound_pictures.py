"""Pictures of sounds: log mel spectrograms with axes in seconds and hertz."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vqdit.cli.report.figures import new_figure, png, style
from vqdit.nn.mel import mel_bands
from vqdit.typing import Float, Int

COLUMNS = 1000
"""Largest number of frames; longer sounds have equally spaced frames."""
RANGE = 80.0
"""Difference of the highest and the lowest colour in dB."""
TICKS = (125, 250, 500, 1000, 2000, 4000, 8000, 16000)
"""Frequencies in hertz that are marked."""


def mel_levels(sound: Int[np.ndarray, "n *_"], rate: int) -> Float[np.ndarray, "m k"]:
    """Returns levels [m, k] of m mel bands in k frames, in dB relative to a sine at full scale.

    Frames have a Hann window of about 32 ms. Channels are averaged.
    """
    window = max(32, 2 ** round(np.log2(0.032 * rate)))
    mono = sound.reshape(len(sound), -1).mean(axis=1) / 32768.0
    count = min(COLUMNS, 1 + len(mono) // (window // 4))
    starts = np.linspace(0, len(mono), count).astype(int)
    padded, hann = np.pad(mono, window // 2 + 1), np.hanning(window + 1)[:-1]
    frames = np.stack([padded[start : start + window] for start in starts]) * hann
    spectrum = np.abs(np.fft.rfft(frames)) * (2.0 / hann.sum())
    return 20.0 * np.log10(spectrum @ mel_bands(window, rate, min(80, window // 6)) + 1e-6).T


def draw_mels(sounds: Mapping[str, Int[np.ndarray, "n *_"]], rate: int) -> Figure:
    """Draws spectrograms below each other; the first one determines the colour scale of all."""
    levels = {name: mel_levels(sound, rate) for name, sound in sounds.items()}
    top = float(next(iter(levels.values())).max())
    figure = new_figure(9.0, 0.3 + 2.2 * len(sounds))
    every = figure.subplots(len(sounds), squeeze=False, sharex=True)[:, 0]
    image: Any = None
    for axes, (name, level) in zip(every, levels.items(), strict=True):
        extent = (0.0, len(sounds[name]) / rate, 0.0, float(len(level)))
        image = axes.imshow(
            level, origin="lower", aspect="auto", extent=extent, vmin=top - RANGE, vmax=top,
            cmap="magma",
        )  # fmt: skip
        axes.set(title=name, ylabel="Hz")
        _mark(axes, rate, len(level))
    every[-1].set(xlabel="s", xlim=(0.0, max(map(len, sounds.values())) / rate))
    figure.colorbar(image, ax=every, label="dB")
    return figure


def save_mels(sounds: Mapping[str, Int[np.ndarray, "n *_"]], rate: int) -> bytes:
    """Returns the picture of `draw_mels` as the bytes of a PNG file."""
    with style():
        return png(draw_mels(sounds, rate))


def _mark(axes: Axes, rate: int, bands: int) -> None:
    """Marks frequencies; the centre of band i is at i + 1/2."""
    shown = np.asarray([tick for tick in TICKS if tick <= rate / 2])
    mel = np.log10(1.0 + shown / 700.0) / np.log10(1.0 + rate / 2 / 700.0)  # see `mel_bands`
    axes.set_yticks(mel * (bands + 1) - 0.5, [str(tick) for tick in shown])
    axes.set_ylim(0, bands)
