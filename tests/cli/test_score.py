"""`vqdit score`: what it writes and prints."""

import json

import numpy as np
import pytest

from tests.joint import generator, symbols
from vqdit.cli.main import main
from vqdit.cli.score import first_of_equal
from vqdit.data import Digits
from vqdit.modalities import Image, Label
from vqdit.ragged import ragged
from vqdit.samplers import Unmasking
from vqdit.tasks import CodeTarget
from vqdit.typing import Named


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


def test_labels_have_their_names_in_the_record(tmp_path, monkeypatch, capsys):
    label = Label(classes=3, names=("9", "1", "cat"))  # 1 is the second class, by its name
    targets = Named(
        text=symbols().targets["text"], label=CodeTarget(modality=label, sampler=Unmasking(steps=6))
    )
    model = generator(symbols(targets=targets))
    monkeypatch.setattr("vqdit.cli.given.load_generator", lambda _: model)
    options = ["--rounds=1", f"--out={tmp_path}/s.json"]
    question = "--given=text=six", "--candidates=label=cat,1,9"
    assert main(["score", "--workdir=run", *question, *options]) == 0
    record = json.loads((tmp_path / "s.json").read_text())
    assert record["candidates"] == ["cat", "1", "9"]
    best = record["candidates"][np.argmax(record["scores"][0])]
    assert record["best"] == [best]
    assert f"given 0: {best} " in capsys.readouterr().out


def test_equal_candidates_count_once():
    assert first_of_equal(np.asarray([[1, 2], [3, 4], [1, 2], [1, 3]])) == [0, 1, 3]
    values = ragged([np.asarray([1]), np.asarray([1, 0]), np.asarray([1])])
    assert first_of_equal(values) == [0, 1]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--candidates=text=six"],
            "the measure information needs given values; measure the likelihood",
        ),
        (["--candidates=text=six", "--rounds=1000000000"], "--rounds must be at most 10000, got"),
    ],
)
def test_what_cannot_be_scored_is_refused(args, message, joint, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = refused("score", f"--workdir={joint}", "--measure=information", *args)
    assert found.startswith(message)
    assert not list(tmp_path.iterdir())
