"""Runs with examples of variable length: trained in buckets, sampled, scored, resumed."""

import signal

import numpy as np
import pytest

import vqdit
from tests.phrases import LONGEST, write_table
from tests.tiny import run
from vqdit.cli.main import main
from vqdit.config import Experiment
from vqdit.data import Data, Table
from vqdit.modalities import Label, Text
from vqdit.models import DiT
from vqdit.optim import AdamW
from vqdit.samplers import Unmasking
from vqdit.tasks import CodeTarget, Condition, DiffusionTask
from vqdit.train import loop
from vqdit.train.signals import Interrupts
from vqdit.typing import Named

TEXT, LABEL = Text(length=LONGEST, variable=True), Label(classes=5)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("table") / "rows.jsonl")


def experiment(table, buckets=1, **fields):
    task = DiffusionTask(
        targets=Named(text=CodeTarget(modality=TEXT, sampler=Unmasking(steps=6))),
        conditions=Named(label=Condition(modality=LABEL)),
        model=DiT(depth=1, dim=64, heads=2, patch=1, norm="rms"),
    )
    source = Table(path=str(table), columns=Named(text=TEXT, label=LABEL))
    defaults = {
        "task": task,
        "data": Data(source=source, batch_size=16, buckets=buckets),
        "optimizer": AdamW(learning_rate=2e-2, warmup=10),
        "steps": 180,
        "log_every": 1,
        "checkpoint_every": 0,
    }
    return Experiment(**{**defaults, **fields})


@pytest.fixture(scope="module")
def folder(tmp_path_factory, table):
    folder = tmp_path_factory.mktemp("phrases") / "run"
    run(experiment(table), folder)
    return folder


def test_it_learns_what_is_written_and_how_long_it_is(folder):
    model = vqdit.load(folder)
    found = model.sample(40, given={"label": np.arange(40) % 5}, seed=1)
    texts = [str(text) for text in found["text"]]
    letters = [letter == "abcde"[n % 5] for n, text in enumerate(texts) for letter in text]
    assert np.mean(letters) > 0.9
    assert len({len(text) for text in texts}) > 8  # training has all lengths
    told = model.sample(8, given={"label": [2]}, lengths={"text": [3, 0]}, seed=1)
    assert [len(text) for text in told["text"]] == [3, 0] * 4


def test_scores_compare_texts_of_different_lengths(folder):
    scores = vqdit.load(folder).score({"label": [0, 4]}, {"text": ["aaaa", "eeeeee"]}, rounds=16)
    assert scores.argmax(axis=1).tolist() == [0, 1]


def test_a_sample_is_the_same_in_any_batch(folder):
    model = vqdit.load(folder)
    how = {"given": {"label": np.arange(6) % 5}, "seed": 3}
    whole, parts = model.sample(6, **how)["text"], model.sample(6, batch_size=2, **how)["text"]
    assert list(whole) == list(parts)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ({"text": 25}, "from 0 bytes to 24 bytes, got 25"),
        ({"text": -1}, "got -1"),
        (
            {"label": 3},
            "'label', which is not a wanted target of variable length; the possible names",
        ),
        ({"txt": 3}, "'txt', which is not a wanted target"),
    ],
)
def test_lengths_out_of_range_are_refused(folder, lengths, message):
    with pytest.raises(ValueError, match=message):
        vqdit.load(folder).sample(1, lengths=lengths)


def test_a_text_is_varied_at_its_own_length(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["sample", f"--workdir={folder}", "--num=6", "--init=text=ccccc", "--strength=0.5"]
    assert main([*options, "--given=label=2", "--out=varied"]) == 0
    lines = (tmp_path / "varied/texts.txt").read_text().splitlines()
    assert [len(line) for line in lines] == [5] * 6 and any("c" in line for line in lines)


def test_a_text_of_its_own_length_is_continued_and_filled_in(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["sample", f"--workdir={folder}", "--num=6", "--given=label=2"]
    assert main([*options, "--given=text^=ccc", "--out=prompts"]) == 0
    lines = (tmp_path / "prompts/texts.txt").read_text().splitlines()
    assert len(lines) == 6 and all(line.startswith("ccc") for line in lines)
    assert main([*options, "--given=text=cc___c", "--length=text=9", "--out=gaps"]) == 0
    lines = (tmp_path / "gaps/texts.txt").read_text().splitlines()
    assert all(line.startswith("cc") and line.endswith("c") and len(line) == 9 for line in lines)
    assert np.mean([letter == "c" for line in lines for letter in line]) > 0.8
    capsys.readouterr()
    wrong = ["--length=text=99", "--autoguide=nowhere", "--out=none"]
    assert main([*options, *wrong]) == 2
    assert "must be from 0 bytes to 24 bytes, got 99" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_each_bucket_is_traced_once_and_a_resumed_run_is_the_same(tmp_path, monkeypatch, table):
    traced, original, stops = [], DiffusionTask.loss, []

    def loss(self, params, stats, frozen, batch, key, step):
        traced.append(batch.data["text"].shape)
        return original(self, params, stats, frozen, batch, key, step)

    class StopAt(Interrupts):
        def should_stop(self, step):
            if step in stops:
                self.requested = signal.SIGTERM
            return super().should_stop(step)

    short = experiment(table, buckets=2, steps=10)
    with monkeypatch.context() as patch:
        patch.setattr(DiffusionTask, "loss", loss)
        run(short, tmp_path / "whole")
    assert len(traced) == len(set(traced)) == 2
    monkeypatch.setattr(loop, "Interrupts", StopAt)
    stops.append(4)
    assert run(short, tmp_path / "parts").exit_code == 75
    stops.clear()
    run(short, tmp_path / "parts")
    whole, parts = ((tmp_path / n / "metrics.jsonl").read_text() for n in ("whole", "parts"))
    assert whole == parts
