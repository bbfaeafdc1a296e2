"""Clips: files of any kind become one form, or are refused by what is wrong with them."""

import io
import re
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image as Pillow

from vqdit.modalities import Video, video_files, videos
from vqdit.modalities.base import LeftOut
from vqdit.modalities.sounds import read_sound
from vqdit.modalities.video_files import gif, mp4
from vqdit.modalities.videos import Form, read_clip

GREY = Form((4, 6), 1, 8.0, "crop")


def levels(count, size=(4, 6), channels=1):
    """Frames of one level each: frame i has the level 10 i."""
    each = np.arange(count, dtype=np.uint8)[:, None, None, None] * 10
    return np.broadcast_to(each, (count, *size, channels)).copy()


def encoded(
    frames, times, base=Fraction(1, 1000), form="matroska", codec="ffv1", pix="gray", **more
):
    """A lossless file, frame by frame with its time in units of `base`."""
    target = io.BytesIO()
    with av.open(target, "w", format=form) as container:
        stream = container.add_stream(codec, more.pop("rate", 8))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix
        stream.time_base = stream.codec_context.time_base = base
        for name, value in more.items():
            if name == "rotation":
                stream.set_display_rotation(value)
            else:
                setattr(stream.codec_context, name, value)
        for picture, time in zip(frames, times, strict=True):
            kind = "gray" if frames.shape[-1] == 1 else "rgb24"
            shown = picture[..., 0] if kind == "gray" else picture
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(shown), format=kind)
            frame.pts, frame.time_base = time, base
            container.mux(stream.encode(frame.reformat(format=pix)))
        container.mux(stream.encode())
    return target.getvalue()


def steps(content, most=99, form=GREY):
    """The number of the source's frame in every frame of the result."""
    read = read_clip(content, most, form)
    return (read.frames[:, 0, 0, 0] // 10).tolist(), read.is_longer


def test_a_file_of_the_same_rate_gives_its_frames():
    content = encoded(levels(9), range(0, 9 * 125, 125))
    assert steps(content) == ([*range(9)], False)
    assert steps(content, most=9) == ([*range(9)], False)
    assert steps(content, most=8) == ([*range(8)], True)
    assert read_clip(content, 9, GREY).changes == ()


def test_another_rate_takes_the_frames_nearest_in_time():
    twice = encoded(levels(9), np.arange(9) * 1000 // 16, rate=16)
    assert steps(twice) == ([0, 2, 4, 6, 8], False)
    assert read_clip(twice, 9, GREY).changes == ("frame rate changed to 8 per second",)
    half = encoded(
        levels(4), range(0, 1000, 250), rate=4
    )  # 0.125 s is as near to 0 as to 0.25: the first
    assert steps(half)[0] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_frames_of_variable_duration_keep_their_times():
    content = encoded(levels(5), [0, 40, 400, 460, 1000])  # in ms; one wants 0, 125, 250, 375, ...
    assert steps(content)[0][:8] == [0, 1, 2, 2, 3, 3, 4, 4]
    late = encoded(levels(5), [500, 540, 900, 960, 1500])  # as do those that begin late
    assert steps(late) == steps(content)


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_the_rotation_flag_of_phones_is_obeyed(degrees, turns):
    picture = np.zeros((1, 16, 32, 3), np.uint8)
    picture[:, :8, :8] = 250  # a light corner, at the top left
    content = encoded(picture, [0], Fraction(1, 8), "mov", "libx264rgb", "rgb24", rotation=degrees)
    size = (16, 32) if turns == 2 else (32, 16)
    read = read_clip(content, 1, Form(size, 3, 8.0, "crop"))
    assert read.changes == ("rotated",)
    assert np.abs(read.frames[0].astype(int) - np.rot90(picture[0], turns)).max() < 12


def test_pixels_that_are_not_square_are_made_so():
    wide = {"sample_aspect_ratio": Fraction(2, 1)}
    content = encoded(
        levels(2, (16, 16)), [0, 125], form="mp4", codec="libx264", pix="gray", **wide
    )
    read = read_clip(content, 2, Form((16, 32), 1, 8.0, "crop"))
    assert "pixels made square" in read.changes and "cropped" not in read.changes


def test_another_size_and_aspect_are_fitted_as_pictures_are():
    picture = np.random.default_rng(0).integers(0, 256, (1, 30, 50, 3), dtype=np.uint8)
    content = encoded(picture, [0], pix="bgr0")
    for how, change in (("crop", "cropped"), ("pad", "padded"), ("stretch", "stretched")):
        read = read_clip(content, 1, Form((7, 9), 3, 8.0, how))
        expected = videos.fit(picture[0], (7, 9), how)
        np.testing.assert_array_equal(read.frames[0], expected)
        assert read.changes == (change,)
    halved = read_clip(content, 1, Form((15, 25), 3, 8.0, "crop")).frames[0]
    mean = picture[0].reshape(15, 2, 25, 2, 3).mean(axis=(1, 3))
    np.testing.assert_array_equal(halved, np.round(mean))


def test_grey_is_that_of_pictures_and_transparency_is_white():
    picture = np.asarray([[[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 9, 9]]]], np.uint8)
    content = encoded(picture, [0], pix="bgr0")
    grey = read_clip(content, 1, Form((2, 2), 1, 8.0, "crop")).frames[0, ..., 0]
    np.testing.assert_array_equal(grey, np.asarray(Pillow.fromarray(picture[0]).convert("L")))
    file = io.BytesIO()
    Pillow.new("RGBA", (4, 4), (0, 0, 0, 0)).save(file, "GIF")
    assert read_clip(file.getvalue(), 1, Form((4, 4), 3, 8.0, "crop")).frames.min() == 255


def test_a_gif_has_the_times_of_its_frames():
    content = gif(levels(6), 8.0)
    assert steps(content, most=6)[0] == [*range(6)]


@pytest.mark.parametrize(
    ("form", "codec", "pix"),
    [("mp4", "libx264", "yuv444p"), ("mov", "mpeg4", "yuv420p"), ("webm", "libvpx-vp9", "yuv420p")],
)
def test_the_usual_formats_are_read(form, codec, pix):
    frames = levels(5, (32, 32), 3) + 40
    content = encoded(frames, range(5), Fraction(1, 8), form, codec, pix)
    read = read_clip(content, 9, Form((32, 32), 3, 8.0, "crop"))
    assert len(read.frames) == 5 and not read.is_longer
    assert np.abs(read.frames.astype(int) - frames).max() <= 6


def test_only_the_wanted_frames_are_decoded(monkeypatch):
    seen = []
    fitted = videos._fitted
    monkeypatch.setattr(videos, "_fitted", lambda frame, *a: seen.append(1) or fitted(frame, *a))
    content = encoded(levels(25), range(0, 25 * 125, 125))
    assert len(read_clip(content, 3, GREY).frames) == 3
    assert len(seen) == 4  # one more tells that it is longer


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(32, 32), (9, 14), (301, 257)])
def test_what_is_written_is_read_again_and_plays_everywhere(tmp_path, channels, size):
    y, x = np.mgrid[: size[0], : size[1]] / max(size)
    picture = 127 + 100 * np.sin(5 * x[..., None] + 7 * y[..., None] + np.arange(channels))
    frames = np.stack([np.roll(picture, i, axis=1) for i in range(5)]).astype(np.uint8)
    video = Video(frames=5, size=size, channels=channels)
    video.write(frames[None], tmp_path, "clip")
    (found,) = video.read(str(tmp_path / "clip_0000.mp4"))
    error = found.astype(float) - frames
    assert found.shape == frames.shape
    assert 10 * np.log10(255**2 / np.mean(error**2)) > (30 if size[0] % 2 else 38)
    with av.open(str(tmp_path / "clip_0000.mp4")) as container:
        (stream,) = container.streams
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert stream.width % 2 == stream.height % 2 == 0
        assert stream.average_rate == 8 and stream.frames == 5


def test_a_written_clip_has_its_sound():
    rate, seconds = 8000, 1.0
    tone = (16000 * np.sin(2 * np.pi * 440 * np.arange(rate * seconds) / rate)).astype(np.int16)
    content = mp4(levels(8, (32, 32), 3), 8.0, tone, rate)
    heard = read_sound(content, rate, 2 * rate).samples
    assert abs(len(heard) - rate) < 400
    assert abs(np.abs(np.fft.rfft(heard[:rate])).argmax() - 440) <= 1
    assert len(read_clip(content, 99, Form((32, 32), 3, 8.0, "crop")).frames) == 8
    stereo = mp4(levels(8, (32, 32), 3), 8.0, np.stack([tone, -tone], axis=1), rate)
    assert np.abs(read_sound(stereo, rate, rate, channels=1).samples.astype(int)).max() < 200


@pytest.mark.parametrize(
    ("outside", "count", "found"),
    [
        ("cut", 3, "last frame repeated up to 5 frames at 8 per second"),
        ("cut", 7, "cut to 5 frames at 8 per second"),
        ("skip", 3, "shorter than 5 frames at 8 per second"),
        ("error", 7, "the video is longer than 5 frames at 8 per second; change frames or fps, or"),
    ],
)
def test_videos_of_another_length_follow_the_policy(outside, count, found):
    video = Video(frames=5, size=(4, 6), channels=1, outside=outside)
    content = encoded(levels(count), range(0, count * 125, 125))
    if outside == "cut":
        stored, changes = video.read_cell(content)
        assert changes == (found,) and stored.shape == video.shape
        assert (stored[:, 0, 0, 0] // 10).tolist() == [min(i, count - 1) for i in range(5)]
    else:
        with pytest.raises(LeftOut if outside == "skip" else ValueError, match=re.escape(found)):
            video.read_cell(content)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "Invalid data found when processing input"),
        (b"no video at all" * 50, "Invalid data found when processing input"),
        (encoded(levels(3), [0, 125, 250])[:300], ""),
    ],
)
def test_what_cannot_be_decoded_is_named(tmp_path, content, why):
    file = tmp_path / "a.mp4"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="cannot decode the video .*a.mp4: ") as error:
        read_clip(file, 3, GREY)
    assert why in str(error.value) and str(error.value).endswith(
        "; convert it to MP4 (H.264), or remove it"
    )
    with pytest.raises(FileNotFoundError, match="no video "):
        read_clip(tmp_path / "b.mp4", 3, GREY)


def test_sounds_without_a_video_and_large_frames_are_refused(monkeypatch):
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        video_files._write_sound(container, container.add_stream("aac", 48000), np.zeros(48, "i2"))
    with pytest.raises(ValueError, match="the file has no video"):
        read_clip(target.getvalue(), 3, GREY)
    monkeypatch.setattr(videos, "PIXELS", 20)
    with pytest.raises(ValueError, match="frames have 6 x 4 pixels, but must have 1 to 20"):
        read_clip(encoded(levels(1), [0]), 3, GREY)


def test_invalid_times_end(monkeypatch):
    monkeypatch.setattr(videos, "MOST", 20)
    for times in ([0, 125, 10_000_000], range(30)):
        content = encoded(levels(len(times)), times)
        with pytest.raises(ValueError, match="its frames have invalid times near 0"):
            read_clip(content, 1000, GREY)


def test_an_av_without_the_codec_says_so(monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with pytest.raises(OSError, match="has no H.264 encoder; install av from PyPI"):
        mp4(levels(2), 8.0)


def test_the_contact_sheet_shows_evenly_spaced_frames():
    video = Video(frames=17, size=(4, 6), channels=1)
    (sheet,) = video.draw(levels(17)[None])
    inner = sheet[2:-2, 2:-2, 0][1::6, 1::8]  # within each frame, as gaps have two pixels
    np.testing.assert_array_equal(inner, np.arange(0, 17, 2).reshape(3, 3) * 10)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Video(frames=0), "Video needs frames >= 1, got 0"),
        (lambda: Video(size=(0, 4)), "Video needs size of at least one pixel, got (0, 4)"),
        (lambda: Video(fps=0.0), "Video needs fps from 0.01 to 1000, got 0.0"),
        (lambda: Video(channels=2), "Video needs channels 1 (grey) or 3 (colour), got 2"),
    ],
)
def test_bad_fields_are_refused_by_value(build, message):
    with pytest.raises(ValueError) as error:
        build()
    assert str(error.value) == message
