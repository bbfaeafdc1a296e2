"""Transcribes music: onsets by spectral flux, pitches by non-negative least squares; F1 score.

The magnitude spectrum S after an onset is approximated by a sum of harmonic tones,

    min |S - sum_m a_m H_m|,  a_m >= 0,

where the template H_m of note m has partials at k f_m with the amplitudes 1 / k. The notes are
those whose amplitude a_m is at least a fixed fraction of the largest. The transcription does not
know the score, and makes errors on real music, too: compare the F1 score of generated music with
the F1 score of the original recordings.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vqdit.typing import Float

LOW, HIGH = 36, 88
"""Lowest and highest note, as MIDI note numbers."""
PARTIALS = 12
SHARE = 0.2
"""Smallest amplitude of a note, relative to the strongest note with the same onset."""
TOLERANCE = 0.05
"""Largest difference of two matching onsets, in seconds; 50 ms is usual for this score."""
FRAME, HOP = 0.064, 0.016
"""Window and step of the spectral flux, in seconds."""


class Note(NamedTuple):
    """A note: its onset in seconds, and its MIDI note number."""

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
    """Returns the onsets of a sound, in seconds.

    The spectral flux is the sum over frequencies of the increase of the square root of the
    magnitude from frame to frame. An onset is a peak of the flux that is the largest value within
    80 ms and above 0.2 times the global maximum.
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
    """Returns the notes that sound together in a part of a sound, as MIDI note numbers."""
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
    """Returns the spectrum of each note; `width` is the width of its peaks in Hz."""
    columns = []
    for note in range(LOW, HIGH + 1):
        first = 440.0 * 2.0 ** ((note - 69) / 12.0)
        partials = first * np.arange(1, PARTIALS + 1)
        shape = np.exp(-0.5 * ((frequencies[:, None] - partials) / (0.8 * width)) ** 2)
        columns.append((shape / np.arange(1, PARTIALS + 1)).sum(axis=1))
    return np.stack(columns, axis=1)


def f1(found: Sequence[Note], real: Sequence[Note]) -> float:
    """Returns the F1 score of notes with the right pitch and an onset within `TOLERANCE`.

    Each note matches at most one other. The score is 1 if both sequences are empty.
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
    """Returns the notes of chords that last `beat` seconds each."""
    return [Note(n * beat, pitch) for n, chord in enumerate(chords) for pitch in chord]
