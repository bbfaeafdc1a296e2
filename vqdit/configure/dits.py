"""Sizes of DiTs for a machine, and their batch sizes."""

import math
from typing import Any

from vqdit.configure.machine import Machine
from vqdit.models import DiT

DITS = (
    # blocks, width, heads, learning rate
    (28, 1152, 16, 1e-4),
    (24, 1024, 16, 1e-4),
    (12, 768, 12, 2e-4),
    (12, 384, 6, 5e-4),
    (8, 256, 8, 1e-3),
    (6, 192, 6, 1e-3),
    (4, 128, 4, 2e-3),
    (3, 96, 4, 2e-3),
)
STATE_BYTES = 20
"""Bytes of the state and the gradient for each parameter: five float32 numbers."""
ACTIVATION_BYTES = 41
"""Bytes of activations per token, block and channel of a DiT in bfloat16, as measured for DiT-B/2
and DiT-XL/2 (docs/performance.md).
"""
TOKENS = 4096
"""Number of tokens in a batch on a CPU."""


def models_for(machine: Machine, examples: int, tokens: int, *, is_text: bool = False) -> list[DiT]:
    """Returns the DiTs that suit the machine and the number of examples, the largest first.

    Args:
        machine: the machine.
        examples: number of training examples.
        tokens: number of tokens of an example.
        is_text: whether the tokens are windows of long texts. A window may begin anywhere in a
            text, so these DiTs encode relative positions.

    Raises:
        ValueError: the smallest DiT does not fit.
    """
    kind: dict[str, Any] = {"positions": "rope", "norm": "rms", "qk_norm": True} if is_text else {}
    widest = 192 if examples < 3000 else 384 if examples < 30_000 else 768
    widest = widest if examples < 1_000_000 else 1152
    if machine.is_cpu:
        widest = min(widest, 256)
    found = [
        DiT(
            depth=depth,
            dim=dim,
            heads=heads,
            patch=1,
            dtype="float32" if machine.is_cpu else "bfloat16",
            **kind,
        )
        for depth, dim, heads, _ in DITS
        if dim <= widest
        and (machine.chip is None or _fits(machine.chip.memory, depth, dim, tokens))
    ]
    if not found:
        raise ValueError(
            f"a DiT over {tokens:,} tokens per example does not fit into the memory of "
            f"{machine.name}; choose another target"
        )
    return found


def _fits(memory: float, depth: int, dim: int, tokens: int) -> bool:
    """Returns whether the state and a few examples need at most half of a chip's memory.

    Args:
        memory: memory of a chip in bytes.
        depth: number of blocks.
        dim: width of the blocks.
        tokens: number of tokens of an example.
    """
    state = STATE_BYTES * 18 * dim**2 * depth
    return state + 8 * tokens * depth * dim * ACTIVATION_BYTES < memory / 2


def generator_batch(model: DiT, tokens: int, machine: Machine, examples: int) -> int:
    """Returns the batch size, limited by the speed of a CPU or the memory of other chips."""
    if machine.chip is None:
        return batch_of(examples, max(8, min(32, TOKENS // tokens)), machine)
    state = STATE_BYTES * 18 * model.dim**2 * model.depth
    each = tokens * model.depth * model.dim * ACTIVATION_BYTES
    most = int((machine.chip.memory * 0.6 - state) / each)
    return batch_of(examples, min(256, machine.chips * max(1, most)), machine)


def batch_of(examples: int, most: int, machine: Machine) -> int:
    """Returns a batch size: a power of two per chip, and at most a quarter of the data.

    Args:
        examples: number of training examples.
        most: largest batch size.
        machine: the machine that trains.
    """
    each = max(1, min(most, max(8, examples // 4)) // machine.chips)
    return machine.chips * 2 ** int(math.log2(each))


def learning_rate(model: DiT) -> float:
    """Returns the peak learning rate of one of `DITS`; wider models have smaller rates."""
    return next(rate for depth, dim, _, rate in DITS if (depth, dim) == (model.depth, model.dim))
