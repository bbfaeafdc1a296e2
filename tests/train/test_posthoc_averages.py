"""Averages made after training: of what a run kept, into a workdir that everything reads."""

import chex
import jax
import numpy as np
import pytest

import vqdit
from tests import tiny
from vqdit.cli.main import call
from vqdit.optim.ema import PosthocEMA
from vqdit.runs import restoring, workdir
from vqdit.runs.checkpoints import Checkpoints
from vqdit.train import posthoc_averages


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("averages") / "run"
    tiny.run(tiny.tokenizer(posthoc=PosthocEMA(every=2), ema=0.9), folder)
    return folder


def test_a_kept_average_is_given_back(run):
    experiment = workdir.read_experiment(run)
    params = jax.eval_shape(experiment.task.blank)[0]
    with Checkpoints(run / "averages") as kept:
        assert kept.steps() == [2, 4, 6, 8]
        _, wide = kept.restore((params, params), 4)
    found, step = posthoc_averages.reconstruct(run, 0.10, 4)
    assert step == 4
    chex.assert_trees_all_close(found, wide, atol=1e-6)


@pytest.mark.slow
def test_a_run_too_short_to_keep_one_says_so(tmp_path):
    tiny.run(tiny.tokenizer(posthoc=PosthocEMA(every=9), steps=8), tmp_path / "run")
    said = (tmp_path / "run/log.txt").read_text()
    assert "posthoc.every=9 is more than all 8 steps: no average will be saved" in said


def test_the_command_makes_a_workdir_that_is_loaded(run, tmp_path, capsys):
    out = tmp_path / "averaged"
    assert call("average", [f"--workdir={run}", "--width=0.2", f"--out={out}"]) == 0
    assert f"--workdir={out}" in capsys.readouterr().out
    expected, _ = posthoc_averages.reconstruct(run, 0.2)
    restored = restoring.restore(out)
    chex.assert_trees_all_equal(restored.params, expected)
    assert restored.step == 8
    last = restoring.restore(run)
    chex.assert_trees_all_equal(restored.stats, last.stats)
    images = np.zeros((2, 8, 8, 1), np.uint8)
    assert vqdit.load(out).encode(images).shape == vqdit.load(run).encode(images).shape
    with pytest.raises(FileNotFoundError, match="has no saved averages; train with --posthoc"):
        posthoc_averages.reconstruct(out, 0.1)
    with pytest.raises(ValueError, match="already has a run; choose another --out"):
        call("average", [f"--workdir={run}", "--width=0.2", f"--out={out}"])
    with pytest.raises(ValueError, match="already has a run; choose another folder"):
        posthoc_averages.write(run, out, expected, 8)


@pytest.mark.parametrize(
    ("argv", "error", "message"),
    [
        (["--width=0.3"], ValueError, r"the width must be in \(0, 0.28\), got 0.3"),
        (
            ["--width=0.1", "--step=1"],
            ValueError,
            "step 1 is out of range: averages were saved for steps 2",
        ),
        (["--width=0.1", "--step=9"], ValueError, "step 9 is out of range"),
        ([], ValueError, "--width is missing"),
    ],
)
def test_bad_options_are_named(run, tmp_path, argv, error, message):
    with pytest.raises(error, match=message):
        call("average", [f"--workdir={run}", f"--out={tmp_path / 'out'}", *argv])
    assert not (tmp_path / "out").exists()
