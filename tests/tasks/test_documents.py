"""Documents packed into a window: each has the predictions, losses and scores that it has alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.data.batch import Batch
from vqdit.data.text_stream import document_numbers
from vqdit.modalities import Text
from vqdit.models import DiT
from vqdit.processes import Independent
from vqdit.tasks import CodeTarget, DiffusionTask
from vqdit.tasks.request import make_request
from vqdit.typing import Named

WINDOW = np.frombuffer(b"abc\0defg\0hi\0\0\0\0", np.uint8)[None]
SPANS = (slice(0, 4), slice(4, 9), slice(9, 12))


def task_of(length):
    model = DiT(depth=2, dim=16, heads=2, patch=1, positions="rope")
    modality = Text(length=length, packed=True)
    joint = Independent(p_one_known=0.0, p_known=0.0, p_dropped=0.0)
    return DiffusionTask(
        targets=Named(text=CodeTarget(modality=modality)), model=model, joint=joint
    )


@pytest.fixture(scope="module")
def params():
    fresh, _ = task_of(15).blank()
    leaves, tree = jax.tree.flatten(fresh)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    drawn = [a + 0.3 * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
    return tree.unflatten(drawn)


def batch_of(windows):
    data, every = Named(text=jnp.asarray(windows)), jnp.ones(len(windows), bool)
    numbers = Named(text=jnp.asarray(document_numbers(np.asarray(windows))))
    index = jnp.arange(len(windows))
    return Batch(data, Named(text=every), Named(), index, every, documents=numbers)


def test_a_document_is_predicted_as_if_it_were_alone(params):
    task, t = task_of(15), Named(text=jnp.full((1, 1), 0.5))
    codes = jnp.asarray(WINDOW, jnp.int32)[..., None].at[0, ::2].set(-1)
    together = task._outputs(params, Named(text=codes), t, task._documents(batch_of(WINDOW)))
    for span in SPANS:
        alone = task_of(span.stop - span.start).predict(params)(Named(text=codes[:, span]), t)
        np.testing.assert_allclose(together["text"][:, span], alone["text"], atol=1e-5)


def test_the_loss_is_the_mean_over_the_documents_without_what_only_fills(params):
    task = task_of(15)
    key, frozen = jax.random.key(2), {"text": {}}
    loss = jax.jit(lambda batch: task.loss(params, {}, frozen, batch, key, jnp.asarray(0))[0])
    batch = batch_of(WINDOW)
    x, t, states = task.noised(frozen, batch, key)
    losses = task._losses(task._outputs(params, x, t, task._documents(batch)), states)["text"]
    np.testing.assert_allclose(loss(batch), losses[0, :12].mean(), rtol=1e-5)
    measured = task.evaluate(params, {}, frozen, batch, key)["loss_text"]
    np.testing.assert_allclose(measured.compute("")[""], losses[0, :12].mean(), rtol=1e-5)


@pytest.mark.parametrize("random_times", [False, True])
def test_the_score_of_a_window_is_that_of_its_documents(params, random_times):
    def score(task, stored, **fields):
        stored, keys = np.asarray(stored), jax.random.split(jax.random.key(0), len(stored))
        request = make_request(task, np.arange(len(stored)), {}, ["text"])
        request = request._replace(given=Named(text=jnp.asarray(stored)))
        fields = {"rounds": 4, "random_times": random_times, **fields}
        return task.scoring_loss(params, {"text": {}}, keys, request, "text", **fields)

    first = b"abc\0"
    filled = np.frombuffer(first.ljust(15, b"\0"), np.uint8)[None]
    alone = np.frombuffer(first, np.uint8)[None]
    np.testing.assert_allclose(score(task_of(15), filled), score(task_of(4), alone), rtol=1e-5)
    assert score(task_of(15), WINDOW) > score(task_of(15), filled)


def test_a_text_that_is_not_packed_has_no_documents(params):
    task = task_of(15)
    target = dataclasses.replace(task.targets["text"], modality=Text(length=15))
    plain = dataclasses.replace(task, targets=Named(text=target))
    assert plain._documents(batch_of(WINDOW)) is None
    assert task._documents(batch_of(WINDOW))["text"].tolist() == [
        [0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 15, 15, 15]
    ]
