"""Music with known notes: four-part progressions, composed by rules and played by FluidSynth."""

import hashlib
import itertools
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vqdit.data.recordings import Item, Recordings
from vqdit.data.sources import SPLITS, divide
from vqdit.files import local_path
from vqdit.modalities import Audio, Text
from vqdit.modalities.sounds import Recording, read_recording
from vqdit.typing import resumable

SOUNDFONTS = ("TimGM6mb.sf2", "FluidR3_GM.sf2", "default-GM.sf2")
"""Sound fonts in /usr/share/sounds/sf2; the first that exists is used."""
INSTRUMENTS = {"piano": 0, "organ": 19, "strings": 48, "choir": 52}
"""General MIDI programs of the instruments, which are the classes."""
NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
SCALE = (0, 2, 4, 5, 7, 9, 11)
"""Semitones of a major scale."""
NEXT = ((3, 4, 5, 1), (4, 6), (5, 3), (4, 0, 1), (0, 5), (1, 3), (0,))
"""For each degree of the scale, from 0, the degrees that may follow."""
RANGES = ((40, 60), (48, 67), (55, 72), (60, 79))
"""Lowest and highest note of bass, tenor, alto and soprano, as numbers of MIDI."""
RELEASE = 0.5
"""Seconds of sound after the last chord."""
TICKS = 480
"""Ticks of a MIDI file in a beat."""

Chord = tuple[int, ...]
"""Notes of bass, tenor, alto and soprano, as numbers of MIDI; 60 is C4."""


class Score(NamedTuple):
    """A piece: its chords (one beat each, the last one two beats) and its instrument."""

    chords: tuple[Chord, ...]
    instrument: str

    @property
    def text(self) -> str:
        """The notes as text, chord by chord from the bass up, such as "C3 G3 E4 C5|G2 ..."."""
        return "|".join(" ".join(map(name_of, chord)) for chord in self.chords)


class Chorales(Recordings):
    """Four-part chords on an instrument: `audio`, their notes as `text`, the instrument as `label`.

    Each piece has a random major key. Its chords follow one another as in simple tonal harmony and
    end with the dominant and the tonic; the voices of soprano, alto, tenor and bass stay in their
    ranges, move as little as possible, and avoid parallel fifths and octaves. As the music is
    composed by these rules, the notes of all pieces are known and free of copyright. Debian's
    fluidsynth plays the pieces with a General MIDI sound font, such as timgm6mb-soundfont.

    Each chord lasts `beat` seconds, the last one twice as long; half a second of release follows.
    `audio` must have this total length, which is 5 s with the defaults.

    Attributes:
        count: number of pieces.
        chords: number of chords in a piece.
        beat: duration of a chord in seconds.
        soundfont: a sound font (.sf2); if empty, the sound font of the Debian package.
        seed: seed of the pieces.
    """

    audio: Audio = Audio(rate=16000, samples=80000)
    text: Text = Text(length=128, variable=True, outside="skip")
    count: int = 400
    chords: int = 8
    beat: float = 0.5
    soundfont: str = resumable("")
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("count >= 10", self.count >= 10)
        self.require("chords >= 2", self.chords >= 2)
        self.require("beat from 0.05 to 10 seconds", 0.05 <= self.beat <= 10.0)
        self.require("seed >= 0", self.seed >= 0)

    def key(self) -> str:
        form = f"{self.form} {self.count} {self.chords} {self.beat} {self.seed} 1\n"
        if self.soundfont:
            stat = self._player()[1].stat()
            form += f"{stat.st_size} {stat.st_mtime_ns}\n"
        return f"chorales_{hashlib.sha256(form.encode()).hexdigest()[:16]}"

    def items(self) -> Mapping[str, Sequence[Item]]:
        self._player()
        names = self.classes()
        scores = [self.score(row) for row in range(self.count)]
        labels = [names.index(score.instrument) for score in scores]
        rows = divide(self.count, "Chorales", labels)
        return {
            split: [
                Item(Path(f"piece {row}"), labels[row], scores[row].text, scores[row])
                for row in rows[split].tolist()
            ]
            for split in SPLITS
        }

    def classes(self) -> tuple[str, ...]:
        return tuple(sorted(INSTRUMENTS))

    @property
    def has_text(self) -> bool:
        return True

    def score(self, row: int) -> Score:
        """Returns the piece with the number `row`."""
        generator = np.random.Generator(np.random.Philox([self.seed, row]))
        chords = compose(generator, self.chords)
        return Score(chords, self.classes()[row % len(INSTRUMENTS)])

    def sound(self, item: Item) -> Recording:
        program, font = self._player()
        wanted = round(((self.chords + 1) * self.beat + RELEASE) * self.audio.rate)
        with tempfile.TemporaryDirectory() as folder:
            midi, wav = Path(folder) / "in.mid", Path(folder) / "out.wav"
            midi.write_bytes(midi_file(item.how, self.beat))
            options = ["-ni", "-q", "-r", "44100", "-T", "wav", "-F", str(wav)]
            done = subprocess.run(
                [program, *options, str(font), str(midi)], capture_output=True, check=False
            )
            if not wav.is_file():
                said = done.stderr.decode(errors="replace").strip().splitlines() or ["no output"]
                raise OSError(f"fluidsynth failed: {said[-1]}; check the sound font {font}")
            read = read_recording(wav, self.audio.rate, self.audio.channels)
        sound = read.samples[:wanted]
        missing = ((0, wanted - len(sound)), *((0, 0),) * (sound.ndim - 1))
        return Recording(np.pad(sound, missing), False, ())

    def _player(self) -> tuple[str, Path]:
        """Returns the paths of the program fluidsynth and of the sound font."""
        program = shutil.which("fluidsynth")
        folder = Path("/usr/share/sounds/sf2")
        known = [local_path(self.soundfont)] if self.soundfont else [folder / f for f in SOUNDFONTS]
        font = next((file for file in known if file.is_file()), None)
        if program is None or font is None:
            lacking = "the program fluidsynth" if program is None else f"a sound font ({known[0]})"
            raise FileNotFoundError(
                f"Chorales needs {lacking}, which is not installed; run `apt-get install "
                "fluidsynth timgm6mb-soundfont`"
            )
        return program, font


def compose(generator: np.random.Generator, count: int) -> tuple[Chord, ...]:
    """Returns `count` random chords in a random major key."""
    tonic, degrees = int(generator.integers(12)), [0]
    while len(degrees) < count - 2:
        degrees.append(int(generator.choice(NEXT[degrees[-1]])))
    degrees = [*degrees, 4, 0][-count:]
    chords: list[Chord] = []
    for degree in degrees:
        tones = [(tonic + SCALE[(degree + step) % 7]) % 12 for step in (0, 2, 4)]
        options = voicings(tones)
        costs = [_cost(chords[-1], chord) if chords else 0.0 for chord in options]
        chords.append(options[int(np.argmin(costs + 4.0 * generator.random(len(options))))])
    return tuple(chords)


def voicings(tones: Sequence[int]) -> list[Chord]:
    """Returns all chords of the given pitch classes with the first one in the bass.

    A chord contains all pitch classes, its voices do not cross, and neighbours among the upper
    three voices are at most an octave apart.

    Args:
        tones: root, third and fifth, from 0 (C) to 11 (B).
    """
    root, every = tones[0], set(tones)
    notes = [
        [n for n in range(low, high + 1) if n % 12 == root or (voice and n % 12 in every)]
        for voice, (low, high) in enumerate(RANGES)
    ]
    return [
        chord
        for chord in itertools.product(*notes)
        if {note % 12 for note in chord} == every
        and chord[0] < chord[1] < chord[2] < chord[3]
        and max(chord[2] - chord[1], chord[3] - chord[2]) <= 12
    ]


def _cost(before: Chord, after: Chord) -> float:
    """Returns the motion of all voices in semitones; parallel fifths and octaves are penalised."""
    moves = [b - a for a, b in zip(before, after, strict=True)]
    parallel = sum(
        moves[low] == moves[high] != 0 and (before[high] - before[low]) % 12 in (0, 7)
        for low, high in itertools.combinations(range(4), 2)
    )
    return sum(map(abs, moves[1:])) + 0.5 * abs(moves[0]) + 100.0 * parallel


def name_of(note: int) -> str:
    """Returns the name of a note, such as "C#4" for 61."""
    return f"{NAMES[note % 12]}{note // 12 - 1}"


def notes_of(text: str) -> list[list[int]]:
    """Returns the notes of each chord of a score's text; other words are ignored."""
    numbers = {name_of(note): note for note in range(12, 120)}
    return [[numbers[n] for n in part.split() if n in numbers] for part in text.split("|")]


def midi_file(score: Score, beat: float) -> bytes:
    """Returns a piece as a MIDI file of format 0."""
    events = [(0, bytes([0xFF, 0x51, 3]) + round(beat * 1e6).to_bytes(3, "big"))]
    events.append((0, bytes([0xC0, INSTRUMENTS[score.instrument]])))
    last = len(score.chords) - 1
    for number, chord in enumerate(score.chords):
        end = (number + (2 if number == last else 1)) * TICKS - 10  # a repeated note sounds again
        for note in chord:
            events.append((number * TICKS, bytes([0x90, note, 90])))
            events.append((end, bytes([0x80, note, 0])))
    end = (last + 2) * TICKS + round(RELEASE / beat * TICKS)
    events.append((end, bytes([0xFF, 0x2F, 0])))
    events.sort(key=lambda event: event[0])
    track, time = b"", 0
    for at, message in events:
        track, time = track + _variable(at - time) + message, at
    header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS)
    return header + b"MTrk" + struct.pack(">I", len(track)) + track


def _variable(number: int) -> bytes:
    """Returns a number as a MIDI variable-length quantity: 7 bits in each byte."""
    parts = [number & 0x7F]
    while number := number >> 7:
        parts.append(number & 0x7F | 0x80)
    return bytes(reversed(parts))
