"""Augmentations of sounds: windows, gains and mixtures, the same on any number of processes."""

import numpy as np
import pytest

from vqdit.data import Affine, Crop, Data, Digits, Feature, Gain, Mixing, Source
from vqdit.ragged import ragged
from vqdit.typing import Named


class Ramps(Source):
    """Twenty sounds of different lengths; each sample says of which sound it is and where."""

    loud: int = 1

    def features(self):
        return Named(
            audio=Feature((200,), dtype="int16", ragged=True),
            stereo=Feature((4, 2), dtype="int16"),
            codes=Feature((3,), dtype="int16", encoded="x"),
            text=Feature((5,), dtype="int16", units="t h"),
            label=Feature((), 20),
        )

    def split(self, name):
        return self

    def __len__(self):
        return 20

    def take(self, rows):
        ramps = [self.loud * (1000 * row + np.arange(10 * row)).astype(np.int16) for row in rows]
        return {
            "audio": ragged(ramps),
            "stereo": np.full((len(rows), 4, 2), 100, np.int16),
            "codes": np.full((len(rows), 3), 7, np.int16),
            "text": np.full((len(rows), 5), 7, np.int16),
            "label": rows.astype(np.int32),
            "present_audio": rows != 7,
        }


def nothing(number):
    raise AssertionError("no other sound is needed")


def batch(*augment, step=0, size=8, **part):
    data = Data(source=Ramps(), augment=augment, batch_size=size)
    batches = data.train_batches(0, step, **part)
    try:
        return next(batches)
    finally:
        batches.close()


def sounds_of(found):
    return [row[m] for row, m in zip(found.data["audio"], found.mask["audio"], strict=True)]


def test_windows_are_parts_of_their_sounds_and_short_sounds_stay_whole():
    starts = set()
    for step in range(5):
        found = batch(Crop(samples=50), step=step)
        assert found.data["audio"].shape == (8, 50)
        for sound, row in zip(sounds_of(found), found.data["label"].tolist(), strict=True):
            if row == 7:
                continue
            assert len(sound) == min(50, 10 * row)
            begin = int(sound[0]) - 1000 * row if len(sound) else 0
            np.testing.assert_array_equal(sound, 1000 * row + begin + np.arange(len(sound)))
            assert begin + len(sound) <= 10 * row
            starts.add(begin)
    assert len(starts) > 10
    full = batch()
    assert full.data["audio"].shape == (8, 200)


def test_only_sounds_change_and_evaluation_has_whole_ones():
    found, plain = batch(Crop(samples=50), Gain(low=-6.0, high=-6.0)), batch()
    np.testing.assert_array_equal(found.data["stereo"], np.full((8, 4, 2), 50))
    for name in ("codes", "text", "label"):
        np.testing.assert_array_equal(found.data[name], plain.data[name])
    data = Data(source=Ramps(), augment=(Crop(samples=50),), batch_size=20)
    assert next(iter(data.split_batches("test"))).data["audio"].shape == (20, 200)


def test_the_batch_of_a_step_is_the_same_on_any_number_of_processes():
    augment = (Crop(samples=30), Gain(), Mixing(probability=0.7))
    whole = batch(*augment, step=3)
    parts = [batch(*augment, step=3, process_index=n, process_count=2) for n in range(2)]
    for name in ("audio", "stereo"):
        joined = np.concatenate([part.data[name] for part in parts])
        np.testing.assert_array_equal(joined, whole.data[name])


def test_gains_are_in_decibels_and_never_clip():
    sound, generator = np.asarray([1000, -20000], np.int16), np.random.default_rng(0)
    half = Gain(low=-20.0, high=-20.0).change(sound, generator, nothing)
    assert half.tolist() == [100, -2000]
    loud = Gain(low=20.0, high=20.0).change(sound, generator, nothing)
    assert loud.tolist() == [1638, -32767]
    gains = [Gain().change(np.asarray([1000], np.int16), generator, nothing)[0] for _ in range(99)]
    assert 251 <= min(gains) < 300 and 1800 < max(gains) <= 1996


def test_mixtures_are_sums_with_another_sound_at_its_level():
    mixing, generator = (
        Mixing(probability=1.0, softest=-20.0, loudest=-20.0),
        np.random.default_rng(0),
    )
    asked = []

    def another(number):
        asked.append(number)
        return np.full(3, 1000, np.int16)

    found = mixing.change(np.asarray([1, 2, 3, 4], np.int16), generator, another)
    assert found.tolist() == [101, 102, 103, 4]
    longer = mixing.change(np.asarray([1, 2], np.int16), generator, another)
    assert longer.tolist() == [101, 102]
    assert len(set(asked)) == 2
    loud = mixing.change(np.full(2, 32767, np.int16), generator, another)
    assert loud.tolist() == [32767, 32767]
    rare = Mixing(probability=0.25)
    mixed = [rare.change(np.zeros(2, np.int16), generator, another).any() for _ in range(400)]
    assert 60 < sum(mixed) < 140


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Data(source=Ramps(), augment_given=(Gain(),)), "move Gain to augment"),
        (
            Data(source=Digits(), augment=(Affine(), Crop())),
            "all sounds of 'audio' have one length",
        ),
        (Data(source=Ramps(), augment=(Crop(),)), "all sounds of 'stereo' have one length"),
    ],
)
def test_what_cannot_be_applied_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        data.check()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Crop(samples=0), "Crop needs samples >= 1, got 0"),
        (lambda: Gain(low=3.0, high=2.0), "Gain needs low <= high, got 3.0"),
        (lambda: Mixing(probability=1.5), r"Mixing needs probability in \[0, 1\], got 1.5"),
        (lambda: Mixing(softest=1.0), "Mixing needs softest <= loudest, got 1.0"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
