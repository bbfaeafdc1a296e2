"""An LSTM along time, whose state can be passed on to process a sequence in parts.

Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from vqdit.nn.conv1d import symmetric
from vqdit.typing import Array, Float


class LSTMState(NamedTuple):
    """Output h and memory c of every layer after the last position."""

    h: Float[Array, "layers b c"]
    c: Float[Array, "layers b c"]


class LSTM(nn.Module):
    """x + LSTM(x), with layers of the width of x; the gates' order is input, forget, cell, output.

    Attributes:
        layers: number of layers.
    """

    layers: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n c"], state: LSTMState | None = None
    ) -> tuple[Float[Array, "b n c"], LSTMState]:
        batch, _, width = x.shape
        if state is None:
            zeros = jnp.zeros((self.layers, batch, width))
            state = LSTMState(zeros, zeros)
        draw, y, ends = symmetric(width**-0.5), x, []
        for layer in range(self.layers):
            kernel = self.param(f"layer_{layer}_input", draw, (width, 4 * width))
            hidden = self.param(f"layer_{layer}_hidden", draw, (width, 4 * width))
            bias = self.param(f"layer_{layer}_bias", draw, (4 * width,))

            def step(
                carry: tuple[Array, Array], driven: Array, hidden: Array = hidden
            ) -> tuple[tuple[Array, Array], Array]:
                h, c = carry
                gates = jnp.split(driven + h @ hidden, 4, axis=-1)
                i, f, o = (jax.nn.sigmoid(gates[k]) for k in (0, 1, 3))
                c = f * c + i * jnp.tanh(gates[2])
                h = o * jnp.tanh(c)
                return (h, c), h

            driven = (y @ kernel + bias).swapaxes(0, 1)  # n b 4c
            end, y = jax.lax.scan(step, (state.h[layer], state.c[layer]), driven)
            y = y.swapaxes(0, 1)
            ends.append(end)
        return x + y, LSTMState(*map(jnp.stack, zip(*ends, strict=True)))
