"""Optimizers: components that build an optax transformation for a number of steps."""

import jax
import jax.numpy as jnp
import optax

from vqdit.typing import Component


class Optimizer(Component):
    """Builds an optax transformation."""

    def build(self, steps: int) -> optax.GradientTransformation:
        """Returns the transformation for a run of that many steps."""
        raise TypeError(f"{type(self).__name__} must define build")


class AdamW(Optimizer):
    """AdamW with clipping, linear warm-up and a cosine to zero. Loshchilov & Hutter, 1711.05101.

    Attributes:
        learning_rate: peak learning rate.
        warmup: steps of linear increase, from peak / (warmup + 1) at step 0; at most a tenth of
            the run.
        final: learning rate at the end, as a share of the peak; 1 keeps it constant.
        b1: decay of the first moment.
        b2: decay of the second moment.
        weight_decay: decoupled; on matrices and kernels only, not on biases and norms.
        clip: largest global norm of the gradient; 0 does not clip.
    """

    learning_rate: float = 1e-4
    warmup: int = 1000
    final: float = 0.0
    b1: float = 0.9
    b2: float = 0.999
    weight_decay: float = 0.0
    clip: float = 1.0

    def __post_init__(self) -> None:
        if self.learning_rate <= 0.0:
            raise ValueError(f"AdamW needs learning_rate > 0, got {self.learning_rate}")
        if self.warmup < 0 or self.clip < 0.0 or self.weight_decay < 0.0:
            raise ValueError(
                "AdamW needs warmup, clip and weight_decay >= 0, got "
                f"warmup={self.warmup} clip={self.clip} weight_decay={self.weight_decay}"
            )
        if not 0.0 <= self.final <= 1.0:
            raise ValueError(f"AdamW needs final in [0, 1], a share of the peak, got {self.final}")

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
        clip = [_clip(self.clip)] if self.clip else []
        adam = optax.adamw(
            self.schedule(steps),
            b1=self.b1,
            b2=self.b2,
            weight_decay=self.weight_decay,
            mask=_is_matrix,
        )
        return optax.chain(*clip, adam)


def _clip(most: float) -> optax.GradientTransformation:
    """Bounds the global norm of the gradient.

    As `optax.clip_by_global_norm`, but by one product with a scalar, which a compiler joins with
    what follows; a division is a pass of its own over memory.
    """

    def scaled(gradient: optax.Updates, params: optax.Params | None = None) -> optax.Updates:
        del params
        share = jnp.minimum(1.0, most / optax.tree.norm(gradient))
        return jax.tree.map(lambda leaf: leaf * share.astype(leaf.dtype), gradient)

    return optax.stateless(scaled)


def _is_matrix(params: optax.Params) -> optax.Params:
    """True for arrays of two or more axes: the ones that weight decay applies to."""
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)
