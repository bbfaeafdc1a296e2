"""A causal transformer with a window, whose state is passed on to process a sequence in parts.

This is the transformer of Mimi: Defossez et al., "Moshi", arXiv:2410.00037, section 3.3.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from vqdit.nn.rope import rotate
from vqdit.typing import Array, Bool, Float, Int

BASE = 1e4
"""Ratio of the highest to the lowest frequency of the rotary positions."""


class CausalState(NamedTuple):
    """Keys and values of the last window - 1 positions, and the number of positions so far."""

    keys: Float[Array, "layers b m h d"]
    values: Float[Array, "layers b m h d"]
    count: Int[Array, ""]


class CausalTransformer(nn.Module):
    """Applies x + s attention(norm(x)), then x + s mlp(norm(x)), in each layer; s is learned.

    Each of the two sums of a layer has its own scale s per channel.

    A position attends to itself and to the window - 1 positions before it.

    Attributes:
        layers: number of layers.
        heads: number of attention heads; the width divided by it must be an even integer.
        window: number of positions that a position attends to, including itself.
        hidden: width within the MLP.
        base: base of the rotary frequencies, base^(-2 i / d) for channel pair i of a head of width
            d.
        scale: initial value of s.
        epsilon: added to the variance by the norms.
    """

    layers: int
    heads: int
    window: int
    hidden: int
    base: float = BASE
    scale: float = 0.01
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n c"], state: CausalState | None = None
    ) -> tuple[Float[Array, "b n c"], CausalState]:
        batch, new, width = x.shape
        before, each = self.window - 1, width // self.heads
        if state is None:
            empty = jnp.zeros((self.layers, batch, 0, self.heads, each))
            state = CausalState(empty, empty, jnp.zeros((), jnp.int32))
        cached = state.keys.shape[2]
        place = state.count + jnp.arange(-cached, new)  # of every key
        query, key = place[cached:, None], place[None]
        visible = (key <= query) & (key > query - self.window) & (key >= 0)
        frequency = self.base ** (-jnp.arange(0, each, 2) / each)
        angle = place[cached:, None].astype(jnp.float32) * frequency
        turn, keys, values = jnp.stack([jnp.cos(angle), jnp.sin(angle)]), [], []
        for layer in range(self.layers):
            block = _Layer(self, name=f"layer_{layer}")
            x, k, v = block(x, turn, visible, state.keys[layer], state.values[layer])
            missing = max(0, before - k.shape[1])  # at the start, as no position is below 0
            pads = ((0, 0), (missing, 0), (0, 0), (0, 0))
            keys.append(jnp.pad(k, pads)[:, k.shape[1] + missing - before :])
            values.append(jnp.pad(v, pads)[:, k.shape[1] + missing - before :])
        return x, CausalState(jnp.stack(keys), jnp.stack(values), state.count + new)


class _Layer(nn.Module):
    config: CausalTransformer

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n c"],
        turn: Float[Array, "2 n p"],
        visible: Bool[Array, "n m"],
        keys: Float[Array, "b j h d"],
        values: Float[Array, "b j h d"],
    ) -> tuple[Float[Array, "b n c"], Float[Array, "b m h d"], Float[Array, "b m h d"]]:
        config, width = self.config, x.shape[-1]
        heads = (*x.shape[:2], config.heads, -1)

        def dense(h: Array, features: int, name: str) -> Array:
            return nn.Dense(features, use_bias=False, name=name)(h)

        def scaled(h: Array, name: str) -> Array:
            return h * self.param(name, nn.initializers.constant(config.scale), (width,))

        h = self._norm("norm_1")(x)
        q, k, v = (dense(h, width, name).reshape(heads) for name in "qkv")
        q, k = rotate(q, turn), jnp.concatenate([keys, rotate(k, turn)], axis=1)
        v = jnp.concatenate([values, v], axis=1)
        scores = jnp.einsum("b n h d, b m h d -> b h n m", q, k) * q.shape[-1] ** -0.5
        share = jax.nn.softmax(jnp.where(visible, scores, -jnp.inf), axis=-1)
        h = jnp.einsum("b h n m, b m h d -> b n h d", share, v).reshape(x.shape)
        x = x + scaled(dense(h, width, "out"), "scale_1")
        h = dense(self._norm("norm_2")(x), config.hidden, "mlp_in")
        h = dense(jax.nn.gelu(h, approximate=False), width, "mlp_out")
        return x + scaled(h, "scale_2"), k, v

    def _norm(self, name: str) -> nn.LayerNorm:
        return nn.LayerNorm(self.config.epsilon, use_fast_variance=False, name=name)
