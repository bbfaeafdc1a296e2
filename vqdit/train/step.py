"""One training step: a pure function of the state and a batch, with no I/O."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import optax

from vqdit.data.batch import Batch
from vqdit.optim.ema import Averaging
from vqdit.parallel.target_platform import platform
from vqdit.random import stream
from vqdit.tasks.base import Aux, Frozen, Task
from vqdit.train.state import TrainState
from vqdit.typing import Array, Float, Int, Named, Params, Shaped

T = TypeVar("T")


def train_step(
    task: Task,
    optimizer: optax.GradientTransformation,
    averaging: Averaging,
    state: TrainState,
    frozen: Frozen,
    batch: Batch,
    *,
    accumulate: int = 1,
) -> tuple[TrainState, Named[Float[Array, ""]]]:
    """Returns the next state and the step's metrics.

    The first three arguments and `accumulate` (see `Experiment`) are static. All random numbers are
    derived from (state.key, data_step), so a resumed run draws the same numbers as an uninterrupted
    run.

    A step whose loss or gradient is not finite is skipped: only the numbers of steps and of batches
    increase, and the rest of the state is unchanged bit for bit. The metric "skipped" is then 1,
    else 0.
    """
    key = jax.random.fold_in(state.key, state.data_step)

    def loss(params: Params, batch: Batch) -> tuple[Float[Array, ""], Aux]:
        return task.loss(params, state.stats, frozen, batch, stream(key, "loss"), state.step)

    if accumulate == 1:
        (loss_value, aux), gradient = jax.value_and_grad(loss, has_aux=True)(state.params, batch)
    else:
        (loss_value, aux), gradient = _in_parts(loss, state.params, batch, accumulate)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    params, stats = task.update(params, state.stats, aux.update, stream(key, "update"), state.step)
    norm = optax.tree.norm(gradient)
    is_finite = jnp.isfinite(loss_value) & jnp.isfinite(norm)
    metrics = aux.metrics | {"loss": loss_value, "gradient_norm": norm, "skipped": ~is_finite}

    def unless_skipped(new: T, old: T) -> T:
        return jax.tree.map(lambda new, old: jnp.where(is_finite, new, old), new, old)

    params, stats, opt_state = unless_skipped(
        (params, stats, opt_state), (state.params, state.stats, state.opt_state)
    )
    averages = state.ema, state.profiles
    average, profiles = unless_skipped(averaging.update(*averages, params, state.step), averages)
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


def _in_parts(
    loss: Callable[[Params, Batch], tuple[Float[Array, ""], Aux]],
    params: Params,
    batch: Batch,
    count: int,
) -> tuple[tuple[Float[Array, ""], Aux], Params]:
    """Returns loss and gradient of a batch, computed from its parts, and the joined outputs.

    Means over parts are weighted by their numbers of values, so the result is the same as for the
    whole batch. Metrics are averaged over the parts; arrays for the task's update have the rows of
    the batch. On a CPU, the loop is unrolled, because convolutions in a loop take 20 times as long
    there; unrolling does not save memory.
    """
    size = len(batch.index)

    def joined(parts: Array) -> Array:
        if parts.ndim == 1:
            return jnp.mean(parts)
        return jnp.swapaxes(parts, 0, 1).reshape(size, *parts.shape[2:])

    def add(total: Params, part: Batch) -> tuple[Params, tuple[Float[Array, ""], Aux]]:
        part = part._replace(size=size)
        found, gradient = jax.value_and_grad(loss, has_aux=True)(params, part)
        return jax.tree.map(jnp.add, total, gradient), found

    def counts(part: Batch) -> Named[Int[Array, ""]]:
        _, aux = loss(params, part._replace(size=size))
        return aux.counts  # the compiler removes the rest

    def shares(counts: Int[Array, " n"]) -> Float[Array, " n"]:
        return count * counts / jnp.maximum(jnp.sum(counts), 1)

    zeros = jax.tree.map(jnp.zeros_like, params)
    parts = jax.tree.map(lambda rows: split(rows, count), batch)
    parts = parts._replace(shares=jax.tree.map(shares, jax.lax.map(counts, parts)))
    total, found = jax.lax.scan(add, zeros, parts, unroll=platform().name == "cpu")
    return jax.tree.map(joined, found), jax.tree.map(lambda leaf: leaf / count, total)


def split(rows: Shaped[Array, "b *rest"], count: int) -> Shaped[Array, "n m *rest"]:
    """Splits rows into equal parts: part i has the rows i, i + count, i + 2 count, ...

    A device has neighbouring rows, so it has equally many rows of every part.
    """
    if len(rows) % count:
        raise ValueError(
            f"a batch of {len(rows)} examples cannot be split into {count} equal parts; "
            "change accumulate"
        )
    return jnp.swapaxes(rows.reshape(-1, count, *rows.shape[1:]), 0, 1)
