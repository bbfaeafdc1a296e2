"""Targets of variable length: a padded example is treated as the example alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import chain
from tests.phrases import LONGEST, Phrases, phrase
from vqdit.config import Experiment
from vqdit.data import Data
from vqdit.data.batch import Batch
from vqdit.inference.generator import Generator
from vqdit.modalities import Label, Text
from vqdit.models import DiT
from vqdit.processes import Masked, UniformState
from vqdit.ragged import padded, ragged
from vqdit.random import per_example
from vqdit.runs.restoring import Restored
from vqdit.samplers import DiscreteAncestral, Unmasking
from vqdit.tasks import CodeTarget, Condition, DiffusionTask, lengths
from vqdit.tasks.request import make_request
from vqdit.typing import Named

TEXT = Text(length=LONGEST, variable=True)
BLOCKS = ("adaln_zero", "in_context", "cross_attention", "mm_dit")


def task(block="adaln_zero", process=None, sampler=None, **model):
    target = CodeTarget(
        modality=TEXT, process=process or Masked(), sampler=sampler or Unmasking(steps=4)
    )
    return DiffusionTask(
        targets=Named(text=target),
        conditions=Named(label=Condition(modality=Label(classes=5))),
        model=DiT(depth=2, dim=16, heads=2, block=block, **model),
    )


def started(task, seed=0):
    """Returns parameters all of which matter, and frozen arrays."""
    frozen = task.frozen_like()
    params, _ = task.blank()
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    drawn = [0.3 * jax.random.normal(key, x.shape) for key, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, drawn), frozen


def batch(rows, length):
    """Returns a batch of phrases, padded to a length."""
    values, mask = padded(
        ragged([np.frombuffer(phrase(row).encode(), np.uint8) for row in rows]), length
    )
    index = jnp.asarray(rows, jnp.int32)
    data = Named(text=jnp.asarray(values), label=index % 5)
    there = jnp.ones(len(rows), bool)
    present, mask = Named(text=there, label=there), Named(text=jnp.asarray(mask))
    return Batch(data, present, mask, index, there)


ROWS = [8, 11]  # 6 and 2 bytes
SIZE = 12
"""Size of the global batch, of which tests take parts."""


@pytest.mark.parametrize(
    ("block", "positions"), [*((block, "sincos") for block in BLOCKS), ("adaln_zero", "rope")]
)
def test_the_loss_of_a_batch_is_that_of_its_examples_by_their_positions(block, positions):
    one = task(block, positions=positions)
    params, frozen = started(one)
    key, step = jax.random.key(3), jnp.asarray(0)

    @jax.jit
    def summed(batch):
        x, t, states = one.noised(frozen, batch._replace(size=SIZE), key)
        losses = one._losses(one._outputs(params, x, t), states)["text"]
        real = one._counted("text", x, batch, losses.shape[1])
        return jnp.sum(jnp.where(real, losses, 0.0)), jnp.sum(real)

    @jax.jit
    def loss(batch):
        return one.loss(params, {}, frozen, batch._replace(size=SIZE), key, step)

    total, aux = loss(batch(ROWS, 24))
    alone = [summed(batch([row], len(phrase(row)))) for row in ROWS]
    expected = sum(a for a, _ in alone) / sum(count for _, count in alone)
    assert np.isclose(aux.metrics["loss_text"], expected, atol=1e-5)
    assert np.isclose(total, sum(aux.metrics.values()), atol=1e-5)


@pytest.mark.parametrize("process", [Masked(), UniformState()], ids=["masked", "uniform"])
def test_a_sample_does_not_depend_on_its_padding(process):
    one = task(process=process, sampler=DiscreteAncestral(steps=5))
    params, frozen = started(one)
    index, keys = np.arange(3), per_example(jax.random.key(0), jnp.arange(3))
    told = Named(text=jnp.asarray([7, 0, 12]))

    def texts(room):
        request = make_request(one, index, {"label": index}, ["text"], room={"text": room})
        drawn = jax.jit(one.sample)(params, frozen, keys, request._replace(lengths=told))
        rows = zip(np.asarray(drawn["text"]), told["text"], strict=True)
        return [bytes(row[:length]) for row, length in rows]

    assert texts(12) == texts(24)


def test_confident_unmasking_counts_real_positions_alone():
    one = task(sampler=Unmasking(steps=3))
    params, frozen = started(one)
    index, keys = np.arange(2), per_example(jax.random.key(1), jnp.arange(2))
    found = []
    for room in (9, 24):
        request = make_request(one, index, {"label": index}, ["text"], room={"text": room})
        request = request._replace(lengths=Named(text=jnp.asarray([9, 4])))
        _, path = jax.jit(one.trajectory)(params, frozen, keys, request)
        found.append(np.sum(np.asarray(path["text"])[..., 0] == -1, axis=2))
    assert np.array_equal(*found)
    assert found[0][0].tolist() == [9, 4] and (found[0][-1] > 0).all()


def test_lengths_are_drawn_from_the_networks_distribution():
    one = task()
    params, frozen = started(one)
    count = 4000
    index = np.zeros(count, int)
    keys = per_example(jax.random.key(0), jnp.arange(count))
    request = make_request(one, index, {"label": index + 2}, ["text"], room={"text": 1})
    drawn = jax.jit(one.draw_lengths)(params, frozen, keys, request).lengths["text"]
    request = make_request(one, index[:1], {"label": index[:1] + 2}, ["text"], room={"text": 1})
    x = one.start(frozen, per_example(jax.random.key(1), jnp.arange(1)), request)
    t = {"text": jnp.ones((1, 1)), "text.length": jnp.ones((1, 1)), "label": jnp.zeros((1, 1))}
    logits = one._outputs(params, x, Named(t))["text.length"][0, 0]
    p = np.asarray(jax.nn.softmax(logits))
    share = np.bincount(np.asarray(drawn), minlength=LONGEST + 1) / count
    assert np.max(np.abs(share - p)) < 4 * np.sqrt(p.max() / count)
    sharp = task(sampler=Unmasking(steps=3, temperature=0.0))
    index = np.zeros(9, int)
    request = make_request(one, index, {"label": index + 2}, ["text"], room={"text": 1})
    keys = per_example(jax.random.key(2), jnp.arange(9))
    likely = sharp.draw_lengths(params, frozen, keys, request)
    assert set(likely.lengths["text"].tolist()) == {int(p.argmax())}
    told = request._replace(lengths=Named(text=jnp.full(9, 5)))
    keys = per_example(jax.random.key(3), jnp.arange(9))
    kept = one.draw_lengths(params, frozen, keys, told).lengths["text"]
    assert kept.tolist() == [5] * 9


def test_the_bound_of_a_text_is_that_of_its_length_and_of_its_tokens():
    one = task()
    params, frozen = started(one)
    keys = per_example(jax.random.key(0), jnp.arange(2))
    texts, index = ragged([np.frombuffer(b"aab", np.uint8), np.zeros(0, np.uint8)]), np.arange(2)

    scoring_loss = jax.jit(functools.partial(one.scoring_loss, name="text", rounds=4))

    @functools.cache
    def bound(room):
        request = make_request(one, index, {"label": index, "text": texts}, [], room={"text": room})
        request = request._replace(known=Named(text=jnp.asarray(False)))
        return scoring_loss(params, frozen, keys, request)

    assert np.allclose(bound(3), bound(24), atol=1e-4)
    request = make_request(one, index, {"label": index}, ["text"], room={"text": 1})
    x = one.start(frozen, keys, request)
    t = {"text": jnp.ones((2, 1)), "text.length": jnp.ones((2, 1)), "label": jnp.zeros((2, 1))}
    outputs = one._outputs(params, x, Named(t))["text.length"]
    of_length = lengths.surprise(outputs, jnp.asarray([3, 0]))
    assert np.isclose(bound(3)[1], of_length[1], atol=1e-5)  # an empty text is its length alone
    assert bound(3)[0] > of_length[0]


class Letters(Text):
    """Texts of at most as many letters as the chain has."""

    @property
    def vocabulary(self):
        return chain.CODES


class Oracle(DiffusionTask):
    """A task over the beginnings of the chain's sequences, whose network is perfect."""

    def _outputs(self, params, x, t, documents=None):
        length, at = x["text.length"][:, 0], t["text"]
        is_hidden = ~lengths.real(length[:, 0], chain.LENGTH)
        times = jnp.broadcast_to(at, is_hidden.shape)
        pi = chain.belief(self.process("text"), x["text"], times, False, is_hidden)
        of_length = jnp.broadcast_to(jnp.log(P_LENGTH), (len(pi), 1, len(P_LENGTH)))
        return Named({"text": pi, "text.length": of_length})


P_LENGTH = np.asarray([0.05, 0.15, 0.4, 0.3, 0.1])
"""Probabilities of the lengths 0 to 4."""


def entropy_of_beginnings():
    """Nats of a sequence of the chain of which a random number of codes is kept."""
    total = 0.0
    for length, p_length in enumerate(P_LENGTH):
        _, group = np.unique(chain.SEQUENCES[:, :length], axis=0, return_inverse=True)
        p = p_length * np.bincount(group.ravel(), chain.P)
        total -= np.sum(p * np.log(p))
    return total


@pytest.mark.parametrize("process", [Masked(), UniformState()], ids=["masked", "uniform"])
def test_the_bound_of_the_oracle_is_the_entropy_of_lengths_and_texts(process):
    """Its estimate is within its own interval of 95 %; the bound of a perfect network is tight."""
    modality = Letters(length=chain.LENGTH, variable=True)
    target = CodeTarget(modality=modality, process=process, sampler=DiscreteAncestral(steps=2))
    one = Oracle(targets=Named(text=target), model=DiT(depth=1, dim=16, heads=2))
    count = 4000
    kept = np.random.default_rng(5).choice(len(P_LENGTH), size=count, p=P_LENGTH)
    rows = np.asarray(chain.drawn(count, seed=1))[..., 0].astype(np.uint8)
    texts = ragged([row[:length] for row, length in zip(rows, kept, strict=True)])
    room = {"text": chain.LENGTH}
    request = make_request(one, np.arange(count), {"text": texts}, [], room=room)
    request = request._replace(known=Named(text=jnp.asarray(False)))
    keys = per_example(jax.random.key(0), jnp.arange(count))
    scored = functools.partial(one.scoring_loss, name="text", rounds=8, random_times=True)
    losses = np.asarray(jax.jit(scored)(None, one.frozen_like(), keys, request), np.float64)
    error = losses.std(ddof=1) / np.sqrt(count)
    assert abs(losses.mean() - entropy_of_beginnings()) < 1.96 * error
    assert error < 0.1


def test_a_condition_of_variable_length_does_not_depend_on_its_padding():
    one = DiffusionTask(
        targets=Named(label=CodeTarget(modality=Label(classes=5))),
        conditions=Named(text=Condition(modality=TEXT, route="cross", drop=0.5)),
        model=DiT(depth=2, dim=16, heads=2),
    )
    params, frozen = started(one)
    key, step = jax.random.key(3), jnp.asarray(0)

    @jax.jit
    def loss(batch):
        return one.loss(params, {}, frozen, batch._replace(size=SIZE), key, step)[0]

    short, long = (loss(batch(ROWS, size)) for size in (6, 24))
    assert np.isclose(short, long, atol=1e-5)


def test_data_and_config_must_agree_on_what_is_variable():
    fixed = dataclasses.replace(task(), targets=Named(text=CodeTarget(modality=Text(length=24))))
    with pytest.raises(ValueError, match="'text' is of variable length in the data, but of one"):
        fixed.check(Phrases().features())
    task().check(Phrases().features())
    with pytest.raises(ValueError, match=r"needs one token per position, but its patch is 2"):
        patched = CodeTarget(modality=TEXT, patch=2)
        dataclasses.replace(task(), targets=Named(text=patched)).resolve_references(lambda n: None)


def test_codes_that_occur_do_not_count_padding():
    one = task()
    batches = Data(source=Phrases(), batch_size=20).split_batches("train")
    frozen = one.space("text").freeze(None, batches, "text")
    occurs = np.flatnonzero(frozen["occurs"])
    assert bytes(occurs.astype(np.uint8)) == b"abcde"


def test_given_conditions_come_back_without_padding():
    one = DiffusionTask(
        targets=Named(label=CodeTarget(modality=Label(classes=5))),
        conditions=Named(text=Condition(modality=TEXT, route="cross")),
        model=DiT(depth=1, dim=16, heads=2),
    )
    restored = Restored(Experiment(task=one), one, started(one)[0], {}, one.frozen_like(), 0)
    found = Generator(restored).sample(3, given={"text": ["aab", "c"]})
    assert found["text"].tolist() == ["aab", "c", "aab"]
