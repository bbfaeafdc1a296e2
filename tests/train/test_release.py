"""Runs that earlier versions began load, sample and resume to the same losses."""

import json
import tarfile
from pathlib import Path

import numpy as np

from vqdit import load
from vqdit.inference.loading import resolver
from vqdit.runs import workdir
from vqdit.runs.checkpoints import Checkpoints
from vqdit.train.loop import train

FIXTURES = Path(__file__).parent.parent / "fixtures"
"""Workdirs that earlier versions wrote.

`first_release`: the tokenizer of `tests.tiny`: the checkpoint of step 4, the metrics of 1 to 8.

`before_rooms`: the last commit before modules moved into folders: an image tokenizer, and a DiT
over pictures (masked), sounds (flow) and names (bytes), given the label or not, with every field of
the joint times, guidance, mesh and deadlines set: the checkpoint of step 2, the metrics of 1 to 4,
and four samples of "seven" with seed 3, with the codes of their pictures.

Never made anew: a change that one does not survive needs a way to read what there is.
"""


def unpack(name, folder):
    with tarfile.open(FIXTURES / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")


def losses(folder):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def check_resumes(folder, start, last):
    recorded = losses(folder)
    assert set(recorded) == set(range(1, last + 1))
    assert Checkpoints(folder / workdir.CHECKPOINTS).steps() == [start]
    assert train(workdir.read_experiment(folder), folder, resolver({})).step == last
    found = losses(folder)
    for step, loss in recorded.items():  # up to `start` they are what was written, then computed
        np.testing.assert_allclose(found[step], loss, rtol=1e-4, err_msg=f"step {step}")


def test_a_run_of_the_first_release_goes_on(tmp_path):
    unpack("first_release", tmp_path)
    assert load(tmp_path).encode(np.zeros((1, 8, 8, 1), np.uint8)).shape[0] == 1
    check_resumes(tmp_path, 4, 8)


def test_a_workdir_of_the_commit_before_resumes(tmp_path):
    unpack("before_rooms", tmp_path)
    check_resumes(tmp_path / "joint", 2, 4)


def test_a_workdir_of_the_commit_before_loads_and_samples(tmp_path):
    unpack("before_rooms", tmp_path)
    with np.load(tmp_path / "samples.npz") as archive:
        recorded = dict(archive)
    codes = recorded.pop("codes")
    np.testing.assert_array_equal(load(tmp_path / "image").encode(recorded["image"]), codes)
    samples = load(tmp_path).sample(4, given={"text": ["seven"] * 4}, seed=3)
    assert set(samples) == {"audio", "image", "text", "label"} == set(recorded)
    for name in ("text", "label"):
        np.testing.assert_array_equal(samples[name], recorded[name])
    for name in ("image", "audio"):  # rounded from floats
        assert samples[name].dtype == recorded[name].dtype
        np.testing.assert_allclose(samples[name].astype(int), recorded[name].astype(int), atol=1)
