"""The train state, which a checkpoint stores and from which a run resumes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from vqdit.data.batch import Batch
from vqdit.optim.ema import Averaging
from vqdit.random import stream
from vqdit.tasks.base import Frozen, Task
from vqdit.typing import Array, Bool, Int, Key, Params, Stats


class TrainState(NamedTuple):
    """State of a run.

    Attributes:
        step: number of finished steps.
        data_step: index of the next batch, from which random keys are derived.
        params: parameters trained by gradients.
        stats: arrays that the task updates itself, such as an EMA codebook.
        opt_state: state of the optimizer.
        ema: averaged parameters; () if the experiment has no average.
        key: root of all random keys; never changes.
        profiles: power-function averages for post-hoc EMA (see `vqdit.optim.ema`).
    """

    step: Int[Array, ""]
    data_step: Int[Array, ""]
    params: Params
    stats: Stats
    opt_state: optax.OptState
    ema: Params
    key: Key[Array, ""]
    profiles: tuple[Params, ...] = ()


def create(
    task: Task,
    optimizer: optax.GradientTransformation,
    averaging: Averaging,
    frozen: Frozen,
    batch: Batch,
    key: Key[Array, ""],
) -> TrainState:
    """Returns the state before the first step.

    Args:
        task: the task to train.
        optimizer: the optimizer.
        averaging: the moving averages of the parameters.
        frozen: arrays that the task uses but does not train.
        batch: the first batch, which determines shapes.
        key: root of all random keys of the run.
    """
    params, stats = task.init(stream(key, "init"), frozen, batch)
    zero = jnp.zeros((), jnp.int32)
    ema, profiles = averaging.init(params)
    opt_state = optimizer.init(params)
    return TrainState(zero, zero, params, stats, opt_state, ema, key, profiles)


def starting_from(state: TrainState, params: Params, stats: Stats) -> TrainState:
    """Returns a fresh state with the parameters and statistics of another run."""
    ema = jax.tree.map(jnp.copy, params) if state.ema != () else ()
    profiles = tuple(jax.tree.map(jnp.copy, params) for _ in state.profiles)
    return state._replace(params=params, stats=stats, ema=ema, profiles=profiles)


def averaged(state: TrainState) -> Params:
    """Returns the parameters for evaluation, previews and sampling."""
    return state.params if state.ema == () else state.ema


def is_whole(state: TrainState) -> bool:
    """Returns whether a state can be saved: not donated, computed without error, and finite."""
    if any(leaf.is_deleted() for leaf in jax.tree.leaves(state)):
        return False
    try:
        return bool(_is_finite(state))
    except RuntimeError:  # the step that computed this state failed
        return False


@jax.jit
def _is_finite(state: TrainState) -> Bool[Array, ""]:
    floats = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in floats]))
