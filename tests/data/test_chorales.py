"""Chorales: voices that keep the rules, scores that are what is played, and text that says both."""

import itertools
import shutil

import numpy as np
import pytest

from vqdit.data import Chorales
from vqdit.data.chorales import (
    INSTRUMENTS,
    RANGES,
    TICKS,
    Score,
    compose,
    midi_file,
    name_of,
    notes_of,
    voicings,
)
from vqdit.modalities import Audio

needs_player = pytest.mark.skipif(shutil.which("fluidsynth") is None, reason="needs fluidsynth")


def test_voices_stay_in_their_ranges_and_do_not_cross():
    for chord in voicings((0, 4, 7)):
        assert chord[0] % 12 == 0 and {note % 12 for note in chord} == {0, 4, 7}
        assert list(chord) == sorted(chord)
        assert all(low <= note <= high for note, (low, high) in zip(chord, RANGES, strict=True))
    assert all(voicings([(t + s) % 12 for s in (0, 3, 6)]) for t in range(12))


def test_pieces_end_with_dominant_and_tonic_without_parallels():
    pieces = [compose(np.random.default_rng(seed), 8) for seed in range(6)]
    for piece in pieces:
        assert len(piece) == 8
        assert (piece[-2][0] - piece[-1][0]) % 12 == 7 and piece[0][0] % 12 == piece[-1][0] % 12
        for before, after in itertools.pairwise(piece):
            for low, high in itertools.combinations(range(4), 2):
                moves = after[low] - before[low], after[high] - before[high]
                fifth = (before[high] - before[low]) % 12 in (0, 7)
                assert not (fifth and moves[0] == moves[1] != 0)
    assert len(set(pieces)) == 6


def test_the_text_is_the_score():
    assert [name_of(note) for note in (60, 61, 57, 12)] == ["C4", "C#4", "A3", "C0"]
    score = Score(((48, 55, 64, 72), (43, 55, 62, 71)), "piano")
    assert score.text == "C3 G3 E4 C5|G2 G3 D4 B4"
    assert notes_of(score.text) == [list(chord) for chord in score.chords]
    assert notes_of("C4 X9|") == [[60], []]


def test_the_midi_file_has_the_notes_at_their_times():
    score = Score(((48, 55, 64, 72), (43, 55, 62, 71)), "organ")
    content = midi_file(score, beat=0.25)
    assert content[:14] == b"MThd\0\0\0\6\0\0\0\1" + TICKS.to_bytes(2, "big")
    assert int.from_bytes(content[18:22], "big") == len(content) - 22
    track, at, time, played = content[22:], 0, 0, []
    while at < len(track):
        delta = 0
        while True:
            delta = delta << 7 | track[at] & 0x7F
            at += 1
            if track[at - 1] < 0x80:
                break
        time += delta
        kind = track[at]
        if kind == 0xFF:
            if track[at + 1] == 0x51:
                assert int.from_bytes(track[at + 3 : at + 6], "big") == 250_000
            at += 3 + track[at + 2]
        elif kind == 0xC0:
            assert track[at + 1] == INSTRUMENTS["organ"]
            at += 2
        else:
            played.append((time, kind == 0x90, track[at + 1]))
            at += 3
    for number, chord in enumerate(score.chords):
        starts = [note for when, is_on, note in played if is_on and when == number * TICKS]
        assert sorted(starts) == sorted(chord)
    ends = {when for when, is_on, _ in played if not is_on}
    assert ends == {TICKS - 10, 3 * TICKS - 10} and time == 3 * TICKS + 2 * TICKS


def test_without_its_programs_their_command_is_named(monkeypatch, data_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="apt-get install fluidsynth timgm6mb-soundfont"):
        Chorales(soundfont=str(tmp_path / "none.sf2")).features() and Chorales().items()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match="Chorales needs the program fluidsynth"):
        Chorales().items()


@needs_player
def test_what_is_played_has_the_pitches_of_the_score(data_folder):
    source = Chorales(count=10, chords=2, audio=Audio(rate=16000, samples=32000))
    taken = source.split("train").take(np.arange(8))
    right, wrong = 0.0, 0.0
    for sound, text, label in zip(taken["audio"], taken["text"], taken["label"], strict=True):
        chords = notes_of(bytes(text).decode())
        assert len(chords) == 2 and source.classes()[label] in INSTRUMENTS
        for number, chord in enumerate(chords):
            part = sound[number * 8000 + 1000 : number * 8000 + 7000] * np.hanning(6000)
            spectrum = np.abs(np.fft.rfft(part, 64000))  # bins of a quarter of a hertz

            def peaks(shift, chord=chord, spectrum=spectrum):
                """The sum of the peaks at the notes of the chord, moved by semitones."""
                places = [round(4 * 440.0 * 2 ** ((n + shift - 69) / 12)) for n in chord]
                return sum(spectrum[place - 8 : place + 9].max() for place in places)

            right, wrong = right + peaks(0), wrong + max(peaks(-1), peaks(1))
    assert right > 3.0 * wrong
    assert len(source.split("test")) == 1


def test_data_of_another_sound_font_are_other_data(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: name)
    keys = {Chorales().key()}
    for size in (1, 2):
        (tmp_path / f"{size}.sf2").write_bytes(b"x" * size)
        keys.add(Chorales(soundfont=str(tmp_path / f"{size}.sf2")).key())
    assert len(keys) == 3
