"""Guidance: transforms of `Predict`, for continuous predictions and for logits alike.

Classifier-free guidance moves the prediction away from the one that knows less,

    bad + scale * (good - bad),

on all channels (the published DiT tables used three of four by a slip). Ho & Salimans,
"Classifier-Free Diffusion Guidance", arXiv:2207.12598.
"""

import jax
import jax.numpy as jnp

from vqdit.processes.base import X
from vqdit.samplers.base import Predict
from vqdit.typing import Array, Float, Named


def guided(good: Predict, bad: Predict, scale: float | Float[Array, ""]) -> Predict:
    """Returns bad + scale * (good - bad): scale 1 is `good` alone, larger is guided.

    The network runs twice per evaluation.
    """

    def predict(x: Named[X], t: Named[Float[Array, "b _"]]) -> Named[Float[Array, "b _ _"]]:
        return jax.tree.map(lambda g, b: b + scale * (g - b), good(x, t), bad(x, t))

    return predict


def without(predict: Predict, unknown: Named[X]) -> Predict:
    """Returns `predict` with those modalities wholly unknown: at t = 1, with the given noise."""

    def uninformed(x: Named[X], t: Named[Float[Array, "b _"]]) -> Named[Float[Array, "b _ _"]]:
        return predict(x | unknown, t | {name: jnp.ones_like(t[name]) for name in unknown})

    return uninformed
