"""Exact nearest-neighbour search in float32, with memory independent of the codebook size.

    argmin_k |z - e_k|^2  =  argmin_k (|e_k|^2 / 2 - z.e_k)

Matrix products have float32 precision. With bfloat16, the default of accelerators, up to 22 % of
the tokens would get a different code.
"""

import functools
import math

import jax
import jax.numpy as jnp

from vqdit.typing import Array, Float, Int, Shaped

CHUNK = 512
"""Number of codes per chunk; the memory is proportional to tokens x CHUNK."""
BLOCK = 512
"""Number of tokens per block on a CPU, so that BLOCK x CHUNK products fit into the cache."""


def nearest(
    z: Float[Array, "n d"], codebook: Float[Array, "k d"], shards: int = 1
) -> Int[Array, " n"]:
    """Returns the id of the codebook row nearest to each z in Euclidean distance.

    Args:
        z: vectors.
        codebook: rows, one per code.
        shards: number of devices that hold equal contiguous parts of the rows. Each device
            searches its own part, and only the minima are exchanged.

    Returns:
        int32 ids; the lowest id if several codes are equally near.
    """
    half = 0.5 * jnp.sum(codebook.astype(jnp.float32) ** 2, axis=-1)
    return smallest(z, codebook, half, shards)


@functools.partial(jax.jit, static_argnames="shards")
def smallest(
    z: Float[Array, "n d"],
    rows: Float[Array, "k d"],
    offset: Float[Array, " k"],
    shards: int = 1,
) -> Int[Array, " n"]:
    """Returns argmin_k (offset_k - z.row_k) of each z, int32; the lowest id for ties."""
    z, rows, offset = (x.astype(jnp.float32) for x in (z, rows, offset))
    parts = chunked(rows, shards, CHUNK), chunked(offset, shards, CHUNK, fill=jnp.inf)
    whole = functools.partial(_search, size=rows.shape[0])
    return jax.lax.platform_dependent(
        z, *parts, cpu=functools.partial(_blocks, whole), default=whole
    )


def chunked(
    rows: Shaped[Array, "k *d"], shards: int, chunk: int, fill: float = 0.0
) -> Shaped[Array, "chunks shards chunk *d"]:
    """Reshapes k codes to [chunks, shards, chunk, *d]; pads the last chunk with `fill`.

    Raises:
        ValueError: the number of codes is not a multiple of the number of shards.
    """
    size = rows.shape[0]
    if size % shards:
        raise ValueError(
            f"{size} codes cannot be divided equally among {shards} shards; change either number"
        )
    own = size // shards
    chunk = min(chunk, own)
    chunks = math.ceil(own / chunk)
    parts = rows.reshape(shards, own, *rows.shape[1:])
    padding = ((0, 0), (0, chunks * chunk - own), *((0, 0),) * (rows.ndim - 1))
    parts = jnp.pad(parts, padding, constant_values=fill)
    return jnp.moveaxis(parts.reshape(shards, chunks, chunk, *rows.shape[1:]), 1, 0)


def _search(
    z: Float[Array, "n d"],
    rows: Float[Array, "chunks shards chunk d"],
    offset: Float[Array, "chunks shards chunk"],
    size: int,
) -> Int[Array, " n"]:
    chunks, shards, chunk, _ = rows.shape
    within = jnp.arange(chunk, dtype=jnp.int32)[:, None]

    def compare(best, part):
        start, part_rows, part_offset = part
        product = jnp.einsum(
            "s c d, n d -> s c n", part_rows, z, precision=jax.lax.Precision.HIGHEST
        )
        distance = part_offset[..., None] - product
        value = jnp.min(distance, axis=1)
        # Computing two minima is much faster than an argmin, which compilers do not vectorize.
        code = start + jnp.min(jnp.where(distance <= value[:, None], within, chunk), axis=1)
        better = value < best[0]
        return (jnp.where(better, value, best[0]), jnp.where(better, code, best[1])), None

    starts = jnp.arange(chunks, dtype=jnp.int32) * chunk
    shape = (shards, z.shape[0])
    start = (jnp.full(shape, jnp.inf, jnp.float32), jnp.zeros(shape, jnp.int32))
    (value, code), _ = jax.lax.scan(compare, start, (starts, rows, offset))
    if shards == 1:
        return code[0]
    code = code + jnp.arange(shards, dtype=jnp.int32)[:, None] * (size // shards)
    return jnp.min(jnp.where(value <= jnp.min(value, axis=0), code, size), axis=0)


def _blocks(search, z, rows, offset) -> Int[Array, " n"]:
    """Searches the blocks of tokens one after the other.

    A block holds every m-th token instead of adjacent tokens, so that sharded tokens stay on their
    devices.
    """
    count = z.shape[0]
    blocks = max(1, math.ceil(count / BLOCK))
    length = math.ceil(count / blocks)
    padded = jnp.pad(z, ((0, blocks * length - count), (0, 0)))
    parts = jnp.moveaxis(padded.reshape(length, blocks, -1), 1, 0)
    codes = jax.lax.map(lambda block: search(block, rows, offset), parts)
    return codes.T.reshape(-1)[:count]
