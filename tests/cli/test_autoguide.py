"""Guidance away from a second, worse model: `Generator.sample(autoguide=...)`, `--autoguide`."""

import copy
import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vqdit
from vqdit.cli.main import main
from vqdit.random import per_example
from vqdit.tasks.request import make_request
from vqdit.typing import Named

SIZE = {"batch_size": 4, "seed": 1}


@pytest.fixture(scope="module")
def flow(trained):
    return vqdit.load(trained / "runs/flow")


@pytest.fixture(scope="module")
def worse(flow):
    """The same with half of every parameter."""
    other = copy.copy(flow)
    other.params = jax.tree.map(lambda leaf: 0.5 * leaf, flow.params)
    return other


def test_it_is_the_extrapolation_of_the_two_predictions(flow, worse):
    """Written out: x moves along good + (w - 1) (good - bad), step by step of Euler."""
    images = flow.sample(4, autoguide=worse, guidance=3.0, **SIZE)["image"]
    task, keys = flow.task, per_example(jax.random.key(1), jnp.arange(4))
    request = make_request(flow.task, np.arange(4), {}, ["image"])
    x = task.start(flow.frozen, keys, request)
    good, bad = task.predict(flow.params), task.predict(worse.params)
    label = jnp.zeros((4, 1))
    times = np.linspace(1.0, 0.0, 4)
    for t, after in zip(times, times[1:], strict=False):
        now = Named(image=jnp.full((4, 1), t, jnp.float32), label=label)
        better, less = good(x, now)["image"], bad(x, now)["image"]
        moved = better + 2.0 * (better - less)
        x = Named(x | {"image": x["image"] + (after - t) * moved})
    expected = task.space("image").decode(flow.frozen["image"], x["image"])
    assert np.mean(np.asarray(expected) == images) > 0.98
    assert (images != flow.sample(4, guidance=1.0, **SIZE)["image"]).any()


def test_nothing_moves_away_from_the_same_model_or_by_a_scale_of_one(flow, worse):
    plain = flow.sample(4, guidance=1.0, **SIZE)["image"]
    for other, scale in ((flow, 5.0), (worse, 1.0)):
        images = flow.sample(4, autoguide=other, guidance=scale, **SIZE)["image"]
        assert np.mean(images == plain) > 0.98


def test_codes_are_guided_too_and_what_is_given_comes_back(joint):
    model = vqdit.load(joint)
    other = copy.copy(model)
    other.params = jax.tree.map(lambda leaf: 0.5 * leaf, model.params)
    given = {"text": ["seven"]}
    samples = model.sample(4, given=given, want=["image"], autoguide=other, guidance=2.0, **SIZE)
    assert samples["text"].tolist() == ["seven"] * 4
    plain = model.sample(4, given=given, want=["image"], guidance=1.0, **SIZE)
    assert (samples["image"] != plain["image"]).any()


def test_models_of_other_tokens_and_scales_of_pairs_are_refused(flow, worse, trained, joint):
    with pytest.raises(
        ValueError, match="needs a weak model with the same modalities, processes and tokens"
    ):
        flow.sample(4, autoguide=vqdit.load(trained / "runs/generator"), guidance=2.0)
    with pytest.raises(ValueError, match="this one differs in image"):
        flow.sample(4, autoguide=vqdit.load(joint), guidance=2.0)
    with pytest.raises(
        ValueError, match="needs one scale for all targets, not scales of pairs such as image:label"
    ):
        flow.sample(4, autoguide=worse, guidance={"image:label": 2.0})
    stranger = copy.copy(worse)
    prints = Named(dict.fromkeys(flow.task.fingerprints, "0" * 16))
    stranger.task = dataclasses.replace(flow.task, fingerprints=prints)
    with pytest.raises(ValueError, match="the weak model has another tokenizer for 'image'"):
        flow.sample(4, autoguide=stranger, guidance=2.0)


def test_on_the_command_line(trained, tmp_path, refused):
    shutil.copytree(trained / "runs/flow", tmp_path / "worse")
    args = ["sample", f"--workdir={trained}/runs/flow", f"--autoguide={tmp_path}/worse", "--num=2"]
    assert main([*args, "--guidance=2", f"--out={tmp_path}/out"]) == 0
    record = json.loads((tmp_path / "out/samples.json").read_text())
    assert (record["autoguide"], record["guidance"]) == (f"{tmp_path}/worse", 2.0)
    assert "leave out --autoguide" in refused(*args, "--explain", f"--out={tmp_path}/no")
    pairs = refused(*args, "--guidance=image:label=2", f"--out={tmp_path}/no")
    assert "one scale for all targets, not scales of pairs such as image:label" in pairs
    missing = [*args[:2], f"--autoguide={tmp_path}/nothing", f"--out={tmp_path}/no"]
    assert "nothing" in refused(*missing)
    assert not (tmp_path / "no").exists()
