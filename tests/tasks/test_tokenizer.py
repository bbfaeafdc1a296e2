"""A tokenizer trains with every quantizer, and says how well its codes are used."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from tests import tiny
from vqdit.optim import AdamW
from vqdit.optim.ema import Averaging
from vqdit.quantizers import BSQ, FSQ, IBQ, LFQ, RVQ, VQ, GroupedVQ, GumbelVQ, SimVQ
from vqdit.train import state as states
from vqdit.train.step import train_step

BOOK = VQ(codebook_size=16, dim=4)


def of_a_run(quantizer):
    """Returns what makes a state, and what takes a step."""
    task = dataclasses.replace(tiny.tokenizer().task, quantizer=quantizer)
    fixed = task, AdamW(warmup=0).build(2), Averaging()
    return functools.partial(states.create, *fixed), functools.partial(train_step, *fixed)


@pytest.mark.parametrize(
    "quantizer",
    [
        BOOK,
        VQ(codebook_size=16, dim=4, learning="gradient"),
        RVQ(quantizer=BOOK, depth=2),
        RVQ(quantizer=BOOK, depth=2, shared=True),
        GroupedVQ(quantizer=VQ(codebook_size=16, dim=2)),
        GroupedVQ(quantizer=RVQ(quantizer=VQ(codebook_size=16, dim=2), depth=2)),
        FSQ(levels=(8, 5, 3, 2)),
        LFQ(bits=4),
        BSQ(bits=4),
        SimVQ(codebook_size=16, dim=4),
        IBQ(codebook_size=16, dim=4),
        GumbelVQ(codebook_size=16, dim=4),
    ],
    ids=lambda quantizer: type(quantizer).__name__,
)
def test_a_step_with_every_quantizer_keeps_the_state_and_gives_metrics(quantizer):
    create, step = of_a_run(quantizer)
    batch = tiny.tokenizer().data.first_batch(0)
    state = jax.eval_shape(create, {}, batch, jax.random.key(0))
    after, metrics = jax.eval_shape(step, state, {}, batch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )
    assert {"codebook_usage", "codebook_perplexity", "dead_codes"} <= set(metrics)


def test_dead_codes_of_residual_levels_are_those_of_their_averages():
    create, step = of_a_run(RVQ(quantizer=BOOK, depth=2))
    batch = tiny.tokenizer().data.first_batch(0)
    state = jax.jit(create)({}, batch, jax.random.key(0))
    counts = np.stack([np.asarray(level.count) for level in state.stats])
    counts[1, :4] = 0.0
    levels = tuple(
        level._replace(count=count) for level, count in zip(state.stats, counts, strict=True)
    )
    _, metrics = jax.jit(step)(state._replace(stats=levels), {}, batch)
    dead = counts < 0.1 * counts.mean(axis=1, keepdims=True)
    assert dead[1].sum() >= 4
    assert metrics["dead_codes"] == pytest.approx(dead.mean())
