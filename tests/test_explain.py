"""What is explained are the very samples, and what is said of them is true."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vqdit
from tests import joint
from tests.cli.trained import runs
from vqdit.inference.explanation import explain
from vqdit.processes import Flow
from vqdit.random import per_example
from vqdit.samplers import Euler, Unmasking
from vqdit.tasks.guidance_scales import guidance_branches
from vqdit.tasks.request import make_request
from vqdit.typing import Named


@pytest.fixture(scope="module")
def model():
    return joint.generator(joint.symbols())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return runs(tmp_path_factory) / "runs"


@pytest.fixture(scope="module")
def why(model):
    return explain(model, 3, rounds=2)


def path_of(model, count, seed=0):
    """All tokens before each step, and after the last: [n + 1, b, l, q] by name."""
    index = np.arange(count)
    branches = guidance_branches(model.task, [], None)
    request = make_request(model.task, index, {}, list(model.task.targets), branches)
    keys = per_example(jax.random.key(seed), jnp.asarray(index))
    x_0, path = jax.jit(model.task.trajectory)(model.params, model.frozen, keys, request)
    return {name: np.concatenate([path[name], x_0[name][None]]) for name in x_0}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"given": {"text": ["abc", "d"]}, "batch_size": 2},
        {"given": {"label": 3}, "want": ["text"], "guidance": 2.0, "seed": 4},
        {"samplers": {"text": Unmasking(steps=4), "label": Unmasking(steps=4)}, "batch_size": 1},
    ],
)
def test_the_samples_are_those_of_the_generator(settings, model):
    why = explain(model, 5, **settings, rounds=1, first=3)
    samples = model.sample(5, **settings)
    assert set(why.results) == set(samples)
    for name, values in samples.items():
        np.testing.assert_array_equal(model.modality(name).unpack(why.results[name]), values[:3])


@pytest.mark.parametrize("kind", ["generator", "flow"])
def test_the_pictures_are_those_of_the_generator(kind, folder):
    model = vqdit.load(folder / kind)
    why = explain(model, 12, rounds=1, seed=2)
    samples = model.sample(12, seed=2)
    for name in ("image", "label"):
        np.testing.assert_array_equal(why.results[name], samples[name][:8])
    assert why.given == ("label",)
    assert why.discrete == (("image",) if kind == "generator" else ())


def test_shares_of_attention_sum_to_one(why):
    assert why.spans == {"label": slice(0, 1), "text": slice(1, 5)}
    for name, count in (("text", 4), ("label", 1)):
        assert why.attention[name].shape == (joint.STEPS, 3, 2)
        np.testing.assert_allclose(why.attention[name].sum(axis=-1), 1.0, rtol=1e-5)
        assert why.looked[name].shape == (3, count, 5)
        np.testing.assert_allclose(why.looked[name].sum(axis=-1), 1.0, rtol=1e-5)
        assert why.looked[name].std() > 1e-3


def test_attention_is_that_of_the_network_at_every_step(model, why):
    path = path_of(model, 3)
    for step in range(joint.STEPS):
        share = shares(model, why, path, step)
        for name, span in why.spans.items():
            parts = [share[:, span, part].sum(axis=-1).mean(axis=-1) for part in why.spans.values()]
            np.testing.assert_allclose(why.attention[name][step], np.stack(parts, 1), rtol=1e-4)
            for sample, token in np.argwhere(why.revealed[name][..., 0] == step):
                row = share[sample, span][token]
                np.testing.assert_allclose(why.looked[name][sample, token], row, rtol=1e-4)


def shares(model, why, path, step):
    """Attention at one step, mean over layers: [b, l, l]."""
    x = {name: jnp.asarray(states[step]) for name, states in path.items()}
    count = len(next(iter(x.values())))
    t = {name: jnp.full((count, 1), time[step]) for name, time in why.times.items()}
    attention = jax.jit(model.task.attention)(model.params, Named(x), Named(t))
    return np.asarray(attention).mean(axis=0)


def test_every_token_is_revealed_once_and_in_its_window(model, why):
    path = path_of(model, 3)
    windows = {"text": range(3), "label": range(3, 6)}
    for name, states in path.items():
        revealed = why.revealed[name]
        assert revealed.shape == states.shape[1:]
        for step, state in enumerate(states):
            np.testing.assert_array_equal(state == -1, revealed >= step)
        assert set(revealed.ravel().tolist()) <= set(windows[name])
        falls = np.flatnonzero(np.diff(why.times[name]) < 0)
        assert falls.tolist() == list(windows[name])


def test_what_is_given_is_not_generated(model):
    why = explain(model, 2, given={"text": "abcd"}, rounds=1)
    assert (why.given, why.wanted) == (("text",), ("label",))
    for found in (why.revealed, why.attention, why.looked):
        assert set(found) == {"label"}
    assert why.attention["label"].shape == (joint.STEPS, 2, 2)  # it looks at the text too
    assert explain(model, 2, rounds=1).attributions == []


def test_continuous_tokens_are_shown_in_the_middle_of_their_steps(folder):
    steps = {"process": Flow(), "sampler": Euler(steps=joint.STEPS), "reveal": (0.5, 1.0)}
    model = joint.pictured(folder / "tokenizer", **steps)
    why = explain(model, 2, rounds=1)
    assert set(why.revealed) == {"label"}
    assert why.discrete == ("label",)
    share = shares(model, why, path_of(model, 2), 4)  # the middle one of the steps 3, 4 and 5
    np.testing.assert_allclose(why.looked["image"], share[:, why.spans["image"]], rtol=1e-3)


def test_a_token_of_several_positions_is_the_mean_of_their_steps(folder):
    model = joint.pictured(folder / "tokenizer", patch=2)
    why = explain(model, 2, rounds=1)
    assert why.spans == {"image": slice(0, 4), "label": slice(4, 5)}
    assert why.revealed["image"].shape == (2, 16, 1)
    assert why.looked["image"].shape == (2, 4, 5)
    np.testing.assert_allclose(why.looked["image"].sum(axis=-1), 1.0, rtol=1e-5)
    path = path_of(model, 2)
    steps = why.revealed["image"][0].reshape(2, 2, 2, 2)[0, :, 0]  # of the first token
    expected = np.zeros(5)
    for step in steps.ravel():
        expected += shares(model, why, path, step)[0, 0] / 4
    np.testing.assert_allclose(why.looked["image"][0, 0], expected, rtol=1e-3)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("num", 0, "at least 1"),
        ("batch_size", 0, "at least 1"),
        ("first", 0, "at least 1"),
        ("rounds", 0, "at least 1"),
        ("rounds", 10**9, "at most 10000"),
        ("seed", 2**32, "from 0 to"),
        ("guidance", np.nan, "finite"),
    ],
)
def test_numbers_out_of_range_are_refused(field, value, rule, model):
    with pytest.raises(ValueError, match=f"^{field} must be {rule}.*, got {value}"):
        explain(model, **{"num": 1, field: value})


def test_what_cannot_be_sampled_is_not_explained(model):
    with pytest.raises(ValueError, match="unknown modality 'image'; this model knows: label, text"):
        explain(model, 1, given={"image": 1})
