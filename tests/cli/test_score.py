"""`vqdit score`: what it writes and prints."""

import json

import numpy as np
import pytest

from vqdit.cli.main import main
from vqdit.cli.score import first_of_equal
from vqdit.data import Digits
from vqdit.modalities import Image
from vqdit.ragged import ragged


@pytest.fixture
def pictures(tmp_path):
    Image(size=(8, 8), channels=1).write(
        Digits().split("test").take(np.arange(3))["image"], tmp_path
    )
    return tmp_path


def test_pictures_are_compared_by_information_unless_told_otherwise(joint, pictures, capsys):
    file = pictures / "scores.json"
    given = ["--given=text=six", f"--candidates=image={pictures}", "--rounds=2", f"--out={file}"]
    found = {}
    for more in ([], ["--measure=likelihood"]):
        assert main(["score", f"--workdir={joint}", *given, *more]) == 0
        record = json.loads(file.read_text())
        found[record["measure"]] = record
        assert record["best"] == [f"image {np.argmax(record['scores'][0])}"]
        np.testing.assert_allclose(np.sum(record["probabilities"]), 1.0, rtol=1e-5)
        assert record["score"] in capsys.readouterr().out
    assert found["information"]["score"] == "log p(candidate | given) - log p(candidate), nats"
    assert found["likelihood"]["score"] == "lower bound on log p(candidate | given), nats"
    assert found["information"]["scores"] != found["likelihood"]["scores"]
    assert (record["rounds"], record["seed"], record["batch_size"]) == (2, 0, 64)


def test_equal_candidates_count_once():
    assert first_of_equal(np.asarray([[1, 2], [3, 4], [1, 2], [1, 3]])) == [0, 1, 3]
    values = ragged([np.asarray([1]), np.asarray([1, 0]), np.asarray([1])])
    assert first_of_equal(values) == [0, 1]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--candidates=text=six"],
            "the information needs given values; measure the likelihood",
        ),
        (["--candidates=text=six", "--rounds=1000000000"], "--rounds must be at most 10000, got"),
    ],
)
def test_what_cannot_be_scored_is_refused(args, message, joint, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = refused("score", f"--workdir={joint}", "--measure=information", *args)
    assert found.startswith(message)
    assert not list(tmp_path.iterdir())
