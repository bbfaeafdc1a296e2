"""The diagnosis: what it reports, when it keeps silent, and that a run's log shows it."""

import dataclasses
import json

import pytest

from tests import tiny
from vqdit.quantizers import VQ
from vqdit.train.diagnosis import WINDOW, Diagnosis, diagnose
from vqdit.train.progress import Progress

WELL = {
    "loss": 1.0,
    "quantization_error": 0.1,
    "dead_codes": 0.05,
    "codebook_perplexity": 400.0,
    "generator_weight": 0.1,
    "discriminator_accuracy": 0.7,
    "logits_real": 0.4,
    "logits_fake": -0.3,
}
COLLAPSED = WELL | {"dead_codes": 0.9, "codebook_perplexity": 3.0}
BEATEN = WELL | {"discriminator_accuracy": 0.99}


def test_a_healthy_run_and_one_without_codebook_or_adversary_are_left_alone():
    assert diagnose([WELL] * 9) == {}
    assert diagnose([{"loss": 1.0}] * 9) == {}


def test_a_collapse_is_told_with_its_numbers_and_what_helps():
    found = diagnose([WELL, *[COLLAPSED] * WINDOW])
    assert set(found) == {"codebook collapse"}
    assert "90% of its codes are dead (perplexity 3)" in found["codebook collapse"]
    assert "revive_below=0.1" in found["codebook collapse"]


def test_a_discriminator_that_wins_is_told_with_its_numbers_and_what_helps():
    found = diagnose([BEATEN] * WINDOW)
    assert set(found) == {"discriminator wins"}
    assert "99% of originals and reconstructions correctly" in found["discriminator wins"]
    assert "(mean logits 0.4 and -0.3)" in found["discriminator wins"]
    assert "adversary.start" in found["discriminator wins"]


@pytest.mark.parametrize("ill", [COLLAPSED, BEATEN])
def test_a_few_bad_lines_are_no_illness(ill):
    assert diagnose([ill] * (WINDOW - 1)) == {}
    assert diagnose([*[ill] * (WINDOW - 1), WELL]) == {}
    assert diagnose([ill, WELL, *[ill] * (WINDOW - 1)]) == {}


def test_nothing_is_said_before_quantizer_and_adversary_start():
    assert diagnose([COLLAPSED | {"quantization_error": 0.0}] * WINDOW) == {}
    assert diagnose([BEATEN | {"generator_weight": 0.0}] * WINDOW) == {}


def test_each_condition_is_told_once():
    diagnosis = Diagnosis()
    told = [diagnosis.update(COLLAPSED) for _ in range(12)]
    assert [len(found) for found in told] == [0] * (WINDOW - 1) + [1] + [0] * (12 - WINDOW)
    assert [len(found) for found in map(diagnosis.update, [BEATEN] * WINDOW)] == [0] * 4 + [1]


def test_a_codebook_that_is_hardly_used_is_reported_in_the_log_once(tmp_path):
    large = VQ(codebook_size=1024, dim=4, revive_below=0.0, decay=0.5)
    task = dataclasses.replace(tiny.tokenizer().task, quantizer=large)
    experiment = tiny.tokenizer(task=task, steps=20, checkpoint_every=0)
    data = dataclasses.replace(experiment.data, batch_size=8)
    tiny.run(dataclasses.replace(experiment, data=data), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line for line in lines if "loss" in line]
    assert losses[-1]["dead_codes"] > 0.75
    assert (tmp_path / "log.txt").read_text().count("the codebook is collapsing") == 1


def test_the_progress_line_shows_how_codebook_and_discriminator_are(capsys):
    progress = Progress("run", 0, 10)
    speed = {"steps_per_second": 1.0, "examples_per_second": 4.0}
    progress.update(10, WELL | {"loss": 0.5, "codebook_usage": 0.98}, speed)
    shown = capsys.readouterr().err
    assert (
        "loss 0.5  usage 98%  perplexity 400  dead 5%  quantisation 0.1  discriminator 70%" in shown
    )
    progress.update(10, {"loss": 0.5}, speed)
    assert "usage" not in capsys.readouterr().err
