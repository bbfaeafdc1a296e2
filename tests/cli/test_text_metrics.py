"""`vqdit evaluate --metrics`: what it measures, shows and writes of texts, and what it refuses."""

import json

import numpy as np
import pytest

from benchmarks import text as baselines
from vqdit.cli.main import main
from vqdit.cli.report.text_metrics import Countdown, text_table
from vqdit.data import Digits
from vqdit.data.digits import WORDS
from vqdit.evaluation.text_measurement import Settings
from vqdit.evaluation.text_metrics import METRICS, measure_text
from vqdit.inference import loading
from vqdit.modalities import Label, Text
from vqdit.tasks import CodeTarget, Condition, DiffusionTask
from vqdit.typing import Named


def test_all_metrics_of_a_run(joint, tmp_path, capsys):
    options = [f"--judge={joint}", "--num=30", "--rounds=4", "--window=3", "--batch-size=16"]
    out = tmp_path / "out"
    args = ["evaluate", f"--workdir={joint}", f"--metrics={','.join(METRICS)}", f"--out={out}"]
    assert main([*args, *options, "--split=test"]) == 0
    shown = capsys.readouterr()
    record = json.loads((out / "evaluation.json").read_text())
    found = record["metrics"]
    assert set(found) == set(METRICS) and all(set(values) == {"text"} for values in found.values())
    assert (record["splits"], record["num"], record["judge"]) == (["test"], 30, str(joint))
    bound, judged = found["bits_per_byte"]["text"], found["perplexity"]["text"]
    assert bound["count"] == 30 and 30 * 4 <= bound["bytes"] <= 30 * 5 and bound["given"] == []
    assert 0.5 < bound["low"] < bound["value"] < bound["high"] < 8.0
    # The judge is the model itself, so that real texts are scored the same.
    assert judged["held_out"]["value"] == pytest.approx(bound["value"], rel=1e-5)
    assert judged["perplexity"] == pytest.approx(2.0 ** judged["samples"]["value"])
    match = found["exact_match"]["text"]
    assert match["given"] == ["audio", "image", "label"] and match["value"] >= 0.8
    copied = found["verbatim"]["text"]["values"]
    assert copied["texts"]["held_out"]["value"] == 1.0  # the ten words are all in training
    assert copied["windows of 3 bytes"]["held_out"]["value"] == 1.0
    distinct = found["distinct"]["text"]["values"]
    assert distinct["1"]["held_out"] == {"value": len(set(WORDS)) / 30, "ngrams": 30}
    assert distinct["2"]["held_out"] is None
    assert "each of 2 to 3 bytes" in found["entropy"]["text"]["values"]
    assert shown.out.startswith(f"{joint} at step 300, Digits, test\n\n")
    assert text_table(found, str(joint)) in shown.out
    assert "bits_per_byte of text 30/30" in shown.err and "samples 30/30" in shown.err


def test_the_table_of_baselines_has_the_texts_and_the_model_of_a_run(joint, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["text", f"--workdir={joint}", "--split=test", "--rounds=2"])
    baselines.main()
    first, *rest = capsys.readouterr().out.splitlines()
    stored = Digits().split("test").take(np.arange(180))["text"]
    size = sum(len(bytes(row).rstrip(b"\0")) + 1 for row in stored)
    assert first.startswith("text: ") and first.endswith(f" {size:,} of held-out text")
    assert rest[-1].startswith(f"| {joint}, step 300 | ") and rest[-1].endswith(", 180 texts) |")


class Echo:
    """A generator of words: what it generates is the name of the digit that is given, or "one"."""

    def __init__(self, **targets):
        self.task = DiffusionTask(
            targets=Named(
                {name: CodeTarget(modality=modality) for name, modality in targets.items()}
            ),
            conditions=Named(hint=Condition(modality=Label(classes=10))),
        )
        self.frozen, self.calls = {}, []

    def modality(self, name):
        return self.task.modality(name)

    def sample(self, num, *, given, want, guidance, seed, batch_size, report):
        self.calls.append((num, {**given}, want, guidance))
        digits = np.resize(given.get("number", [1]), num)
        return {name: np.asarray(WORDS)[digits] for name in want}


class Renamed(Digits):
    """The digits with columns of other names."""

    def features(self):
        features = super().features()
        return Named(
            word=features["text"], other=features["text"], number=features["label"],
            hint=features["label"],
        )  # fmt: skip

    def split(self, name):
        return _Renamed(super().split(name))


class _Renamed:
    def __init__(self, split):
        self._split = split

    def __len__(self):
        return len(self._split)

    def take(self, rows):
        arrays = self._split.take(rows)
        names = {"word": "text", "other": "text", "number": "label", "hint": "label"}
        return {name: arrays[own] for name, own in names.items()}


def measured(metrics, model, **settings):
    settings = Settings(**{"num": 40, "batch_size": 8, **settings})
    return measure_text(model, Renamed(), ("validation", "test"), metrics, settings)


def test_exact_match_gives_all_other_columns_or_those_asked_for():
    model = Echo(word=Text(length=5), number=Label(classes=10))
    found = measured(["exact_match"], model)["exact_match"]["word"]
    assert found["value"] == found["one_of"]["value"] == 1.0 and found["count"] == 40
    assert found["given"] == ["number", "hint"]
    model = Echo(word=Text(length=5), number=Label(classes=10))
    found = measured(["exact_match"], model, given=("hint",))["exact_match"]["word"]
    right = np.mean(np.asarray(WORDS)[model.calls[0][1]["hint"]] == "one")
    assert found["value"] == right < 0.5 and "number" not in model.calls[0][1]


def test_texts_of_any_names_are_generated_together_from_nothing_or_what_is_given():
    model = Echo(word=Text(length=5), other=Text(length=5))
    found = measured(["distinct", "entropy"], model)
    assert set(found["distinct"]) == set(found["entropy"]) == {"word", "other"}
    assert found["distinct"]["other"]["values"]["1"]["samples"] == {"value": 1 / 40, "ngrams": 40}
    ((num, given, want, guidance),) = model.calls
    assert (num, want, guidance) == (40, ["other", "word"], 1.0)
    np.testing.assert_array_equal(given["hint"], [-1])  # no label, rather than all in turn
    model = Echo(word=Text(length=5), other=Text(length=5))
    found = measured(["distinct"], model, given=("word",), guidance=2.0)
    ((_, given, want, guidance),) = model.calls
    assert set(found["distinct"]) == {"other"} == set(want) and guidance == 2.0
    assert list(given) == ["word", "hint"] and len(given["word"]) == 40


def test_examples_with_characters_that_training_lacks_are_left_out(caplog):
    model = Echo(word=Text(length=5), other=Text(length=5))
    known = np.ones(256, bool)
    known[ord("v")] = False  # five, seven
    model.frozen = {"word": {"occurs": known}}
    found = measured(["exact_match"], model, given=("word",))["exact_match"]["other"]
    assert (
        found["count"] < 40
        and f"{40 - found['count']} of 40 examples, which contain characters" in caplog.text
    )
    assert not any("v" in word for word in model.calls[0][1]["word"])


@pytest.mark.parametrize(
    ("targets", "metrics", "given", "message"),
    [
        ({"number": Label(classes=10)}, ["distinct"], (), "need a target that is a text, but this"),
        ({"word": Text(length=5)}, ["distinct"], ("word",), r"every text of this model is given"),
        ({"word": Text(length=5)}, ["distinct"], ("wort",), "unknown modality 'wort'; this model"),
        ({"word": Text(length=5)}, ["perplexity"], (), "perplexity needs a model that scores"),
        ({"verse": Text(length=5)}, ["distinct"], (), "Renamed has no column 'verse'; it has"),
    ],
)
def test_what_cannot_be_measured_is_refused(targets, metrics, given, message):
    model = Echo(**targets)
    with pytest.raises(ValueError, match=message):
        measured(metrics, model, given=given)
    assert not model.calls


def test_a_text_alone_has_no_exact_match():
    model = Echo(word=Text(length=5))
    model.task = DiffusionTask(targets=Named(word=CodeTarget(modality=Text(length=5))))
    with pytest.raises(ValueError, match="has only 'word'"):
        measured(["exact_match"], model)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--metrics=bits"], "unknown metric 'bits'; one of: bits_per_byte, distinct, verbatim, "
         "exact_match, entropy, perplexity, phrase_accuracy, note_f1"),
        (["--metrics=distinct,entropie"], "unknown metric 'entropie'; did you mean entropy?"),
        (["--metrics=coherence"], "coherence is not a metric of text; measure it with --coherence"),
        (["--metrics=perplexity"], "perplexity needs a model that scores the texts; name "
         "its workdir with --judge=DIR"),
        (["--metrics=distinct", "--judge=x"], "--judge is an option for the metric perplexity; add "
         "--metrics=perplexity"),
        (["--metrics=distinct", "--split=tests"], "--split must be one of train, validation, "
         "test, got 'tests'"),
        (["--metrics=distinct", "--num=1"], "--num must be at least 2, got 1"),
        (["--metrics=verbatim", "--window=0"], "--window must be at least 1, got 0"),
        (["--coherence", "--given=text"], "--given is an option for --metrics; omit it, as "
         "--coherence gives each modality in turn"),
    ],
)  # fmt: skip
def test_bad_options_are_refused_before_a_model_is_loaded(args, message, refused, monkeypatch):
    monkeypatch.setattr(loading, "load", None)
    assert refused("evaluate", "--workdir=nowhere", *args) == message


def test_the_countdown_says_how_long_it_takes(capsys, monkeypatch):
    clock = iter([0.0, 2.0, 12.0, 22.0, 24.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with Countdown() as countdown:
        for done in (10, 20, 60, 100):
            countdown.update("samples", done, 200)
        countdown.update("bits", 5, 5)
    assert capsys.readouterr().err.splitlines() == [
        "samples 10/200",
        "samples 60/200  0:34 left",  # 50 in the 12 seconds since the first batch
        "samples 100/200  0:24 left",
        "bits 5/5",
    ]
