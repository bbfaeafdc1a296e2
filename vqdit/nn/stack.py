"""How a stack of equal blocks is compiled, and what of it is computed again for the gradient.

Blocks are scanned: one is compiled and run again and again. What a scan keeps for the gradient it
copies to and from buffers that it fills with zeros first; unrolled, nothing is copied. That pays
for shallow stacks on a CPU, and for deep ones on a GPU, where products are fast beside copies.

What rematerialisation keeps of a block, by the name in `Remat`:

    True         nothing but the block's input: least memory, a third more time
    "attention"  what attention returns
    "dots"       the products with parameters too: what is computed again is cheap

A kept product has its bias already. The statistics of a fused attention are kept with its result,
else its gradient would run it again. Chen et al., "Training Deep Nets with Sublinear Memory Cost",
arXiv:1604.06174.
"""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax

from vqdit.parallel.target_platform import platform

Remat = bool | Literal["dots", "attention"]
SHALLOW = 12
"""Stacks up to this depth are unrolled wherever they run, and still quick to compile."""


def unroll(depth: int, remat: Remat = False) -> int:
    """Returns how many blocks an iteration of the scan has: one, or all."""
    if platform().name in ("cuda", "rocm"):
        return depth
    # Within an iteration the CPU's compiler finds what was computed before, and keeps it after all.
    return depth if depth <= SHALLOW and not remat else 1


def rematerialized(block: type[nn.Module], remat: Remat) -> type[nn.Module]:
    """Returns the block with its rematerialisation."""
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
