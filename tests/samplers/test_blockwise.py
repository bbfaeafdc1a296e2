"""Blocks with an oracle in the place of the network: their distribution, and where texts end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import chain
from vqdit.processes import Masked, UniformState
from vqdit.random import per_example
from vqdit.samplers import DiscreteAncestral, Unmasking
from vqdit.samplers.blockwise import BlockNetwork, generate_blocks
from vqdit.typing import Named

BLOCK = 2


def network(process):
    """The oracle of the chain, which keeps the codes of finished blocks; records the blocks."""

    def predict(kept, start):
        def plain(x, t):
            whole = jax.lax.dynamic_update_slice_in_dim(kept, x["text"], start, 1)
            at = jnp.full(whole.shape[:2], t["text"])
            earlier = jnp.arange(chain.LENGTH) < start
            later = jnp.arange(chain.LENGTH) >= start + BLOCK
            pi = chain.belief(process, whole, at, earlier, later)
            return Named(text=jax.lax.dynamic_slice_in_dim(pi, start, BLOCK, 1))

        return plain

    return predict


def blocks(process, count, **fields):
    parts = {
        "others": lambda: jnp.zeros((count, chain.LENGTH, 1), jnp.int32),
        "predict": network(process),
        "keep": lambda kept, x_0, start: jax.lax.dynamic_update_slice_in_dim(kept, x_0, start, 1),
        "with_room": lambda kept, room, more: kept,
    }
    return BlockNetwork(**{**parts, **fields})


def generated(process, sampler, count, **how):
    keys = per_example(jax.random.key(0), jnp.arange(count))
    x_1 = Named(text=process.prior(keys, (chain.LENGTH, 1)))
    times = Named(text=jnp.linspace(1.0, 0.0, sampler.steps + 1))
    run = jax.jit(
        lambda: generate_blocks(
            keys, blocks(process, count), "text", sampler, process, x_1, times, BLOCK, **how
        )
    )
    return np.asarray(run())[..., 0]


@pytest.mark.parametrize(
    ("process", "sampler"),
    [
        (Masked(), Unmasking(steps=2, order="random", noise=0.0)),
        (Masked(), DiscreteAncestral(steps=32)),
        (UniformState(codes=chain.CODES), DiscreteAncestral(steps=32)),
    ],
)
def test_an_oracle_gives_the_distribution(process, sampler):
    count = 8000
    found = generated(process, sampler, count)
    number = found @ (chain.CODES ** np.arange(chain.LENGTH)[::-1])
    share = np.bincount(number, minlength=chain.CODES**chain.LENGTH) / count
    # The expected distance of a sample of this size, and what 32 steps leave out.
    expected = np.sqrt(2 / np.pi / count * chain.P * (1 - chain.P)).sum() / 2
    assert np.abs(share - chain.P).sum() / 2 < 1.5 * expected


def test_after_the_end_there_are_only_ends_and_known_codes():
    process, sampler = Masked(), Unmasking(steps=2)
    free = generated(process, sampler, 64)
    found = generated(process, sampler, 64, end=0)
    first = np.where((free == 0).any(axis=1), (free == 0).argmax(axis=1), chain.LENGTH)
    before = np.arange(chain.LENGTH) <= first[:, None]
    assert len(set(first)) == chain.LENGTH + 1  # all cases occur
    np.testing.assert_array_equal(found[before], free[before])
    assert (found[~before] == 0).all()
    is_last = jnp.broadcast_to(jnp.arange(chain.LENGTH) == chain.LENGTH - 1, (64, chain.LENGTH))
    x = Named(text=jnp.where(is_last[..., None], 2, -1))
    keys = per_example(jax.random.key(0), jnp.arange(64))
    times = Named(text=jnp.linspace(1.0, 0.0, 3))
    each = keys, blocks(process, 64), "text", sampler, process, x, times, BLOCK
    kept = jax.jit(lambda: generate_blocks(*each, known=is_last, end=0))()[..., 0]
    assert (kept[:, -1] == 2).all() and (kept >= 0).all() and (kept == 0).any()


def test_blocks_behind_all_ends_are_not_computed():
    """An oracle that ends in the first block; a call in a later one would be recorded."""
    calls = []

    def predict(kept, start):
        def plain(x, t):
            jax.debug.callback(lambda start: calls.append(int(start)), start)
            logits = 1e4 * jax.nn.one_hot(jnp.zeros(x["text"].shape[:2], int), chain.CODES)
            return Named(text=logits)

        return plain

    process, keys = Masked(), per_example(jax.random.key(0), jnp.arange(2))
    each = keys, blocks(process, 2, predict=predict), "text", Unmasking(steps=2), process
    x = Named(text=process.prior(keys, (chain.LENGTH, 1)))
    times = Named(text=jnp.linspace(1.0, 0.0, 3))
    found = jax.jit(lambda: generate_blocks(*each, x, times, BLOCK, end=0))()
    jax.effects_barrier()
    assert (np.asarray(found) == 0).all() and calls == [0, 0]
