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

    The first three arguments and `accumulate` (see `Experiment`) are static. All randomness comes
    from (state.key, data_step), so a resumed run draws what the uninterrupted one would have drawn.

    A step whose loss or gradient is not finite is skipped: it counts, and its batch is used up,
    but nothing else in the state changes by a single bit. The metric "skipped" is then 1, else 0.
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
    """Returns the loss and gradient of a batch from its parts, and their joined outputs.

    Every mean of a part counts by the number of its values, so the parts give what the whole batch
    gives. Metrics are averaged over the parts; arrays for the task's update have the rows of the
    batch. On a CPU the loop is unrolled, which saves no memory: in a loop convolutions take 20
    times as long there.
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
        return aux.counts  # the compiler removes all else

    def shares(counts: Int[Array, " n"]) -> Float[Array, " n"]:
        return count * counts / jnp.maximum(jnp.sum(counts), 1)

    zeros = jax.tree.map(jnp.zeros_like, params)
    parts = jax.tree.map(lambda rows: split(rows, count), batch)
    parts = parts._replace(shares=jax.tree.map(shares, jax.lax.map(counts, parts)))
    total, found = jax.lax.scan(add, zeros, parts, unroll=platform().name == "cpu")
    return jax.tree.map(joined, found), jax.tree.map(lambda leaf: leaf / count, total)


def split(rows: Shaped[Array, "b *rest"], count: int) -> Shaped[Array, "n m *rest"]:
    """Returns the rows in equal parts: part i has the rows i, i + count, i + 2 count, ...

    A device holds neighbouring rows, so it holds an equal share of every part.
    """
    if len(rows) % count:
        raise ValueError(f"a batch of {len(rows)} examples has no {count} equal parts")
    return jnp.swapaxes(rows.reshape(-1, count, *rows.shape[1:]), 0, 1)
