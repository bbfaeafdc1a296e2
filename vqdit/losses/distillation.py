"""Semantic distillation: the first codebooks learn the features of a frozen network.

    loss = 1 - mean over tokens of cos(z_1 W, teacher(x)),

where z_1 are the codebook vectors of the first codebooks alone, W is a learned matrix, and the
teacher's features are resized linearly to one vector per token. Zhang et al., "SpeechTokenizer",
arXiv:2308.16692, section 3.2; Defossez et al., "Moshi" (Mimi), arXiv:2410.00037, section 3.3.3.
"""

import jax
import jax.numpy as jnp

from vqdit.models.features import Features
from vqdit.typing import Array, Bool, Component, Float, Key, Params


class Distillation(Component):
    """The settings of the distillation.

    Attributes:
        teacher: the frozen network; its last features are [b, m, e] for sounds of any length.
        codebooks: number of the first codebooks that learn from the teacher.
        weight: weight of the loss.
    """

    teacher: Features
    codebooks: int = 1
    weight: float = 1.0

    def __post_init__(self) -> None:
        self.require("codebooks >= 1", self.codebooks >= 1)
        self.require("weight > 0", self.weight > 0.0)

    def init(self, key: Key[Array, ""], dim: int, x: Float[Array, "b *size c"]) -> Params:
        """Returns the initial matrix W from `dim` to the teacher's width."""
        blank = jnp.zeros((1, *x.shape[1:]), jnp.float32)
        like = jax.eval_shape(lambda: self.teacher.apply(self.teacher.like(), blank)[-1])
        shape = (dim, like.shape[-1])
        return {"kernel": jax.nn.initializers.lecun_normal()(key, shape, jnp.float32)}

    def loss(
        self,
        params: Params,
        frozen: Params,
        x: Float[Array, "b *size c"],
        z: Float[Array, "b l d"],
        mask: Bool[Array, "b l"] | None = None,
    ) -> Float[Array, " b"]:
        """Returns the loss of each example, in [0, 2].

        Args:
            params: W.
            frozen: parameters of the teacher; neither they nor x receive a gradient.
            x: clean data in [-1, 1].
            z: quantized vectors of the first codebooks.
            mask: False at padding of examples that differ in length.
        """
        seen = jax.lax.stop_gradient(self.teacher.apply(frozen, x)[-1])
        seen = seen.reshape(len(x), -1, seen.shape[-1]).astype(jnp.float32)
        seen = jax.image.resize(seen, (len(x), z.shape[1], seen.shape[-1]), "linear")
        cosine = jnp.sum(_unit(z @ params["kernel"]) * _unit(seen), axis=-1)
        weight = jnp.ones(cosine.shape, jnp.float32) if mask is None else mask.astype(jnp.float32)
        return 1.0 - jnp.sum(cosine * weight, axis=1) / jnp.maximum(jnp.sum(weight, axis=1), 1.0)


def _unit(x: Array) -> Array:
    return x * jax.lax.rsqrt(jnp.sum(x**2, axis=-1, keepdims=True) + 1e-12)
