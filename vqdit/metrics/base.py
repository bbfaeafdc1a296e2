"""Accumulators: pytrees of sums, which `merge` adds and from which `compute` computes metrics."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.typing import Array, Bool, Float, Int, Named

Metrics = Named[Any]
"""Accumulators by name."""


class Mean(NamedTuple):
    """A mean over examples, or over all real positions of examples of variable length."""

    total: Float[Array, ""]
    count: Float[Array, ""]

    @classmethod
    def of(cls, values: Float[Array, " b"], valid: Bool[Array, " b"] | Int[Array, " b"]) -> "Mean":
        """Accumulates one value per example; `valid` is False for examples that are padding.

        If `valid` has integers, they are weights: the number of positions of each example.
        """
        weight = valid.astype(jnp.float32)
        if valid.dtype != bool:
            return cls(jnp.sum(jnp.where(valid > 0, values, 0.0) * weight), jnp.sum(weight))
        return cls(jnp.sum(jnp.where(valid, values, 0.0)), jnp.sum(weight))

    def compute(self, name: str) -> dict[str, float]:
        """Returns {name: mean}, or {} if there were no examples."""
        return {name: float(self.total / self.count)} if self.count else {}


def merge(first: Metrics | None, second: Metrics) -> Metrics:
    """Adds two sets of accumulators on the host, in float64, so that large sums stay exact."""
    second = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), second)
    return second if first is None else jax.tree.map(np.add, first, second)


def compute(metrics: Metrics) -> dict[str, float]:
    """Returns the metrics of all accumulators."""
    numbers = (accumulator.compute(name) for name, accumulator in metrics.items())
    return {name: value for found in numbers for name, value in found.items()}
