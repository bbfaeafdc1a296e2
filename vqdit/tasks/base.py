"""The interface of tasks: all methods that the training loop calls."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optax

from vqdit.data.batch import Batch
from vqdit.data.sources import Feature
from vqdit.metrics import Metrics
from vqdit.modalities import Modality
from vqdit.optim import Optimizer
from vqdit.typing import Array, Component, Float, Int, Key, Named, Params, Stats

Frozen = Any
"""A pytree of arrays that a task uses but does not train, such as a tokenizer."""


class Aux(NamedTuple):
    """Results of `Task.loss` besides the loss.

    Attributes:
        metrics: scalars to log.
        update: argument of `Task.update`: arrays with a row per example, and scalars that are means
            over examples, so that the parts of a batch can be merged into the whole.
        counts: for each mean in the loss, keyed by name, the number of values over which it is
            taken. This number may depend on the batch and the key, but not on the network. See
            `Batch.weighted`.
    """

    metrics: Named[Float[Array, ""]]
    update: Any
    counts: Named[Int[Array, ""]] = Named()


class Trained(NamedTuple):
    """A trained task that another task refers to by name."""

    task: "Task"
    params: Params
    stats: Stats


Resolve = Callable[[str], Trained]
"""Returns an earlier experiment by its name, or a run by the path of its workdir."""

Trees = tuple[Params, Stats]
Load = Callable[[Params, Stats], Trees]


class Task(Component):
    """A model and its training. All methods but `load`, `check` and `write_preview` are pure."""

    @property
    def modalities(self) -> Named[Modality]:
        """Modalities that the task reads from the data, keyed by name of the column."""
        raise TypeError(f"{type(self).__name__} must define the property 'modalities'")

    def load(
        self, resolve: Resolve, batches: Callable[[], Iterable[Batch]]
    ) -> "tuple[Task, Frozen]":
        """Returns the task with its references resolved, and its frozen arrays.

        Args:
            resolve: returns other trained tasks by name.
            batches: starts one pass over the training data in order, to measure statistics.
        """
        del resolve, batches
        return self, {}

    def adopt(self, features: Named[Feature]) -> "Task":
        """Returns the task with properties of the data, such as learned units of texts.

        Called when a run begins; the workdir stores the result.
        """
        del features
        return self

    def resolve_references(self, find: "Callable[[str], Task]") -> "Task":
        """Returns the task with its references resolved and checked.

        Called before any training, so that errors are found early.

        Args:
            find: returns other tasks by name, trained or not.

        Raises:
            ValueError: this task is incompatible with a task that it refers to.
        """
        del find
        return self

    def frozen_like(self) -> Frozen:
        """Returns arrays with the structure of `load`'s arrays, for `jax.eval_shape`."""
        return {}

    def check(self, features: Named[Feature]) -> None:
        """Raises ValueError if this task cannot be trained on data with these columns."""
        raise TypeError(f"{type(self).__name__} must define the method 'check'")

    def init(self, key: Key[Array, ""], frozen: Frozen, batch: Batch) -> tuple[Params, Stats]:
        """Returns initial parameters and statistics."""
        raise TypeError(f"{type(self).__name__} must define the method 'init'")

    def blank(self) -> tuple[Params, Stats]:
        """Returns parameters and statistics with the structure of `init`, for `jax.eval_shape`."""
        raise TypeError(f"{type(self).__name__} must define the method 'blank'")

    def continued(self) -> "Task":
        """Returns the task for a run that begins with trained arrays, such as a codebook."""
        return self

    def warm_start(self, source: "Task", params: Params, stats: Stats, load: Load) -> Trees:
        """Returns initial parameters and statistics that are taken from another run.

        Args:
            source: task of the other run.
            params: newly initialized parameters of this task.
            stats: newly initialized statistics of this task.
            load: reads the other run's arrays; its arguments are parameters and statistics with the
                required structure, shapes and shardings.
        """
        del source
        return load(params, stats)

    def optimizer(self, optimizer: Optimizer, steps: int) -> optax.GradientTransformation:
        """Returns the gradient transformation of all parameters.

        Args:
            optimizer: the experiment's optimizer; a task may use a different one for some
                parameters.
            steps: number of training steps.
        """
        return optimizer.build(steps)

    def loss(
        self,
        params: Params,
        stats: Stats,
        frozen: Frozen,
        batch: Batch,
        key: Key[Array, ""],
        step: Int[Array, ""],
    ) -> tuple[Float[Array, ""], Aux]:
        """Returns the loss of a batch; gradients are taken with respect to `params`."""
        raise TypeError(f"{type(self).__name__} must define the method 'loss'")

    def update(
        self, params: Params, stats: Stats, aux: Any, key: Key[Array, ""], step: Int[Array, ""]
    ) -> tuple[Params, Stats]:
        """Returns params and stats after the optimizer's step. `aux` is `Aux.update`."""
        del aux, key, step
        return params, stats

    def evaluate(
        self, params: Params, stats: Stats, frozen: Frozen, batch: Batch, key: Key[Array, ""]
    ) -> Metrics:
        """Returns accumulators over the valid examples of a batch."""
        raise TypeError(f"{type(self).__name__} must define the method 'evaluate'")

    def preview(
        self, params: Params, stats: Stats, frozen: Frozen, batch: Batch, key: Key[Array, ""]
    ) -> Named[Array]:
        """Returns a few results in stored form, for visual inspection."""
        raise TypeError(f"{type(self).__name__} must define the method 'preview'")

    def write_preview(self, preview: Named[np.ndarray], path: Path) -> Path:
        """Writes the result of `preview` to `path` plus a suffix; returns the file."""
        raise TypeError(f"{type(self).__name__} must define the method 'write_preview'")


def require(
    features: Named[Feature], name: str, shape: tuple[int, ...], *, ragged: bool = False
) -> None:
    """Raises ValueError unless the data have the column `name` with this shape.

    Args:
        features: features of the data.
        name: name of the column.
        shape: shape of one example, or of the longest example.
        ragged: whether examples differ in length.
    """
    if name not in features:
        raise ValueError(f"the data have no {name!r}; they have: {', '.join(features)}")
    if features[name].shape != shape:
        raise ValueError(
            f"{name!r} in the data has shape {features[name].shape}, but {shape} in the config; "
            "change the modality's size and channels, or the size of the data source"
        )
    if features[name].ragged != ragged:
        kinds = {True: "of variable length", False: "of one length"}
        raise ValueError(
            f"{name!r} is {kinds[features[name].ragged]} in the data, but {kinds[ragged]} in the "
            "config; give the data and the config the same modality"
        )
