"""Optimizers: components that build an optax transformation for a number of steps."""

import jax
import jax.numpy as jnp
import optax

from vqdit.typing import Component


class Optimizer(Component):
    """Builds an optax transformation."""

    def build(self, steps: int) -> optax.GradientTransformation:
        """Returns the transformation for a run with this number of steps."""
        raise TypeError(f"{type(self).__name__} must define the method 'build'")


class AdamW(Optimizer):
    """AdamW with clipping, linear warm-up and cosine decay. Loshchilov & Hutter, arXiv:1711.05101.

    Attributes:
        learning_rate: peak learning rate.
        warmup: number of steps of linear increase, from peak / (warmup + 1) at step 0; limited to a
            tenth of the run.
        final: learning rate at the end, as a fraction of the peak; 1 keeps it constant.
        b1: decay of the first moment.
        b2: decay of the second moment.
        weight_decay: decoupled weight decay of matrices and kernels; biases and norms have no
            weight decay.
        clip: largest global norm of the gradient; 0 disables clipping.
    """

    learning_rate: float = 1e-4
    warmup: int = 1000
    final: float = 0.0
    b1: float = 0.9
    b2: float = 0.999
    weight_decay: float = 0.0
    clip: float = 1.0

    def __post_init__(self) -> None:
        self.require("learning_rate > 0", self.learning_rate > 0.0)
        for field in ("warmup", "clip", "weight_decay"):
            self.require(f"{field} >= 0", getattr(self, field) >= 0)
        self.require("final in [0, 1]", 0.0 <= self.final <= 1.0, "it is a fraction of the peak")
        for field in ("b1", "b2"):
            self.require(f"{field} in [0, 1)", 0.0 <= getattr(self, field) < 1.0)

    def schedule(self, steps: int) -> optax.Schedule:
        """Returns the learning rate as a function of the step."""
        warmup = min(self.warmup, steps // 10)
        return optax.warmup_cosine_decay_schedule(
            init_value=self.learning_rate / (warmup + 1),
            peak_value=self.learning_rate,
            warmup_steps=warmup,
            decay_steps=max(steps, warmup + 1),
            end_value=self.learning_rate * self.final,
        )

    def build(self, steps: int) -> optax.GradientTransformation:
        clip = [clip_norm(self.clip)] if self.clip else []
        adam = optax.adamw(
            self.schedule(steps),
            b1=self.b1,
            b2=self.b2,
            weight_decay=self.weight_decay,
            mask=is_matrix,
        )
        return optax.chain(*clip, adam)


def clip_norm(most: float) -> optax.GradientTransformation:
    """Bounds the global norm of the gradient, like `optax.clip_by_global_norm`.

    It multiplies by a scalar, which the compiler fuses with later operations. The version of optax
    divides, which is a separate pass over memory.
    """

    def scaled(gradient: optax.Updates, _: optax.Params | None = None) -> optax.Updates:
        share = jnp.minimum(1.0, most / optax.tree.norm(gradient))
        return jax.tree.map(lambda leaf: leaf * share.astype(leaf.dtype), gradient)

    return optax.stateless(scaled)


def is_matrix(params: optax.Params) -> optax.Params:
    """Returns True for arrays of two or more axes, to which weight decay applies."""
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)
