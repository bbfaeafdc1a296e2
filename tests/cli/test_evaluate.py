"""`vqdit evaluate`: what it measures of generators that are known, what it writes and refuses."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests import tiny
from vqdit.cli.agreement import table
from vqdit.cli.main import main
from vqdit.data import Data, Digits, FashionMNIST, ImageFolder, Missing, SpokenFashion
from vqdit.evaluation.evaluate import measure_agreement, score_images
from vqdit.evaluation.intervals import wilson
from vqdit.evaluation.recognizers import CLASSES, classes_of, complete_source, recognizers_for
from vqdit.inference import loading
from vqdit.modalities import Label
from vqdit.tasks import Condition
from vqdit.typing import Named

NAMES = ("audio", "image", "label", "text")


def values(split):
    """The digits as the library gives them: text is str."""
    rows = Digits().split(split)
    stored = rows.take(np.random.default_rng(0).permutation(len(rows)))
    stored["text"] = np.asarray([bytes(row).rstrip(b"\0").decode() for row in stored["text"]])
    return {name: stored[name] for name in NAMES}


@pytest.fixture(scope="module")
def train():
    return values("train")


@pytest.fixture(scope="module")
def few(train):
    """So few that the classifier, in whose features images are compared, is fitted at once."""
    return {name: array[:100] for name, array in train.items()}


@pytest.fixture(scope="module")
def recognizers(train):
    return {name: fit(train) for name, fit in recognizers_for(Digits()).items()}


@pytest.fixture(scope="module")
def held_out(recognizers):
    """Held-out digits, but for those in which the picture's recogniser errs."""
    parts = [values(split) for split in ("validation", "test")]
    both = {name: np.concatenate([part[name] for part in parts]) for name in NAMES}
    is_right = recognizers["image"].predict(both["image"]) == both["label"]
    assert 355 <= is_right.sum() <= 360
    return {name: array[is_right] for name, array in both.items()}


class Fake:
    """Answers with real examples of the class that was given, or of any class at all."""

    def __init__(self, held_out, conditions=(), is_random=False, spoiled=()):
        targets = {name: None for name in held_out if name not in (*conditions, CLASSES)}
        self.task = SimpleNamespace(
            targets=Named(targets), conditions=Named(dict.fromkeys(conditions))
        )
        self.held_out, self.is_random, self.spoiled = held_out, is_random, spoiled
        self.random, self.calls = np.random.default_rng(0), []

    def sample(self, num, *, given, want, guidance, seed, batch_size):
        given = {name: items[np.arange(num) % len(items)] for name, items in given.items()}
        self.calls.append((num, given, want, guidance, seed, batch_size))
        known = {name: items for name, items in given.items() if (np.asarray(items) != -1).any()}
        rows = np.arange(num) % len(classes_of(self.held_out))
        for name, items in known.items():
            place = {np.asarray(item).tobytes(): i for i, item in enumerate(self.held_out[name])}
            rows = self.another([place[np.asarray(item).tobytes()] for item in items])
        made = {}
        for name in want:
            chosen = self.random.permutation(rows) if self.is_random else rows
            made[name] = self.held_out[name][chosen]
            if name in self.spoiled:
                made[name] = np.where(np.arange(num) % 4 == 0, "sevn", made[name])
        return {**made, **given}

    def another(self, rows):
        """Another example of the same class each."""
        labels = classes_of(self.held_out)
        return np.asarray([self.random.choice(np.flatnonzero(labels == labels[i])) for i in rows])


@pytest.fixture(scope="module")
def perfect(held_out, train, recognizers):
    """A generator that gives real examples, after it was measured, and what was found."""
    fake = Fake(held_out)
    found = measure_agreement(
        fake, recognizers, train, held_out, num=500, batch_size=64, seed=3, guidance=2.0
    )
    return fake, found


@pytest.fixture(scope="module")
def spoiled(held_out, few, recognizers):
    """What is found of one whose every fourth word is none."""
    return measure_agreement(Fake(held_out, spoiled=("text",)), recognizers, few, held_out, num=200)


def test_a_generator_that_gives_real_examples_is_coherent(perfect, held_out):
    found = perfect[1]
    every = {f"{given}>{want}" for given in NAMES for want in NAMES if given != want}
    assert set(found["pairs"]) == every
    all_of_them = {"value": 1.0, "low": wilson(500, 500)[0], "high": 1.0, "count": 500}
    for rates in found["pairs"].values():
        assert rates == {"coherent": all_of_them, "recognised": all_of_them}
    assert found["joint"]["agree"] == all_of_them
    assert found["joint"]["recognised"] == dict.fromkeys(NAMES, all_of_them)
    for rate in found["recognisers"].values():
        assert (rate["value"], rate["count"]) == (1.0, len(held_out["label"]))
    images = found["images"]
    assert images["count"] == 500
    assert images["coverage"]["of"] == "label>image"
    assert images["coverage"]["samples"] > 0.5 and images["coverage"]["training"] > 0.95
    assert images["frechet"]["samples"] < 2 * images["frechet"]["training"]


def test_one_shape_is_asked_for_all_held_out_examples_in_turn(perfect, held_out):
    fake = perfect[0]
    assert len(fake.calls) == 13
    *pairs, (num, given, want, guidance, *_) = fake.calls
    assert (num, given, want, guidance) == (512, {}, list(NAMES), 1.0)
    for num, given, want, guidance, seed, batch_size in pairs:
        assert (num, guidance, seed, batch_size, len(want)) == (512, 2.0, 3, 64, 1)
        ((name, items),) = given.items()
        expected = held_out[name][np.arange(512) % len(held_out["label"])]
        np.testing.assert_array_equal(items, expected)


def test_a_generator_that_mixes_classes_up_is_right_by_chance(held_out, few, recognizers):
    fake = Fake(held_out, is_random=True)
    found = measure_agreement(fake, recognizers, few, held_out, num=1000, batch_size=1000)
    for pair, rates in found["pairs"].items():
        assert abs(rates["coherent"]["value"] - 0.1) < 0.04, pair
        assert rates["recognised"]["value"] == 1.0
    assert found["joint"]["agree"]["value"] < 0.01
    assert all(rate["value"] == 1.0 for rate in found["recognisers"].values())


def test_words_that_are_none_are_no_class(spoiled):
    for pair, rates in spoiled["pairs"].items():
        expected = 0.75 if pair.endswith(">text") else 1.0
        assert rates["coherent"]["value"] == rates["recognised"]["value"] == expected
    joint = spoiled["joint"]
    assert joint["agree"]["value"] == joint["recognised"]["text"]["value"] == 0.75


def test_labels_that_only_guide_are_left_out_where_they_are_not_given(held_out, few, recognizers):
    fake = Fake(held_out, conditions=("label",))
    found = measure_agreement(fake, recognizers, few, held_out, num=20, batch_size=64)
    assert len(found["pairs"]) == 9 and "image>label" not in found["pairs"]
    assert all(rates["coherent"]["value"] == 1.0 for rates in found["pairs"].values())
    for num, given, want, _, _, batch_size in fake.calls:
        assert (num, batch_size) == (20, 20)  # never more than is asked for
        assert given["label"].dtype == np.int32 and "label" not in want
        is_alone = len(given) == 1 and len(want) == 1  # then it is the label that guides
        assert (given["label"] != -1).all() if is_alone else (given["label"] == -1).all()
    assert set(found["joint"]["recognised"]) == {"audio", "image", "text"}


def test_more_samples_than_training_examples_are_compared_in_equal_number(
    held_out, few, recognizers
):
    found = measure_agreement(Fake(held_out), recognizers, few, held_out, num=150, batch_size=50)
    assert found["images"]["count"] == 100


def test_pictures_are_known_by_what_they_are_and_not_by_their_name(held_out, few, recognizers):
    names = {"audio": "cry", "image": "photo", "label": "species", "text": "caption"}
    theirs, real = (
        {**{names[name]: array for name, array in part.items()}, CLASSES: part["label"]}
        for part in (few, held_out)
    )
    judges = {names[name]: recognizer for name, recognizer in recognizers.items()}
    found = measure_agreement(Fake(real), judges, theirs, real, num=50)
    assert (found["images"]["name"], found["images"]["count"]) == ("photo", 50)
    assert found["images"]["coverage"]["of"] == "species>photo"

    class Scores:
        """Finds the right candidate, but for the first picture."""

        task = SimpleNamespace(targets=Named(dict.fromkeys(names.values())))

        def score(self, given, candidates, **how):
            assert list(given) == ["photo"]
            ((name, values),) = candidates.items()
            wanted = real[name] if name == "species" else np.asarray(real[name])
            right = (wanted[:, None] == values).astype(float)
            return right * np.where(np.arange(len(right)) == 0, -1.0, 1.0)[:, None]

    rates = score_images(Scores(), judges, theirs, real)
    assert set(rates) == {"species", "caption"}
    expected = 1 - 1 / len(held_out["label"])
    assert all(rate["value"] == pytest.approx(expected) for rate in rates.values())


def test_too_few_samples_are_refused(held_out, few, recognizers):
    with pytest.raises(ValueError, match="^num must be at least 2, got 1$"):
        measure_agreement(Fake(held_out), recognizers, few, held_out, num=1)


def test_the_table(spoiled):
    lines = table(spoiled).splitlines()
    low, high = wilson(150, 200)
    some, every = f"0.750 [{low:.3f}, {high:.3f}]", f"1.000 [{wilson(200, 200)[0]:.3f}, 1.000]"
    row = next(line for line in lines if line.startswith("image>text "))
    assert row.count(some) == 2 and row.endswith(", 1.000]")
    row = next(line for line in lines if line.startswith("text>image "))
    assert row.count(every) == 2
    assert f"given nothing, audio, image, label, text agree: {some}" in lines
    assert f"given nothing, valid texts: {some}" in lines
    assert any(line.startswith("coverage of held-out images by label>image: ") for line in lines)
    assert any(line.startswith("Frechet distance of images, given nothing") for line in lines)
    assert all(len(line) <= 120 for line in lines)


def test_the_garments_have_recognisers_for_all_of_their_modalities():
    assert set(recognizers_for(SpokenFashion())) == set(NAMES)
    assert set(recognizers_for(FashionMNIST())) == {"image", "label"}
    assert recognizers_for(ImageFolder(path=".")) == {}


def test_recognisers_see_what_was_taken_away_from_the_model():
    missing = Missing(source=Missing(source=Digits(seed=3), column="text"), column="image")
    assert complete_source(missing) == Digits(seed=3)
    assert complete_source(Digits()) == Digits()


def test_a_trained_run_is_measured_and_written(trained, tmp_path, capsys):
    out = tmp_path / "made" / "here"
    args = [f"--workdir={trained}/runs", "--coherence", "--num=20", "--batch-size=8"]
    assert main(["evaluate", *args, f"--out={out}", "--seed=1", "--split=test"]) == 0
    record = json.loads((out / "evaluation.json").read_text())
    assert {name: record[name] for name in ("workdir", "step", "source", "splits")} == {
        "workdir": f"{trained}/runs/generator",
        "step": 6,
        "source": "Digits",
        "splits": ["test"],
    }
    assert (record["num"], record["seed"], record["batch_size"]) == (20, 1, 8)
    assert record["guidance"] == 1.5
    assert set(record["pairs"]) == {"label>image"}
    assert set(record["joint"]) == {"recognised"}
    assert record["recognisers"]["image"]["count"] == 180
    assert record["recognisers"]["image"]["value"] > 0.98
    assert record["images"]["coverage"]["training"] > record["images"]["coverage"]["samples"]
    assert record["images"]["frechet"]["samples"] > record["images"]["frechet"]["training"]
    shown = capsys.readouterr().out
    assert shown.startswith(f"{trained}/runs/generator at step 6, Digits: 20 samples per line\n")
    assert table(record) in shown
    assert shown.endswith(f"{out}/evaluation.json\n")


@pytest.mark.slow
def test_a_run_on_a_folder_of_labelled_pictures(trained, one_device, tmp_path, capsys):
    """The classes' names are numbers other than those of the classes."""
    digits = Digits().split("train").take(np.arange(600))
    for number, (picture, label) in enumerate(zip(digits["image"], digits["label"], strict=True)):
        if label in (3, 4, 7):
            folder = tmp_path / "pictures" / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture[..., 0]).save(folder / f"{number}.png")
    source = ImageFolder(path=str(tmp_path / "pictures"), size=8, channels=1)
    label = Label(classes=3, names=("3", "4", "7"))
    task = dataclasses.replace(
        tiny.generator().task, conditions=Named(label=Condition(modality=label))
    )
    experiment = tiny.generator(task=task, data=Data(source=source, batch_size=32))
    tiny.run(experiment, tmp_path / "run", tokenizer=trained / "runs" / "tokenizer")
    args = ["--coherence", "--num=20", "--batch-size=20", f"--out={tmp_path / 'out'}"]
    assert main(["evaluate", f"--workdir={tmp_path / 'run'}", *args]) == 0
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    real = record["recognisers"]
    assert real["image"]["count"] == real["label"]["count"] >= 30
    assert real["label"]["value"] == 1.0 and real["image"]["value"] > 0.9
    assert record["pairs"]["label>image"]["coherent"]["count"] == 20
    assert "label>image" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            [],
            "nothing to evaluate; add --coherence (agreement of modalities), --scoring "
            "(classification of images by likelihood), or --metrics=bits_per_byte (prediction of "
            "texts)",
        ),
        (["--coherence=yes"], "--coherence takes no value, got 'yes'"),
        (["--coherence", "--num=1"], "--num must be at least 2, got 1"),
        (["--coherence", "--batch-size=0"], "--batch-size must be at least 1, got 0"),
        (["--coherence", "--seed=-1"], "--seed must be from 0 to 2^32 - 1, got -1"),
        (["--coherence", "--guidance=much"], "--guidance must be a number, got 'much'"),
        (
            ["--coherence", "--split=train"],
            "--split must be a held-out split (validation or test), got 'train'; omit it to "
            "evaluate on both",
        ),
        (["--coherance"], "unknown option '--coherance'; did you mean --coherence?"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_a_model_is_loaded(
    args, message, refused, monkeypatch
):
    monkeypatch.setattr(loading, "load", None)
    assert refused("evaluate", "--workdir=nowhere", *args) == message


def test_what_has_no_generator_or_no_place_is_refused(trained, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = f"{trained}/runs"
    assert (
        refused("evaluate", "--coherence") == "--workdir is missing; give --workdir=DIR; see --help"
    )
    message = refused("evaluate", "--coherence", "--workdir=nowhere")
    assert message.startswith("no run in nowhere; a workdir holds")
    message = refused("evaluate", "--coherence", f"--workdir={runs}/tokenizer")
    assert message.startswith(
        f"{runs}/tokenizer is the workdir of a tokenizer, which cannot generate; see"
    )
    (tmp_path / "file").write_text("mine")
    message = refused("evaluate", "--coherence", f"--workdir={runs}", "--out=file")
    assert message == "cannot write in file: File exists; choose another --out"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_help_says_what_data_need(capsys):
    assert main(["evaluate", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "the training data of the run, which must have classes" in shown
