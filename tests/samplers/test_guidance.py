"""Guidance against its formula, branch by branch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.samplers import Branch, guided
from vqdit.typing import Named

BATCH = 3
NAMES = ("image", "label", "text")
TARGETS = ("image", "text")


def at(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), (BATCH, *shape))


X = Named(image=at(4, 2), text=at(5, 1, seed=1), label=at(1, 1, seed=2))
T = Named(image=jnp.full((BATCH, 1), 0.5), text=jnp.full((BATCH, 5), 0.25), label=jnp.zeros((3, 1)))
UNKNOWN = Named(image=at(4, 2, seed=3), text=jnp.full((BATCH, 5, 1), -1.0), label=at(1, 1, seed=4))


def predict(x, t):
    """Every prediction depends on every modality, on every time, and on its own example alone."""
    mean = sum(jnp.mean(x[name] ** 2, axis=(1, 2)) for name in NAMES)[:, None, None]
    time = sum(jnp.mean(t[name], axis=1) for name in NAMES)[:, None, None]
    return Named(
        image=jnp.concatenate([x["image"] * mean, x["image"] + time], axis=-1),
        text=jnp.sin(x["text"]) + mean * time,
    )


def branch(*hidden, **scale):
    return Branch(
        Named({name: jnp.asarray(name in hidden) for name in NAMES}),
        Named({name: jnp.float32(scale.get(name, 1.0)) for name in TARGETS}),
    )


def without(*hidden):
    """The prediction that does not know some modalities."""
    x, t = dict(X), dict(T)
    for name in hidden:
        x[name], t[name] = UNKNOWN[name], jnp.ones_like(T[name])
    return predict(Named(x), Named(t))


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 2.5])
def test_one_branch_moves_every_channel_away_from_what_knows_less(scale):
    out = guided(predict, UNKNOWN, (branch("label", image=scale, text=scale),))(X, T)
    good, bad = predict(X, T), without("label")
    for name in TARGETS:
        expected = bad[name] + scale * (good[name] - bad[name])
        np.testing.assert_allclose(out[name], expected, rtol=1e-5, atol=1e-5)
        assert out[name].shape == good[name].shape
        assert (good[name] != bad[name]).all()


def test_a_scale_of_one_is_no_guidance_bit_for_bit():
    good = predict(X, T)
    for branches in ((), (branch("label"),), (branch("text"), branch("image", "label"))):
        out = guided(predict, UNKNOWN, branches)(X, T)
        for name in TARGETS:
            np.testing.assert_array_equal(out[name], good[name])
    assert guided(predict, UNKNOWN, ()) is predict


def test_pairs_add_up_each_for_its_own_target():
    branches = (branch("text", image=3.0), branch("label", image=1.5, text=2.0))
    out = guided(predict, UNKNOWN, branches)(X, T)
    good, no_text, no_label = predict(X, T), without("text"), without("label")
    expected = {
        "image": good["image"]
        + 2.0 * (good["image"] - no_text["image"])
        + 0.5 * (good["image"] - no_label["image"]),
        "text": good["text"] + 1.0 * (good["text"] - no_label["text"]),
    }
    for name in TARGETS:
        np.testing.assert_allclose(out[name], expected[name], rtol=1e-5, atol=1e-5)
    turned = guided(predict, UNKNOWN, branches[::-1])(X, T)
    for name in TARGETS:
        np.testing.assert_allclose(turned[name], out[name], rtol=1e-5, atol=1e-5)


def test_a_branch_may_hide_several_modalities_at_once():
    out = guided(predict, UNKNOWN, (branch("text", "label", image=2.0),))(X, T)
    good, bad = predict(X, T)["image"], without("text", "label")["image"]
    np.testing.assert_allclose(out["image"], 2.0 * good - bad, rtol=1e-5, atol=1e-5)


def test_what_is_hidden_is_wholly_unknown_and_the_network_runs_once():
    seen = []

    def watched(x, t):
        seen.append((x, t))
        return predict(x, t)

    guided(watched, UNKNOWN, (branch("text", image=2.0), branch("label", text=3.0)))(X, T)
    ((x, t),) = seen
    for name, (first, second, third) in {
        name: np.split(np.asarray(x[name]), 3) for name in NAMES
    }.items():
        np.testing.assert_array_equal(first, X[name])
        np.testing.assert_array_equal(second, UNKNOWN[name] if name == "text" else X[name])
        np.testing.assert_array_equal(third, UNKNOWN[name] if name == "label" else X[name])
    for name in NAMES:
        _, second, third = np.split(np.asarray(t[name]), 3)
        assert t[name].shape == (3 * BATCH, T[name].shape[1])  # per token stays per token
        np.testing.assert_array_equal(second, np.where(name == "text", 1.0, T[name]))
        np.testing.assert_array_equal(third, np.where(name == "label", 1.0, T[name]))


def test_an_example_is_guided_alike_wherever_it_stands_in_the_batch():
    branches = (branch("text", image=3.0), branch("label", text=0.5))
    plain = guided(predict, UNKNOWN, branches)(X, T)
    order = jnp.asarray([2, 0, 1])
    x, t, unknown = jax.tree.map(lambda part: part[order], (X, T, UNKNOWN))
    moved = guided(predict, unknown, branches)(x, t)
    for name in TARGETS:
        np.testing.assert_allclose(moved[name], plain[name][order], rtol=1e-6)


def test_what_is_hidden_may_be_decided_in_a_compiled_program():
    traces = []

    @jax.jit
    def go(branches):
        traces.append(branches)
        return guided(predict, UNKNOWN, branches)(X, T)

    for one in (branch("text", image=2.0), branch("label", image=0.5)):
        plain = guided(predict, UNKNOWN, (one,))(X, T)
        for name in TARGETS:
            np.testing.assert_allclose(go((one,))[name], plain[name], rtol=1e-5, atol=1e-5)
    assert len(traces) == 1
