"""Videos of any length become the clips that their owner meant, with their captions and sounds."""

import csv

import numpy as np
import pytest
import soundfile

from vqdit.data import Table, VideoFolder
from vqdit.data.builders.description import remarks
from vqdit.data.sources import PRESENT, SPLITS
from vqdit.modalities import Audio, Text, Video
from vqdit.modalities.video_files import gif, mp4
from vqdit.typing import Named

VIDEO = Video(frames=4, size=(16, 16), channels=1, outside="skip")
RATE = 8000


@pytest.fixture(autouse=True)
def folder(data_folder, tmp_path):
    return tmp_path / "videos"


def frames(number, count=4):
    """Frame i of video n has the level 10 n + 2 i."""
    level = 10 * number + 2 * np.arange(count)
    return np.broadcast_to(level[:, None, None, None], (count, 16, 16, 1)).astype(np.uint8)


def twelve(folder, count=lambda number: 4, group=lambda number: "", sound=None):
    for number in range(12):
        place = folder / group(number) / f"{number:02d}_a_b.mp4"
        place.parent.mkdir(parents=True, exist_ok=True)
        clip = frames(number, count(number))
        place.write_bytes(mp4(clip, 8.0, sound(number) if sound else None, RATE))


def levels(source):
    """The level of each frame of each example of all splits."""
    found = [source.split(split).take(np.arange(len(source.split(split)))) for split in SPLITS]
    clips = np.concatenate([part["video"] for part in found])
    return clips.mean(axis=(2, 3, 4)), found


def matches(clips, *expected):
    """Whether the clips are these frames, in any order."""
    wanted = np.concatenate(expected).mean(axis=(2, 3, 4))
    clips = clips[np.lexsort(clips.T[::-1])]
    return clips.shape == wanted.shape and np.abs(clips - wanted).max() < 3


def tone(frequency, seconds):
    wave = np.sin(2.0 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)
    return (16000 * wave).astype(np.int16)


def pitch(sound):
    return np.abs(np.fft.rfft(sound)).argmax() * RATE / len(sound)


def test_classes_splits_and_captions(folder):
    twelve(folder, group=lambda number: "ab"[number % 2])
    (folder / "a" / "notes.txt").write_text("belongs to no video")
    (folder / "b" / "x.pdf").write_text("")
    source = VideoFolder(path=str(folder), video=VIDEO, captions="names")
    assert [len(source.split(split)) for split in SPLITS] == [10, 1, 1]
    assert source.features()["label"].names == ("a", "b")
    clips, found = levels(source)
    assert matches(clips, *(frames(number)[None] for number in range(12)))
    for part in found:
        number = np.round(part["video"][:, 0].mean(axis=(1, 2, 3)) / 10).astype(int)
        np.testing.assert_array_equal(part["label"], number % 2)
        assert [bytes(t).decode() for t in part["text"]] == [f"{n:02d} a b" for n in number]
    assert "left out, because of their endings: 1 .pdf, 1 .txt" in remarks(source.prepare())


def test_captions_in_files(folder):
    twelve(folder)
    for number in range(11):
        (folder / f"{number:02d}_a_b.txt").write_text(f" a  caption\n{number} ")
    source = VideoFolder(path=str(folder), video=VIDEO, captions="files")
    _, found = levels(source)
    texts = [bytes(text).decode() for part in found for text in part["text"]]
    assert sorted(texts)[:3] == ["", "a caption 0", "a caption 1"]
    assert sum(part[PRESENT + "text"].sum() for part in found) == 11
    key = source.key()
    (folder / "11_a_b.txt").write_text("another")
    assert source.key() != key


def test_longer_videos_are_divided_and_shorter_ones_left_out(folder):
    twelve(folder, count=lambda number: {0: 10, 1: 3}.get(number, 4))
    source = VideoFolder(path=str(folder), video=VIDEO)
    long = frames(0, 10)
    clips, _ = levels(source)
    others = [frames(number)[None] for number in range(2, 12)]
    assert matches(clips, long[None, :4], long[None, 4:8], long[None, 6:], *others)
    said = remarks(source.prepare())
    assert "divided into clips of 4 frames: 1" in said
    assert "left out, shorter than 4 frames at 8 per second: 1" in said
    cut = VideoFolder(path=str(folder), video=Video(**dict(
        frames=4, size=(16, 16), channels=1, outside="cut")), divide=False)  # fmt: skip
    clips, _ = levels(cut)
    short = np.concatenate([frames(1, 3), frames(1, 3)[-1:]])
    assert matches(clips, long[None, :4], short[None], *others)


def test_each_clip_has_the_sound_of_its_time(folder):
    def sound(number):
        if number == 1:
            return None
        return np.concatenate([tone(400 + 40 * number, 0.5), tone(1200, 0.5)])

    twelve(folder, count=lambda number: 8, sound=sound)
    beside = np.concatenate([tone(600, 0.5), tone(640, 0.5)])
    soundfile.write(folder / "02_a_b.wav", beside, RATE)
    audio = Audio(rate=RATE, samples=4000, outside="cut")
    source = VideoFolder(path=str(folder), video=VIDEO, audio=audio)
    _, found = levels(source)
    seen = set()
    for part in found:
        for clip, heard, has in zip(
            part["video"], part["audio"], part[PRESENT + "audio"], strict=True
        ):
            number = int(clip[0].mean() + 1.5) // 10
            is_first = clip[0].mean() - 10 * number < 4
            if number == 1:
                assert not has
                continue
            expected = 400 + 40 * number if is_first else 1200
            expected = (600 if is_first else 640) if number == 2 else expected
            assert has and abs(pitch(heard[800:3200]) - expected) < 10
            seen.add((number, is_first))
    assert len(seen) == 22
    assert "without sound: 1" in remarks(source.prepare())


def test_what_cannot_be_read_is_refused_or_left_out(folder):
    twelve(folder)
    (folder / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match="cannot decode the video .*bad.mp4: Invalid.*; or leave"):
        VideoFolder(path=str(folder), video=VIDEO).split("train")
    source = VideoFolder(path=str(folder), video=VIDEO, on_error="skip")
    assert sum(len(source.split(split)) for split in SPLITS) == 12
    assert any("bad.mp4" in line for line in remarks(source.prepare()))
    (folder / "bad.mp4").unlink()
    audio = Audio(rate=RATE, samples=4000)
    with pytest.raises(ValueError, match="no video of a split of .* has a sound; remove `audio`"):
        VideoFolder(path=str(folder), video=VIDEO, audio=audio).split("train")
    with pytest.raises(ValueError, match="no video in .*; the names of files must end in .mp4"):
        (folder / "empty").mkdir()
        VideoFolder(path=str(folder / "empty")).split("train")


def test_a_column_of_a_table_may_be_videos(folder):
    twelve(folder)
    (folder / "00_a_b.gif").write_bytes(gif(frames(0), 8.0))
    (folder / "00_a_b.mp4").unlink()
    with (folder / "rows.csv").open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["clip", "text"])
        for file in sorted(folder.glob("*_a_b.*")):
            writer.writerow([file.name, file.stem])
    columns = Named(clip=VIDEO, text=Text(length=16))
    source = Table(path=str(folder / "rows.csv"), columns=columns)
    assert source.features()["clip"].shape == (4, 16, 16, 1)
    found = [source.split(split).take(np.arange(len(source.split(split)))) for split in SPLITS]
    clips = np.concatenate([part["clip"] for part in found]).mean(axis=(2, 3, 4))
    assert matches(clips, *(frames(number)[None] for number in range(12)))
