"""Attribution: by hand, where nothing can be a cause, and where one letter is the cause."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import vqdit
from tests import joint
from tests.cli.trained import runs
from vqdit.data import Batch
from vqdit.inference.attribution import _regions
from vqdit.inference.explanation import explain
from vqdit.modalities import Image
from vqdit.models import DiT
from vqdit.processes import Independent, Masked
from vqdit.random import per_example
from vqdit.tasks.guidance_scales import guidance_branches
from vqdit.tasks.request import make_request
from vqdit.typing import Named

ROUNDS = 4


@pytest.fixture(scope="module")
def model():
    return joint.generator(joint.symbols())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return runs(tmp_path_factory) / "runs"


def test_it_is_the_evidence_without_a_letter_minus_that_with_it(model):
    texts = ["abcd", "xy"]
    why = explain(model, 3, given={"text": texts}, rounds=ROUNDS, seed=5, batch_size=2)
    assert [(one.sample, one.source) for one in why.attributions] == [
        (sample, "text") for sample in range(3)
    ]

    stored = model.pack("text", texts)
    request = make_request(model.task, np.arange(3), {"text": stored}, ["label"])
    request = request._replace(given=request.given | {"label": jnp.asarray(why.results["label"])})
    keys = per_example(jax.random.key(5), jnp.arange(3))
    run = jax.jit(functools.partial(model.task.scoring_loss, name="label", rounds=ROUNDS))

    def scoring_loss(sample, hidden):
        masks = Named(text=jnp.broadcast_to(hidden, (3, 4)))
        return float(run(model.params, model.frozen, keys, request, hidden=masks)[sample])

    for one in why.attributions:
        text = texts[one.sample % 2]
        assert one.regions == tuple(text)
        none, every = np.zeros(4, bool), np.ones(4, bool)
        sample = one.sample
        known, unknown = scoring_loss(sample, none), scoring_loss(sample, every)
        assert one.whole["label"] == pytest.approx(unknown - known, abs=1e-5)
        for number, belongs in enumerate(np.eye(4, dtype=bool)[: len(text)]):
            np.testing.assert_array_equal(one.belongs[number], belongs)
            change = scoring_loss(sample, belongs) - known
            np.testing.assert_allclose(one.change["label"][number], change, atol=1e-5)
            alone = unknown - scoring_loss(sample, ~belongs)
            np.testing.assert_allclose(one.alone["label"][number], alone, atol=1e-5)
            assert abs(change) > 1e-4


def largest(why):
    parts = [
        [*one.change[name], *one.alone[name], one.whole[name]]
        for one in why.attributions
        for name in one.change
    ]
    assert parts
    return max(abs(number) for part in parts for number in part)


def test_it_is_zero_where_tokens_do_not_see_each_other():
    task = joint.symbols()
    params = joint.randomized(task)
    params["blocks"]["out"] = jax.tree.map(jnp.zeros_like, params["blocks"]["out"])
    model = joint.generator(task, params)
    assert largest(explain(model, 3, given={"text": "abcd"}, rounds=ROUNDS)) == 0.0
    assert largest(explain(model, 3, given={"label": [0, 1, 2]}, rounds=ROUNDS)) == 0.0


def test_it_is_zero_where_the_network_predicts_nothing():
    task = joint.symbols()
    model = joint.generator(task, task.blank()[0])  # heads start at zero
    assert largest(explain(model, 3, given={"text": "abcd"}, rounds=ROUNDS)) == 0.0


def test_the_generated_tokens_are_scored_and_not_what_their_picture_encodes_to(folder):
    model = joint.pictured(folder / "tokenizer")
    why = explain(model, 2, given={"label": 3}, rounds=ROUNDS, seed=1)
    index = np.arange(2)
    keys = per_example(jax.random.key(1), jnp.asarray(index))
    request = make_request(model.task, index, {"label": model.pack("label", 3)}, ["image"])
    task, space = model.task, model.task.space("image")
    x_0, _ = jax.jit(task.trajectory)(model.params, model.frozen, keys, request)
    again = jax.jit(space.encode)(model.frozen["image"], jnp.asarray(why.results["image"]))
    assert (again != x_0["image"]).any()
    run = jax.jit(functools.partial(task.scoring_loss, name="image", rounds=ROUNDS))

    def scoring_loss(hidden):
        masks = Named(label=jnp.full((2, 1), hidden))
        settings = {"hidden": masks, "x_0": x_0["image"]}
        return run(model.params, model.frozen, keys, request, **settings)

    change = scoring_loss(True) - scoring_loss(False)
    for one in why.attributions:
        assert one.regions == ("3",)
        np.testing.assert_allclose(one.change["image"], change[one.sample], atol=1e-4)
        np.testing.assert_allclose(one.change["image"], one.alone["image"], atol=1e-4)


@pytest.mark.parametrize("kind", ["generator", "flow"])
def test_labels_that_only_condition_are_hidden_too(kind, folder):
    model = vqdit.load(folder / kind)
    why = explain(model, 3, given={"label": [4, -1, 6]}, rounds=ROUNDS)
    assert [(one.sample, one.source, one.regions) for one in why.attributions] == [
        (0, "label", ("4",)),
        (2, "label", ("6",)),
    ]
    keys = per_example(jax.random.key(0), jnp.arange(3))
    stored = np.asarray([4, -1, 6], np.int32)
    request = make_request(model.task, np.arange(3), {"label": stored}, ["image"])
    guided = request._replace(branches=guidance_branches(model.task, ["label"], None))
    x_0, _ = jax.jit(model.task.trajectory)(model.params, model.frozen, keys, guided)
    run = jax.jit(functools.partial(model.task.scoring_loss, name="image", rounds=ROUNDS))
    none = request._replace(given=request.given | {"label": jnp.full(3, -1, jnp.int32)})
    known, unknown = (
        run(model.params, model.frozen, keys, asked, x_0=x_0["image"]) for asked in (request, none)
    )
    for one in why.attributions:
        expected = float(unknown[one.sample] - known[one.sample])
        assert one.whole["image"] == pytest.approx(expected, abs=1e-5)
        assert one.change["image"].tolist() == [one.whole["image"]]


def train(task, texts, labels, steps):
    params, optimizer = task.model.init(jax.random.key(0), task.inputs), optax.adam(3e-3)
    frozen = task.frozen_like()
    size = len(texts)
    every = jnp.ones(size, bool)
    data = Named(text=jnp.asarray(texts), label=jnp.asarray(labels))
    present = Named(text=every, label=every)
    batch = Batch(data=data, present=present, mask=Named(), index=jnp.arange(size), valid=every)

    @jax.jit
    def run(params):
        def step(carry, number):
            params, state = carry
            key = jax.random.fold_in(jax.random.key(2), number)

            def loss(params):
                return task.loss(params, {}, frozen, batch, key, number)[0]

            value, gradient = jax.value_and_grad(loss)(params)
            updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), value

        start = (params, optimizer.init(params))
        (params, _), losses = jax.lax.scan(step, start, jnp.arange(steps))
        return params, losses

    params, losses = run(params)
    assert losses[-1] < losses[0]
    return params


@pytest.mark.slow
def test_the_letter_that_determines_the_label_is_its_cause():
    """All texts of four letters a to d; the label is the number of the first letter."""
    letters = np.indices((4, 4, 4, 4)).reshape(4, -1).T  # no other letter says anything of it
    letters = np.random.default_rng(0).permutation(letters)  # times go with the rows
    task = joint.symbols(
        model=DiT(depth=2, dim=32, heads=2, patch=1), joint=Independent(p_one_known=0.7)
    )
    params = train(task, (letters + ord("a")).astype(np.uint8), letters[:, 0], 1000)
    model = joint.generator(task, params)
    texts = ["abcd", "bacd", "cadb", "dbca"]
    why = explain(model, 4, given={"text": texts}, rounds=512)
    assert why.results["label"].tolist() == [0, 1, 2, 3]
    share = np.bincount(letters[:, 0]) / len(letters)
    for one, surprise in zip(why.attributions, -np.log(share), strict=True):
        # Without any letter the label is as surprising as it is rare; so it is without the first.
        whole = one.whole["label"]
        assert whole == pytest.approx(surprise, abs=0.5)
        first, *others = one.change["label"]
        assert first == pytest.approx(whole, abs=0.15)
        assert max(map(abs, others)) < 0.1
        alone, *others = one.alone["label"]
        assert alone == pytest.approx(whole, abs=0.15)
        assert max(map(abs, others)) < 0.2


def test_large_grids_are_divided_into_at_most_64_regions_that_cover_them():
    names, belongs = _regions(
        Image(), np.zeros((32, 32, 3), np.uint8), (20, 12), np.ones(240, bool)
    )
    assert belongs.shape == (64, 240)
    np.testing.assert_array_equal(belongs.sum(axis=0), 1)
    assert (names[0], names[-1]) == ("0,0", "7,7")
    first = belongs[0].reshape(20, 12)
    assert first[:3, :2].all() and first.sum() == 6
    assert set(belongs.sum(axis=1).tolist()) == {2, 3, 4, 6}
    names, belongs = _regions(Image(), np.zeros((32, 32, 3), np.uint8), (3, 2), np.ones(6, bool))
    assert names == ("0,0", "0,1", "1,0", "1,1", "2,0", "2,1")
    np.testing.assert_array_equal(belongs, np.eye(6, dtype=bool))


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_partly_hidden_codes_are_at_the_time_when_so_many_are_masked(schedule):
    process = Masked(schedule=schedule)
    t = jnp.linspace(0.0, 1.0, 11)
    np.testing.assert_allclose(process.time_at(process.mask_probability(t)), t, atol=1e-3)
    targets = joint.symbols().targets
    text = dataclasses.replace(targets["text"], process=process)
    model = joint.generator(joint.symbols(targets=targets | {"text": text}))
    request = make_request(
        model.task, np.arange(2), {"text": model.pack("text", "abcd")}, ["label"]
    )
    keys = per_example(jax.random.key(0), jnp.arange(2))
    hidden = jnp.asarray([[True, False, False, False], [False] * 4])
    x, t = model.task._partly_hidden(model.frozen, keys, request, Named(text=hidden))
    np.testing.assert_array_equal(x["text"][..., 0], [[-1, 98, 99, 100], [97, 98, 99, 100]])
    np.testing.assert_allclose(process.mask_probability(t["text"]), [[0.25], [0.0]], atol=1e-6)
    np.testing.assert_array_equal(t["label"], [[1.0], [1.0]])
