"""One training step: a pure function of the state and a batch, with no I/O."""

import jax
import jax.numpy as jnp
import optax

from vqdit.data.batch import Batch
from vqdit.ema import Averaging
from vqdit.random import stream
from vqdit.tasks.base import Frozen, Task
from vqdit.train.state import TrainState
from vqdit.typing import Array, Float, Named


def train_step(
    task: Task,
    optimizer: optax.GradientTransformation,
    averaging: Averaging,
    state: TrainState,
    frozen: Frozen,
    batch: Batch,
) -> tuple[TrainState, Named[Float[Array, ""]]]:
    """Returns the next state and the step's metrics.

    The first three arguments are static. All randomness comes from (state.key, data_step), so a
    resumed run draws what the uninterrupted one would have drawn.

    A step whose loss or gradient is not finite is skipped: it counts, and its batch is used up,
    but nothing else in the state changes by a single bit. The metric "skipped" is then 1, else 0.
    """
    key = jax.random.fold_in(state.key, state.data_step)
    (loss, aux), gradient = jax.value_and_grad(task.loss, has_aux=True)(
        state.params, state.stats, frozen, batch, stream(key, "loss"), state.step
    )
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    params, stats = task.update(params, state.stats, aux.update, stream(key, "update"), state.step)
    average, profiles = averaging.update(state.ema, state.profiles, params, state.step)
    norm = optax.tree.norm(gradient)
    is_finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    metrics = aux.metrics | {"loss": loss, "gradient_norm": norm, "skipped": ~is_finite}
    changed = params, stats, opt_state, average, profiles
    before = state.params, state.stats, state.opt_state, state.ema, state.profiles
    params, stats, opt_state, average, profiles = jax.tree.map(
        lambda new, old: jnp.where(is_finite, new, old), changed, before
    )
    state = TrainState(
        step=state.step + 1,
        data_step=state.data_step + 1,
        params=params,
        stats=stats,
        opt_state=opt_state,
        ema=average,
        key=state.key,
        profiles=profiles,
    )
    return state, jax.tree.map(jnp.float32, metrics)
