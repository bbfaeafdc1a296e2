"""The notes of music: onsets by spectral flux, pitches by non-negative least squares, and their F1.

A spectrum at an onset is explained as a sum of harmonic tones,

    min |S - sum_m a_m H_m|,  a_m >= 0,

where the template H_m of note m has partials at k f_m with the amplitudes 1 / k. The notes are
those whose a_m is at least a fixed share of the largest. The transcription knows no score, and errs
on real music, too: a value for generated music is to be read beside that for the originals.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vqdit.typing import Float

LOW, HIGH = 36, 88
"""Lowest and highest note, as numbers of MIDI."""
PARTIALS = 12
SHARE = 0.2
"""Least amplitude of a note, relative to the strongest one that begins with it."""
TOLERANCE = 0.05
"""Largest difference of two onsets that match, in seconds; usual for this score."""
FRAME, HOP = 0.064, 0.016
"""Window and step of the spectral flux, in seconds."""


class Note(NamedTuple):
    """A note: its onset in seconds, and its number of MIDI."""

    onset: float
    pitch: int


def transcribe(sound: np.ndarray, rate: int) -> list[Note]:
    """Returns the notes of a sound, int16 [n] or [n, c]."""
    x = sound.reshape(len(sound), -1).mean(axis=1) / 32768.0
    times = [*onsets(x, rate), len(x) / rate]
    notes = []
    for start, end in itertools.pairwise(times):
        begin, length = round((start + 0.02) * rate), round(min(end - start - 0.02, 0.5) * rate)
        part = x[begin : begin + length]
        if len(part) >= 0.05 * rate:
            notes += [Note(start, pitch) for pitch in pitches(part, rate)]
    return notes


def onsets(x: Float[np.ndarray, " n"], rate: int) -> list[float]:
    """Returns the times at which something begins, in seconds.

    The flux is the sum of what rises in the spectrum's square root of magnitudes. Its peaks are
    onsets if they are above 0.2 of the largest, and the largest within 80 ms.
    """
    size, hop = round(FRAME * rate), round(HOP * rate)
    padded = np.pad(x, (size, size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * np.hanning(size)
    magnitude = np.sqrt(np.abs(np.fft.rfft(frames, axis=1)))
    flux = np.maximum(np.diff(magnitude, axis=0), 0.0).sum(axis=1)
    reach = round(0.08 / HOP)
    nearby = np.lib.stride_tricks.sliding_window_view(np.pad(flux, reach), 2 * reach + 1)
    is_peak = (flux >= nearby.max(axis=1)) & (flux > 0.2 * flux.max(initial=0.0)) & (flux > 1e-6)
    # Frame i + 1 ends (i + 2) hop - hop behind the padding, and what is new lies in its last hop.
    times = (np.flatnonzero(is_peak) + 1) * HOP - 0.5 * FRAME
    return [max(0.0, float(time)) for time in times]


def pitches(part: Float[np.ndarray, " n"], rate: int) -> list[int]:
    """Returns the notes that sound together in a part, as numbers of MIDI."""
    from scipy.optimize import nnls

    size = 2 ** int(np.ceil(np.log2(max(len(part), rate // 4))))
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), size))
    frequencies = np.fft.rfftfreq(size, 1.0 / rate)
    kept = frequencies < min(4000.0, 0.45 * rate)
    amplitudes, _ = nnls(_templates(frequencies[kept], rate / len(part)), spectrum[kept])
    strongest = amplitudes.max(initial=0.0)
    return [
        LOW + int(n) for n in np.flatnonzero((amplitudes >= SHARE * strongest) & (strongest > 0))
    ]


def _templates(frequencies: Float[np.ndarray, " f"], width: float) -> Float[np.ndarray, "f m"]:
    """Returns the spectrum of each note; `width` is that of a peak of the window in Hz."""
    columns = []
    for note in range(LOW, HIGH + 1):
        first = 440.0 * 2.0 ** ((note - 69) / 12.0)
        partials = first * np.arange(1, PARTIALS + 1)
        shape = np.exp(-0.5 * ((frequencies[:, None] - partials) / (0.8 * width)) ** 2)
        columns.append((shape / np.arange(1, PARTIALS + 1)).sum(axis=1))
    return np.stack(columns, axis=1)


def f1(found: Sequence[Note], real: Sequence[Note]) -> float:
    """Returns the F1 score of notes with the right pitch and an onset within `TOLERANCE`.

    Each note matches at most one other; 1 if there are no notes and none are found.
    """
    if not found and not real:
        return 1.0
    matched, left = 0, list(found)
    for note in sorted(real):
        near = [f for f in left if f.pitch == note.pitch and abs(f.onset - note.onset) <= TOLERANCE]
        if near:
            left.remove(min(near, key=lambda f: abs(f.onset - note.onset)))
            matched += 1
    return 2.0 * matched / (len(found) + len(real))


def score_notes(chords: Sequence[Sequence[int]], beat: float) -> list[Note]:
    """Returns the notes of chords of one beat each."""
    return [Note(n * beat, pitch) for n, chord in enumerate(chords) for pitch in chord]
