"""`vqdit reconstruct`: its numbers against NumPy, its files, and what it refuses."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from PIL import Image

import vqdit
from vqdit.cli.main import main
from vqdit.cli.report.codebook_pictures import appearance, count_codes, draw_use
from vqdit.data import Digits
from vqdit.inference.tokenizer import Tokenizer
from vqdit.modalities import Image as DigitsImage
from vqdit.modalities.drawing import side_by_side, tile
from vqdit.tasks import TokenizerTask


@pytest.fixture(scope="module")
def made(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("reconstruct") / "out"
    assert main(["reconstruct", f"--workdir={trained}/runs", f"--out={out}"]) == 0
    return out


def test_all_of_the_test_split_is_reconstructed_by_the_last_tokenizer(made, trained):
    with np.load(made / "reconstructions.npz") as arrays:
        expected = Digits().split("test").take(np.arange(180))["image"]
        np.testing.assert_array_equal(arrays["original"], expected)
        assert (arrays["reconstruction"].dtype, arrays["reconstruction"].shape) == (
            np.uint8,
            (180, 8, 8, 1),
        )
        assert (arrays["codes"].dtype, arrays["codes"].shape) == (np.int32, (180, 4, 4, 1))
    record = json.loads((made / "metrics.json").read_text())
    assert record["workdir"] == f"{trained}/runs/tokenizer"
    assert (record["step"], record["split"]) == (8, "test")


def test_the_numbers_are_those_of_the_arrays(made):
    with np.load(made / "reconstructions.npz") as arrays:
        x, y = (arrays[name].astype(np.float64) / 255 for name in ("original", "reconstruction"))
        codes = arrays["codes"]
    record = json.loads((made / "metrics.json").read_text())
    mse = ((x - y) ** 2).mean(axis=(1, 2, 3))
    # The arrays are rounded to 8 bits, the metric is not: 0.29 levels of noise against some 40.
    assert record["psnr"] == pytest.approx(np.mean(-10 * np.log10(mse)), abs=2e-3)
    count = np.bincount(codes.reshape(-1), minlength=16)
    share = count[count > 0] / count.sum()
    assert record["codebook_usage"] == np.mean(count > 0)
    assert record["codebook_perplexity"] == pytest.approx(np.exp(-(share * np.log(share)).sum()))


def test_originals_stand_above_reconstructions(made):
    with np.load(made / "reconstructions.npz") as arrays:
        picture = side_by_side(arrays["original"][:64], arrays["reconstruction"][:64], columns=16)
    np.testing.assert_array_equal(
        np.asarray(Image.open(made / "reconstructions.png")), picture[..., 0]
    )


def test_what_was_made_is_said(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["reconstruct", f"--workdir={trained}/runs/tokenizer", "--split=validation"]) == 0
    record = json.loads((tmp_path / "reconstructions/metrics.json").read_text())
    first, second, *files = capsys.readouterr().out.splitlines()
    assert first == f"180 examples of the validation split, {trained}/runs/tokenizer at step 8"
    assert f"psnr {record['psnr']:.4g}" in second
    assert f"codebook_perplexity {record['codebook_perplexity']:.4g}" in second
    assert files == [
        "  reconstructions/reconstructions.png: originals above their reconstructions",
        "  reconstructions/code_use.png: frequency of codes, the most frequent first",
        "  reconstructions/codebook.png: each code decoded, the most frequent first",
    ]
    assert {path.name for path in (tmp_path / "reconstructions").iterdir()} == {
        "reconstructions.png",
        "reconstructions.npz",
        "metrics.json",
        "code_use.png",
        "codebook.png",
    }


def test_the_codebook_s_picture_shows_each_code_alone_the_most_used_first(made, trained):
    with np.load(made / "reconstructions.npz") as arrays:
        count = np.bincount(arrays["codes"].ravel(), minlength=16)
    tokenizer = vqdit.load(trained / "runs/tokenizer")
    best = np.argsort(-count, kind="stable")
    alone = np.broadcast_to(best.reshape(16, 1, 1, 1), (16, 4, 4, 1))
    expected = tile(np.asarray(tokenizer.decode(alone)), 16)
    np.testing.assert_array_equal(np.asarray(Image.open(made / "codebook.png")), expected[..., 0])


def test_a_chart_of_code_use_has_bars_as_high_as_the_share_of_each_code():
    figure = draw_use([np.asarray([1, 4, 0, 3]), np.asarray([0, 8])])
    for axes, shares in zip(figure.axes, ([50, 37.5, 12.5, 0], [100, 0]), strict=True):
        np.testing.assert_allclose(axes.patches[0].get_data().values, shares)
        np.testing.assert_allclose(axes.lines[0].get_ydata(), 100 / len(shares))
    assert figure.axes[0].get_title().startswith("codebook 0: 3 of 4 codes used, at most 50")


def test_codes_are_counted_by_codebook_without_those_that_are_none():
    codes = np.asarray([[[0, 3], [2, -1]], [[2, 3], [-1, 0]]])
    found = count_codes(codes, (3, 5))
    assert [count.tolist() for count in found] == [[1, 0, 2], [1, 0, 0, 2, 0]]


class Codes(Tokenizer):
    """A tokenizer of two codebooks whose picture of a code is its number."""

    class Task(TokenizerTask):
        @property
        def grid(self):
            return (2, 2)

    def __init__(self):
        self.task = self.Task(modality=DigitsImage(size=(80, 80), channels=1))

    def decode(self, codes):
        assert ((codes >= 0).sum(axis=-1) == 1).all()  # the other codebook is absent
        shade = np.max(codes, axis=(1, 2, 3)).astype(np.uint8)
        return np.broadcast_to(shade[:, None, None, None], (len(codes), 80, 80, 1))


def test_of_several_codebooks_each_begins_a_row_and_large_ones_show_what_is_used_most():
    counts = [np.arange(200), np.arange(300)[::-1]]
    picture = appearance(Codes(), counts)
    tiles = picture[2::66, 2::66, 0]
    assert tiles.shape == (8, 32)  # 128 codes of each, 64 x 64 pixels cut from their middle
    np.testing.assert_array_equal(tiles[:4].ravel(), np.arange(199, 71, -1))
    np.testing.assert_array_equal(tiles[4:].ravel(), np.arange(128))


def test_the_validation_numbers_are_those_of_training(trained, tmp_path):
    args = [f"--workdir={trained}/runs", "--split=validation", f"--out={tmp_path}"]
    assert main(["reconstruct", *args]) == 0
    record = json.loads((tmp_path / "metrics.json").read_text())
    trained_to = json.loads((trained / "runs/tokenizer/result.json").read_text())["validation"]
    assert {name: record[name] for name in trained_to} == pytest.approx(trained_to, rel=1e-5)


def test_what_cannot_be_reconstructed_is_refused(trained, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = f"{trained}/runs"
    assert refused("reconstruct") == "--workdir is missing; give --workdir=DIR; see --help"
    message = "unknown split 'tests'; choose one of: train, validation, test"
    assert refused("reconstruct", f"--workdir={runs}", "--split=tests") == message
    assert refused("reconstruct", "--workdir=nowhere").startswith(
        "no run in nowhere; a workdir holds"
    )
    message = (
        f"{runs}/flow is not the workdir of a tokenizer; give the workdir of a tokenizer that it "
        "uses: tokenizer"
    )
    assert refused("reconstruct", f"--workdir={runs}/flow") == message
    message = "unknown option '--num=3'; see --help"
    assert refused("reconstruct", f"--workdir={runs}", "--num=3") == message
    (tmp_path / "file").write_text("mine")
    message = "cannot write in file: File exists; choose another --out"
    assert refused("reconstruct", f"--workdir={runs}", "--out=file") == message
    shutil.copytree(trained / "runs/tokenizer", "begun")
    shutil.rmtree("begun/checkpoints")
    message = "no checkpoint in begun; train it until its first checkpoint"
    assert refused("reconstruct", "--workdir=begun") == message
    assert {path.name for path in tmp_path.iterdir()} == {"file", "begun"}


def test_sounds_are_written_and_measured_as_sounds(joint, tmp_path, capsys):
    """The joint model's tokenizer of tones."""
    out = tmp_path / "out"
    assert main(["reconstruct", f"--workdir={joint.parent / 'audio'}", f"--out={out}"]) == 0
    with np.load(out / "reconstructions.npz") as arrays:
        pair = [arrays[name][:16].astype(float) for name in ("original", "reconstruction")]
        every, codes = arrays["original"], arrays["codes"]
    for name, sounds in zip(("original", "reconstruction"), pair, strict=True):
        for number, sound in enumerate(sounds):
            found, rate = soundfile.read(out / f"{name}_{number:04d}.wav", dtype="int16")
            assert rate == 8000
            np.testing.assert_array_equal(found, sound)
    assert not (out / "original_0016.wav").exists()
    record = json.loads((out / "metrics.json").read_text())
    assert {"si_sdr", "mel_distance", "stft_distance", "kbit_per_s_entropy"} <= set(record)
    assert record["kbit_per_s"] == pytest.approx(codes[0].size * 4 * 8000 / every.shape[1] / 1000)
    assert record["kbit_per_s_entropy"] <= record["kbit_per_s"]
    assert "reconstruction_*.wav: the first 16 sounds" in capsys.readouterr().out
