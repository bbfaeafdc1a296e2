"""Generation of codes block by block: each block is denoised given the finished blocks.

A sampler denoises each block completely; later blocks then see the finished block. The network
caches keys and values of finished blocks, so it runs only on the codes of one block. The cost is
the number of evaluations per block times the number of blocks, plus attention to earlier codes.
Arriola et al., "Block Diffusion", arXiv:2503.09573, algorithm 2.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vqdit.processes.base import Codes, Process, X
from vqdit.random import streams
from vqdit.samplers.base import Predict, Sampler, generate
from vqdit.typing import Array, Bool, Float, Int, Key, Named

PARTS = 8
"""Number of sizes of the cache of finished blocks; a program is compiled for each size."""
Kept = Any
"""The network's cache of finished blocks and other modalities: a pytree of arrays."""


class BlockNetwork(NamedTuple):
    """A network over the codes of one block.

    Attributes:
        others: () -> cache; returns a cache that holds all modalities except the generated one.
        predict: (cache, start) -> network; returns the network for the block whose first code has
            the position `start`.
        keep: (cache, codes, start) -> cache; adds a finished block at the position `start`.
        with_room: (cache, old, new) -> cache; enlarges the cache from `old` to `new` codes.
    """

    others: Callable[[], Kept]
    predict: Callable[[Kept, Int[Array, ""]], Predict]
    keep: Callable[[Kept, Codes, Int[Array, ""]], Kept]
    with_room: Callable[[Kept, int, int], Kept]


def generate_blocks(
    keys: Key[Array, " b"],
    network: BlockNetwork,
    name: str,
    sampler: Sampler,
    process: Process,
    x_1: Named[X],
    times: Named[Float[Array, " times"]],
    block: int,
    *,
    known: Bool[Array, "b l"] | None = None,
    end: int | None = None,
) -> Codes:
    """Generates one modality block by block.

    Args:
        keys: one key per sample; a sample depends only on its own key.
        network: the network.
        name: name of the modality to generate.
        sampler: sampler of each block.
        process: the process of the modality.
        x_1: values of all modalities; the generated one has noise at unknown positions and codes at
            known positions.
        times: n + 1 times of every modality for the n steps of a block; the times of all modalities
            except the generated one are constant.
        block: number of codes in a block.
        known: True at given codes, which never change. Blocks do not see known codes of later
            blocks.
        end: code that ends a sequence: after the first generated `end`, all unknown codes become
            `end`. Blocks after the ends of all samples are not computed.

    Returns:
        The codes of the generated modality.
    """
    whole, sampler = x_1[name], sampler.bind((block,))
    count = whole.shape[1] // block

    def one(state: tuple[Kept, Array], number: Int[Array, ""]) -> tuple[Any, Codes]:
        (kept, ended), start = state, number * block
        part = jax.lax.dynamic_slice_in_dim(whole, start, block, 1)
        is_known = jnp.zeros(part.shape[:2], bool)
        if known is not None:
            is_known = jax.lax.dynamic_slice_in_dim(known, start, block, 1)
        block_keys = jax.vmap(jax.random.fold_in, (0, None))(streams(keys, f"{name}/block"), number)

        def denoised() -> Codes:
            return generate(
                block_keys,
                network.predict(kept, start),
                Named({name: sampler}),
                Named({name: process}),
                x_1 | {name: part},
                times,
                known=None if known is None else Named({name: is_known}),
            )[name]

        is_finished = is_known | ended[:, None]
        x_0 = jax.lax.cond(jnp.all(is_finished), lambda: part, denoised)
        if end is not None:
            x_0, ended = _ended(x_0, is_known, ended, end)
        kept = jax.lax.cond(jnp.all(ended), lambda: kept, lambda: network.keep(kept, x_0, start))
        return (kept, ended), x_0

    kept, ended = network.others(), jnp.zeros(len(keys), bool)
    stops = sorted({-(-count * part // PARTS) for part in range(1, PARTS + 1)})
    found, first = [], 0
    for stop in stops:
        kept = network.with_room(kept, first * block, (stop - first) * block)
        (kept, ended), x_0 = jax.lax.scan(one, (kept, ended), jnp.arange(first, stop))
        found.append(x_0)
        first = stop
    return jnp.concatenate(found).swapaxes(0, 1).reshape(whole.shape)


def _ended(
    x_0: Codes, is_known: Bool[Array, "b l"], ended: Bool[Array, " b"], end: int
) -> tuple[Codes, Bool[Array, " b"]]:
    """Sets unknown codes after the first `end` to `end`; also returns which samples ended."""
    is_end = jnp.all(x_0 == end, axis=-1) & ~is_known
    is_after = ended[:, None] | (jnp.cumsum(is_end, axis=1) > 0)
    filled = jnp.where((is_after & ~is_known)[..., None], end, x_0)
    return filled, is_after[:, -1]
