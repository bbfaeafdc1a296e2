"""A run that the first release began goes on in every later version, to the same losses."""

import json
import tarfile
from pathlib import Path

import numpy as np

from vqdit import load
from vqdit.inference.loading import resolver
from vqdit.runs import workdir
from vqdit.runs.checkpoints import Checkpoints
from vqdit.train.loop import train

FIXTURE = Path(__file__).parent.parent / "fixtures" / "first_release.tar.xz"
"""A workdir of the tokenizer of `tests.tiny`: the checkpoint of step 4, the metrics of 1 to 8.

Never made anew: a change that it does not survive needs a way to read what there is.
"""


def losses(folder):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def test_a_run_of_the_first_release_goes_on(tmp_path):
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(tmp_path, filter="data")
    recorded = losses(tmp_path)
    assert set(recorded) == set(range(1, 9))
    assert Checkpoints(tmp_path / workdir.CHECKPOINTS).steps() == [4]
    assert load(tmp_path).encode(np.zeros((1, 8, 8, 1), np.uint8)).shape[0] == 1
    outcome = train(workdir.read_experiment(tmp_path), tmp_path, resolver({}))
    assert outcome.step == 8
    found = losses(tmp_path)
    for step, loss in recorded.items():  # up to 4 they are what was written, then computed
        np.testing.assert_allclose(found[step], loss, rtol=1e-4, err_msg=f"step {step}")
