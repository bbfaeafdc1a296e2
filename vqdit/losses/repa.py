"""Representation alignment of hidden tokens of a DiT with features of a frozen encoder.

    loss = -mean over tokens of cos(projector(h), encoder(x_0))

where h are the hidden tokens of the noised example after some block, and x_0 is the clean example.
Yu et al., "Representation Alignment for Generation: Training Diffusion Transformers Is Easier Than
You Think" (REPA), arXiv:2410.06940, eq. 8; the paper's defaults are block 8, weight 0.5 and
features of DINOv2.
"""

from typing import Any

import jax
import jax.numpy as jnp

from vqdit.models.features import Features
from vqdit.nn.mlp import Projector
from vqdit.typing import Array, Component, Float, Key, Params


class REPA(Component):
    """The alignment loss, and the projector that it trains.

    Attributes:
        encoder: the frozen encoder; its last features have one position per token of the DiT.
        target: name of the modality whose tokens are aligned.
        after: number of the block, counted from 1, whose output is aligned.
        hidden: hidden width of the projector.
        weight: weight of the loss.
    """

    encoder: Features
    target: str = "image"
    after: int = 8
    hidden: int = 2048
    weight: float = 0.5

    def __post_init__(self) -> None:
        self.require("after >= 1", self.after >= 1)
        self.require("hidden >= 1", self.hidden >= 1)

    def size(self, x: Float[Array, "1 *size c"]) -> tuple[int, int]:
        """Returns the numbers of positions and channels of the features of data like x."""
        like = jax.eval_shape(lambda: self.seen(self.encoder.like(), jnp.zeros(x.shape, x.dtype)))
        return like.shape[1], like.shape[2]

    def init(self, key: Key[Array, ""], dim: int, features: int) -> Params:
        """Initializes the projector from tokens of `dim` channels to `features` channels."""
        return Projector(self.hidden, features).init(key, jnp.zeros((1, 1, dim), jnp.float32))[
            "params"
        ]

    def seen(self, frozen: Params, x: Float[Array, "b *size c"]) -> Float[Array, "b l e"]:
        """Returns the encoder's features of clean data in [-1, 1]."""
        features = self.encoder.apply(frozen, x)[-1]
        return jax.lax.stop_gradient(features.reshape(x.shape[0], -1, features.shape[-1]))

    def loss(
        self, params: Params, h: Float[Array, "b l d"], seen: Float[Array, "b l e"]
    ) -> Float[Array, " b"]:
        """Returns the negative mean cosine of each example, from -1 (aligned tokens) to 1.

        h are the hidden tokens of the DiT, and `seen` the encoder's features (from the method
        `seen`).
        """
        projected: Any = Projector(self.hidden, seen.shape[-1]).apply({"params": params}, h)
        return -jnp.mean(jnp.sum(_unit(projected) * _unit(seen), axis=-1), axis=-1)


def _unit(x: Array) -> Array:
    """Scales the last axis to unit length, in float32: small squares underflow in float16."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.sum(x**2, axis=-1, keepdims=True) + 1e-12)
