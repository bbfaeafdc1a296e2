"""Splash attention: flash attention for TPUs, with the kernel that JAX provides.

The kernel needs lengths and head widths that are multiples of 128, so both are padded. Padded and
hidden keys get a segment id that no query has. XLA cannot partition the kernel, so each device runs
it on its own examples. The kernel is
`jax.experimental.pallas.ops.tpu.splash_attention`; Dao et al., "FlashAttention", arXiv:2205.14135.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as kernels

from vqdit.nn.masks import Segments
from vqdit.parallel import per_device
from vqdit.typing import Array, Bool, Float, Int

Heads = Float[Array, "b _ h d"]
"""Queries, keys or values."""
LANES = 128
BLOCK = 512
"""Largest number of tokens that the kernel loads at once."""


def splash(
    q: Heads,
    k: Heads,
    v: Heads,
    mask: Bool[Array, "b m"] | Segments | None = None,
    *,
    interpret: bool = False,
) -> Heads:
    """Returns the attended values; interpret=True is slow, but works on any device."""
    if isinstance(mask, Segments):
        ids = mask.queries + 1, mask.keys + 1
    else:
        real = jnp.ones(k.shape[:2], bool) if mask is None else mask
        ids = jnp.ones(q.shape[:2], jnp.int32), real.astype(jnp.int32)
    one = functools.partial(_on_one_device, interpret=interpret)
    return per_device(one, q, k, v, *ids)


def _on_one_device(
    q: Heads,
    k: Heads,
    v: Heads,
    of_queries: Int[Array, "b l"],
    of_keys: Int[Array, "b m"],
    *,
    interpret: bool,
) -> Heads:
    """Returns the attended values; keys with the segment id 0 are hidden."""
    heads, width = q.shape[2:]
    of_queries = jnp.pad(of_queries, ((0, 0), (0, -q.shape[1] % LANES)), mode="edge")
    of_keys = _padded(of_keys, 1)
    scaled = (q.astype(jnp.float32) * width**-0.5).astype(q.dtype)
    parts = [_padded(_padded(part, 1), 3).swapaxes(1, 2) for part in (scaled, k, v)]  # b h l d
    lengths = parts[0].shape[2], parts[1].shape[2]
    block_q, block_k = (_block(length) for length in lengths)
    of_q: Any = dict.fromkeys(("block_q", "block_q_dkv", "block_q_dq"), block_q)
    of_k: Any = dict.fromkeys(("block_kv", "block_kv_dkv", "block_kv_dq"), block_k)
    sizes = kernels.BlockSizes(**of_q, **of_k)
    every = kernels.MultiHeadMask([kernels.FullMask(lengths)] * heads)
    kernel = kernels.make_splash_mha_single_device(every, block_sizes=sizes, interpret=interpret)

    def one(q: Array, k: Array, v: Array, of_queries: Array, of_keys: Array) -> Any:
        return kernel(q, k, v, kernels.SegmentIds(of_queries, of_keys))

    out = jax.vmap(one)(parts[0], parts[1], parts[2], of_queries, of_keys).swapaxes(1, 2)  # b l h d
    return out[:, : q.shape[1], :, :width].astype(v.dtype)


def _padded(x: Array, axis: int) -> Array:
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, -x.shape[axis] % LANES)
    return jnp.pad(x, widths)


def _block(length: int) -> int:
    return next(size for size in range(BLOCK, 0, -LANES) if length % size == 0)
