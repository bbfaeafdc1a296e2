"""Lengths of targets of variable length; the length is a separate modality.

For a target NAME of variable length, the network has a second input, NAME.length: one code, which
is the number of tokens, or -1 if the length is unknown. If an example has length n, the network
sees only its first n tokens; if the length is unknown, it sees no tokens. The network therefore
sees no tokens of a target that is missing, dropped, or hidden by guidance.

Generation first draws the length from p(length | known modalities), and then the tokens. In
training, the length is hidden in some examples, from which the network learns p(length | rest); the
other examples teach it p(tokens | length, rest). The bound on -log p of an example is the sum of
both losses.
"""

import dataclasses
from collections.abc import Collection

import jax
import jax.numpy as jnp

from vqdit.models.tokens import Tokens
from vqdit.processes.base import TIME_SCALE, Prediction, X
from vqdit.typing import Array, Bool, Float, Int, Named

SUFFIX = ".length"
UNKNOWN = -1
"""The code of an unknown length."""
PADDING = -2
"""The code of the padding of a condition of variable length."""


def of(name: str) -> str:
    """Returns the name of the length of a target."""
    return name + SUFFIX


def tokens(longest: int) -> Tokens:
    """Returns the network's input for the length of a target with at most `longest` tokens."""
    return Tokens(grid=(1,), codes=longest + 1, patch=1, output=longest + 1)


def codes(length: Int[Array, " b"]) -> Int[Array, "b 1 1"]:
    """Returns lengths in the shape of the network's input."""
    return length.astype(jnp.int32)[:, None, None]


def real(length: Int[Array, " b"], count: int) -> Bool[Array, "b l"]:
    """Returns which of `count` tokens are within the length of each example."""
    return jnp.arange(count) < length[:, None]


def surprise(prediction: Prediction, length: Int[Array, " b"]) -> Float[Array, " b"]:
    """Returns -log p(length) in nats; `prediction` is the network's output for the length."""
    log_p = jax.nn.log_softmax(prediction[:, 0].astype(jnp.float32), axis=-1)
    return -jnp.take_along_axis(log_p, jnp.maximum(length, 0)[:, None], axis=-1)[:, 0]


def network_view(
    x: Named[X],
    t: Named[Array],
    inputs: Named[Tokens],
    targets: Collection[str],
    conditions: Collection[str],
) -> tuple[Named[Tokens], Named[Array], Named[Bool[Array, "b _"]] | None]:
    """Returns inputs, times and mask of padded modalities for `DiT.apply`.

    Args:
        x: tokens of every modality, padded to any number.
        t: times of all modalities, scaled for the embedding, except the times of lengths, which
            this function scales.
        inputs: description of every modality; its grids are for the longest examples.
        targets: names of the targets of variable length.
        conditions: names of the conditions of variable length.
    """
    if not targets and not conditions:
        return inputs, t, None
    mask = {name: x[name][..., 0] != PADDING for name in conditions}
    mask |= {name: real(x[of(name)][:, 0, 0], x[name].shape[1]) for name in targets}
    times = {of(name): TIME_SCALE * t[of(name)] for name in targets}
    grids = {name: dataclasses.replace(inputs[name], grid=(x[name].shape[1],)) for name in mask}
    return inputs | grids, t | times, Named(mask)
