"""`vqdit reconstruct`: its numbers against NumPy, its files, and what it refuses."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from vqdit.cli.main import main
from vqdit.data import Digits
from vqdit.tasks.tokenizer import side_by_side


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
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == f"180 examples of the validation split, {trained}/runs/tokenizer at step 8"
    assert f"psnr {record['psnr']:.4g}" in second
    assert f"codebook_perplexity {record['codebook_perplexity']:.4g}" in second
    assert third == "  reconstructions/reconstructions.png"


def test_the_validation_numbers_are_those_of_training(trained, tmp_path):
    args = [f"--workdir={trained}/runs", "--split=validation", f"--out={tmp_path}"]
    assert main(["reconstruct", *args]) == 0
    record = json.loads((tmp_path / "metrics.json").read_text())
    trained_to = json.loads((trained / "runs/tokenizer/result.json").read_text())["validation"]
    assert {name: record[name] for name in trained_to} == pytest.approx(trained_to, rel=1e-5)


def test_what_cannot_be_reconstructed_is_refused(trained, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = f"{trained}/runs"
    assert refused("reconstruct") == "--workdir is missing; see --help"
    message = "unknown split 'tests'; one of: train, validation, test"
    assert refused("reconstruct", f"--workdir={runs}", "--split=tests") == message
    assert refused("reconstruct", "--workdir=nowhere").startswith(
        "no run in nowhere; a workdir holds"
    )
    message = f"no tokenizer in {runs}/flow; give the workdir of one: it uses tokenizer"
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
