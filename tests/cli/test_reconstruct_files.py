"""`vqdit reconstruct --input`: recordings of other forms and pictures, their files and numbers."""

import json

import numpy as np
import pytest
import soundfile
from PIL import Image

import vqdit
from vqdit.cli.main import main
from vqdit.cli.report.sound_pictures import draw_mels, mel_levels
from vqdit.data import Digits

RATE = 8000


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder, times = tmp_path_factory.mktemp("recordings"), np.arange(4001) / RATE
    tone = 0.4 * np.sin(2 * np.pi * 770 * times)
    soundfile.write(folder / "own.wav", tone[:1234], RATE, subtype="PCM_16")
    stereo = np.stack([tone, tone[::-1]], axis=1)
    soundfile.write(folder / "other.flac", stereo[:1000], 2 * RATE)
    soundfile.write(folder / "other.wav", tone[:1234], RATE)
    (folder / "broken.wav").write_text("no sound")
    soundfile.write(folder / "empty.wav", tone[:0], RATE)
    (folder / "notes.txt").write_text("not read")
    return folder


@pytest.fixture(scope="module")
def sounds(joint):
    """The workdir of a tokenizer of tones."""
    return joint.parent / "audio"


def test_recordings_of_any_form_are_written_and_measured(sounds, recordings, tmp_path, capsys):
    out = tmp_path / "out"
    argv = [f"--workdir={sounds}", f"--input={recordings}", f"--out={out}", "--codebooks=1"]
    assert main(["reconstruct", *argv]) == 1
    printed, errors = capsys.readouterr()
    assert errors.count("left out: ") == 2
    assert "broken.wav" in errors and "empty.wav is empty" in errors
    assert "resampled to 8000 Hz: 1 of 5 files\n  mixed down to mono: 1 of 5 files" in printed
    record = json.loads((out / "metrics.json").read_text())
    assert [key.rpartition("/")[2] for key in record["failed"]] == ["broken.wav", "empty.wav"]
    names = {"other.flac": 500, "other.wav": 1234, "own": 1234}
    for row, (name, length) in zip(record["files"], names.items(), strict=True):
        found, rate = soundfile.read(out / f"{name}_reconstruction.wav", dtype="int16")
        assert rate == RATE and found.shape == (length,)
        assert row["seconds"] == length / RATE
        assert row["kbit_per_s"] == pytest.approx(1e-3 * 4 * -(-length // 160) * RATE / length)
        assert np.asarray(Image.open(out / f"{name}_mel.png")).shape[1] > 500
    assert [len(row["changes"]) for row in record["files"]] == [2, 0, 0]
    mean = record["mean"]
    assert mean["si_sdr"] == pytest.approx(np.mean([row["si_sdr"] for row in record["files"]]))
    assert 0.0 < mean["kbit_per_s_entropy"] < mean["kbit_per_s"]

    x, _ = soundfile.read(recordings / "own.wav", dtype="float32")
    tokenizer = vqdit.load(sounds)
    expected = tokenizer.decode(tokenizer.encode(x[None]), length=1234)[0]
    y, _ = soundfile.read(out / "own_reconstruction.wav", dtype="int16")
    np.testing.assert_allclose(y, expected, atol=1)
    x, y = x.astype(float) - x.mean(), y / 32768 - np.mean(y / 32768)
    part = (x @ y) / (x @ x) * x
    ratio = 10 * np.log10(np.sum(part**2) / np.sum((y - part) ** 2))
    own = record["files"][2]
    assert own["si_sdr"] == pytest.approx(ratio, abs=0.2)  # of samples that are rounded
    assert own["mel_distance"] > 0.0 and own["stft_distance"] > 0.0


def test_pictures_are_reconstructed_too_and_earlier_results_removed(trained, tmp_path):
    digits, out = Digits().split("test").take(np.arange(2))["image"], tmp_path / "out"
    (tmp_path / "digits").mkdir()
    out.mkdir()
    for name in ("metrics.json", "c_mel.png", "mine.png"):
        (out / name).write_text("from an earlier run")
    for name, digit in zip("ab", digits, strict=True):
        Image.fromarray(digit[..., 0]).save(tmp_path / "digits" / f"{name}.png")
    argv = ["reconstruct", f"--workdir={trained}/runs", f"--out={out}"]
    assert main([*argv, f"--input={tmp_path / 'digits'}"]) == 0
    tokenizer = vqdit.load(trained / "runs/tokenizer")
    expected = np.asarray(tokenizer.decode(tokenizer.encode(digits)))
    found = [np.asarray(Image.open(out / f"{name}_reconstruction.png")) for name in "ab"]
    np.testing.assert_array_equal(np.stack(found), expected[..., 0])
    record = json.loads((out / "metrics.json").read_text())
    mse = np.mean((digits / 255 - expected / 255) ** 2, axis=(1, 2, 3))
    values = [row["psnr"] for row in record["files"]]
    np.testing.assert_allclose(values, -10 * np.log10(mse), rtol=1e-4)
    assert record["mean"]["bits_per_pixel"] == 16 * 4 / 64
    assert (out / "mine.png").exists() and not (out / "c_mel.png").exists()


def test_bad_input_is_refused_before_anything_is_computed(
    sounds, recordings, trained, refused, tmp_path
):
    given = ["reconstruct", f"--workdir={sounds}", f"--out={tmp_path / 'out'}"]
    assert refused(*given, f"--input={recordings}", "--codebooks=2") == (
        "codebooks must be from 1 to the number of trained codebooks, got 2; the tokenizer "
        "has 1 codebooks"
    )
    assert refused(*given, "--codebooks=1").startswith(
        "--codebooks is only for files; give files with"
    )
    assert refused(*given, f"--input={tmp_path / 'none'}") == f"no sound {tmp_path / 'none'}"
    assert refused(*given, f"--input={tmp_path}").startswith(f"no sound in the folder {tmp_path}")
    assert refused(*given, f"--input={recordings}", "--split=test").startswith(
        "--split is for the data"
    )
    same = f"--out={recordings} is the folder of --input; choose another one"
    argv = ["reconstruct", f"--workdir={sounds}", f"--input={recordings}", f"--out={recordings}"]
    assert refused(*argv) == same
    assert main([*given, f"--input={recordings / 'broken.wav'}"]) == 2
    assert not list((tmp_path / "out").glob("*"))
    picture = ["reconstruct", f"--workdir={trained}/runs", f"--input={recordings}"]
    assert refused(*picture).startswith(f"no picture in the folder {recordings}")


def test_a_spectrogram_shows_a_sine_at_its_frequency_and_level():
    rate = 16000
    sine = np.round(16384 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)).astype(np.int16)
    level = mel_levels(sine, rate)
    edges = 700 * (10 ** (np.linspace(0, np.log10(1 + 8000 / 700), len(level) + 2)) - 1)
    strongest = np.argmax(level[:, len(level[0]) // 2])
    assert edges[strongest] < 1000 < edges[strongest + 2]
    assert level.max() == pytest.approx(-6.0, abs=4.0)  # a band has several lines of the window
    figure = draw_mels({"original": sine, "reconstruction": sine[:8000]}, rate)
    axes, other, _ = figure.axes
    assert axes.get_xlim() == (0.0, 1.0) and other.get_title() == "reconstruction"
    ticks = dict(
        zip([t.get_text() for t in axes.get_yticklabels()], axes.get_yticks(), strict=True)
    )
    assert abs(ticks["1000"] - (strongest + 0.5)) < 1.0
