"""Moving garments: each goes where its label, caption and tone say, and is the same every time."""

import math
import re

import numpy as np
import pytest

from tests.data.garments import put
from vqdit.data import MovingFashion
from vqdit.data.moving_fashion import LOWEST, Motion, caption, render
from vqdit.data.sources import take
from vqdit.modalities import Audio, Text, Video

VIDEO = Video(frames=9, size=(24, 32), channels=1)


def blob(count):
    """Garments that are a disc, so that their centre of mass is where they are."""
    y, x = np.mgrid[:28, :28] - 13.5
    disc = (255 * (y**2 + x**2 < 60)).astype(np.uint8)
    return np.repeat(disc[None], count, 0), np.arange(count, dtype=np.uint8) % 10


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moving")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VQDIT_DATA", str(folder / "prepared"))
        put(folder / "raw", blob(60), blob(20)).prepare()
        yield str(folder / "raw")


def centres(clips):
    """Centre of mass of each frame: y and x."""
    weight = clips.astype(float).sum(axis=-1)
    y, x = np.mgrid[: clips.shape[2], : clips.shape[3]]
    total = weight.sum(axis=(2, 3))
    return np.stack([(weight * place).sum(axis=(2, 3)) / total for place in (y, x)], axis=-1)


@pytest.mark.parametrize("directions", [4, 8])
def test_they_begin_in_the_direction_that_all_columns_name(raw, directions):
    source = MovingFashion(path=raw, video=VIDEO, directions=directions)
    found = take(source.split("train"), np.arange(40), source.features())
    assert {*found["direction"].tolist()} == {*range(directions)}
    y, x = (centres(found["video"])[:, 4] - centres(found["video"])[:, 0]).T
    turns = np.arctan2(-y / (24 - 12), x / (32 - 12)) / (2.0 * math.pi) * directions
    np.testing.assert_array_equal(np.round(turns).astype(int) % directions, found["direction"])
    for text, label, direction in zip(
        found["text"], found["label"], found["direction"], strict=True
    ):
        said = bytes(text).rstrip(b"\0").decode()
        assert said == caption(int(label), source.names[direction])
    rate = source.audio.rate
    for sound, direction in zip(found["audio"], found["direction"], strict=True):
        count = round(9 / 8 * rate)
        assert not sound[count:].any()  # as long as the clip
        peak = np.abs(np.fft.rfft(sound[:count])).argmax() * rate / count
        assert abs(peak / (LOWEST * 2.0 ** (direction * 2 / directions)) - 1.0) < 0.01


def test_they_bounce_and_stay_within_the_frame(raw):
    clips = MovingFashion(path=raw, video=VIDEO, columns=("video",)).split("train")
    places = centres(clips.take(np.arange(50))["video"])
    assert places[..., 0].min() > 5 and places[..., 0].max() < 18  # the edge of garments is 12
    assert places[..., 1].min() > 5 and places[..., 1].max() < 26
    steps = np.diff(places, axis=1)
    bounces = (np.sign(steps[:, 0]) != np.sign(steps[:, -1])) & (np.abs(steps[:, 0]) > 0.3)
    assert 5 < bounces.any(axis=-1).sum() < 45


def test_an_l_turns_counterclockwise_about_its_centre():
    garment = np.zeros((28, 28), np.uint8)
    garment[:14, :7] = 255  # the upper left
    motion = Motion(0, (0.5, 0.0), 0.0, math.pi / 2, 0.0, 0.0)
    source = MovingFashion(video=Video(frames=2, size=(28, 28), channels=1), scale=1.0)
    first, last = render(garment, motion, source)
    np.testing.assert_array_equal(first[..., 0], garment)
    np.testing.assert_allclose(last[..., 0], np.rot90(garment), atol=1)


def test_a_clip_depends_on_seed_split_and_row_alone(raw):
    source = MovingFashion(path=raw, video=VIDEO)
    one = source.split("train").take(np.asarray([3, 7]))
    again = source.split("train").take(np.asarray([7, 7, 1]))
    for name in one:
        np.testing.assert_array_equal(one[name][1], again[name][0])
    others = (
        MovingFashion(path=raw, video=VIDEO, seed=1).split("train"),
        source.split("test"),
    )
    for other in others:
        assert (other.take(np.asarray([3, 7]))["video"] != one["video"]).any()
    assert source.fingerprint() == MovingFashion(path=raw, video=VIDEO).fingerprint()
    assert source.fingerprint() != MovingFashion(path=raw, video=VIDEO, seed=1).fingerprint()


def test_columns_have_the_forms_of_their_modalities(raw):
    source = MovingFashion(
        path=raw,
        columns=("audio", "text", "video"),
        video=Video(frames=3, size=(16, 16)),
        audio=Audio(rate=4000, seconds=(0.1, 0.2), channels=2),
        text=Text(length=40, variable=True),
    )
    found = take(source.split("test"), np.arange(2), source.features())
    assert found["video"].shape == (2, 3, 16, 16, 3)
    assert [sound.shape for sound in found["audio"]] == [(800, 2)] * 2
    assert {len(text) for text in found["text"]} <= {*range(10, 35)}
    assert found["video"].std(axis=-1).max() > 10  # they are coloured


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"columns": ("video", "sound")}, "needs columns of video, text, audio, label, direction"),
        ({"columns": ("video", "video")}, "each at most once, got ('video', 'video')"),
        ({"directions": 6}, "MovingFashion needs directions 4 or 8, got 6"),
        ({"scale": 2.0}, "MovingFashion needs scale from 0.1 to 1, got 2.0"),
        ({"seed": -1}, "MovingFashion needs seed >= 0, got -1"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        MovingFashion(**fields)
