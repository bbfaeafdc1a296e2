"""Compilation of a stack of identical blocks, and recomputation in the backward pass.

Blocks run under `nn.scan`, which compiles one block and runs it repeatedly. A scan copies the
activations for the backward pass into buffers and later out of them; an unrolled stack makes no
copies. Unrolling is faster for shallow stacks on a CPU, and for all stacks on a GPU, where copies
are slow compared with matrix products.

The values of `Remat` determine which activations of a block are kept; the others are recomputed:

- `False`: all
- `True`: only the input of the block, which needs the least memory and a third more time
- `"attention"`: also the result of attention
- `"dots"`: also the results of dense layers, including the bias, so that recomputation is cheap

For fused attention, the softmax statistics are kept with the result; otherwise the backward pass
would run the kernel again. Chen et al., "Training Deep Nets with Sublinear Memory Cost",
arXiv:1604.06174.
"""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax

from vqdit.parallel.target_platform import platform

Remat = bool | Literal["dots", "attention"]
SHALLOW = 12
"""Stacks up to this depth are unrolled on every platform; they still compile quickly."""


def unroll(depth: int, remat: Remat = False) -> int:
    """Returns the number of blocks per iteration of the scan: 1, or `depth` to unroll it."""
    if platform().name in ("cuda", "rocm"):
        return depth
    # Within one iteration, XLA on a CPU would merge the recomputation with the original
    # computation.
    return depth if depth <= SHALLOW and not remat else 1


def rematerialized(block: type[nn.Module], remat: Remat) -> type[nn.Module]:
    """Returns the block class, wrapped in `nn.remat` if `remat` is set."""
    if not remat or platform().is_counted:
        return block
    is_scanned = unroll(2, remat) == 1
    return nn.remat(block, prevent_cse=not is_scanned, policy=_policy(remat))


def _policy(remat: Remat) -> Callable[..., Any] | None:
    if isinstance(remat, bool):
        return None
    names = {"attention": ("attention",), "dots": ("attention", "product")}[remat]
    named = jax.checkpoint_policies.save_only_these_names(*names)

    def policy(primitive: Any, *args: Any, **params: Any) -> Any:
        is_attention = "dot_product_attention_fwd" in primitive.name
        return is_attention or named(primitive, *args, **params)

    return policy
