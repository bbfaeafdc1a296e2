"""Handles steps whose loss or gradient is not finite: ends a run, or rolls it back.

The jitted step itself skips the update. The host reads the metrics `LAG` steps later, so that the
device never waits for the host. So a run ends or rolls back up to `LAG` steps late, which is
harmless because skipped steps change nothing.
"""

import logging
import math
from collections import deque
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vqdit import parallel
from vqdit.config import Experiment, NonFinite
from vqdit.files import write_json
from vqdit.runs.array_trees import flatten
from vqdit.train.state import TrainState
from vqdit.typing import Array, Bool, Float, Named

log = logging.getLogger(__name__)

LAG = 4
"""Number of steps that may run on the device while the host prepares the next step."""


class Diverged(FloatingPointError):
    """Too many steps in a row were not finite."""


class Skipped(NamedTuple):
    """A step that was skipped.

    Attributes:
        step: number of the step, counted from 1.
        metrics: the metrics of the step that are not finite.
    """

    step: int
    metrics: dict[str, float]


class Monitor:
    """Counts consecutive skipped steps.

    Args:
        settings: the policy, and the limit of consecutive skipped steps.
    """

    def __init__(self, settings: NonFinite) -> None:
        self._most = 1 if settings.policy == "abort" else settings.limit
        self._pending: deque[tuple[int, Named[Float[Array, ""]]]] = deque()
        self._row: list[Skipped] = []

    def see(self, step: int, metrics: Named[Float[Array, ""]], lag: int = LAG) -> list[Skipped]:
        """Reads a step's metrics; returns the consecutive skipped steps if they exceed the limit.

        Args:
            step: number of finished steps.
            metrics: metrics of the last finished step, still on the device.
            lag: number of steps that may still be running; 0 after the last step of a run.
        """
        metrics["skipped"].copy_to_host_async()
        self._pending.append((step, metrics))
        while len(self._pending) > lag and len(self._row) < self._most:
            self._check(*self._pending.popleft())
        return self._row if len(self._row) >= self._most else []

    def _check(self, step: int, metrics: Named[Float[Array, ""]]) -> None:
        if not parallel.host(metrics["skipped"]):
            self._row = []
            return
        numbers = {name: float(value) for name, value in parallel.host(metrics).items()}
        found = {name: value for name, value in numbers.items() if not math.isfinite(value)}
        self._row = [*self._row, Skipped(step, found)]
        log.warning("%s was not finite, and was skipped", describe(self._row[-1]))


def describe(skipped: Skipped) -> str:
    """Returns a description of a step and its metrics that are not finite."""
    numbers = ", ".join(f"{name} {value}" for name, value in skipped.metrics.items())
    return f"step {skipped.step} ({numbers})"


def write_dumps(
    folder: Path, experiment: Experiment, row: list[Skipped], ahead: int, key: Array
) -> None:
    """Writes `step_NNN.json` for each skipped step: its examples, key and metrics.

    Args:
        folder: the folder for the files.
        experiment: the experiment.
        row: the skipped steps.
        ahead: data_step - step, which increases with every rollback.
        key: root key of the run.
    """
    words = np.asarray(jax.random.key_data(key)).tolist()
    if parallel.process()[0] != 0:
        return
    folder.mkdir(exist_ok=True)
    for step, metrics in row:
        data_step = step - 1 + ahead
        record = {
            "step": step,
            "data_step": data_step,
            "key": words,
            "examples": experiment.data.train_rows(experiment.seed, data_step).tolist(),
            "metrics": {name: str(value) for name, value in metrics.items()},
        }
        write_json(folder / f"step_{step:07d}.json", record)


def check_result(state: TrainState) -> None:
    """Checks that a trained state is finite, which is not guaranteed by finite losses.

    Raises:
        Diverged: parameters, statistics or averages are not finite; the message names the first.
    """
    flat = flatten({"params": state.params, "stats": state.stats, "ema": state.ema})
    wrong = [path for path, is_finite in _finite(flat).items() if not is_finite]
    if wrong:
        raise Diverged(
            f"training has ended, but {wrong[0]} is not finite, so the run is unusable. Train in "
            "another --workdir with a lower learning rate, a longer warm-up or a smaller "
            "optimizer.clip"
        )


@jax.jit
def _finite(flat: dict[str, Array]) -> dict[str, Bool[Array, ""]]:
    return {path: jnp.all(jnp.isfinite(leaf)) for path, leaf in flat.items()}


def diverged(folder: Path, row: list[Skipped], rollbacks: int) -> Diverged:
    """Returns the error that ends a run; the message has remedies."""
    count = f"{len(row)} steps in a row were" if len(row) > 1 else "a step was"
    back = f", after {rollbacks} rollbacks" if rollbacks else ""
    return Diverged(
        f"{count} not finite{back}; the last was {describe(row[-1])}. Their examples are listed "
        f"in {folder}. Re-run the same command to resume from the last checkpoint: "
        "--nonfinite.policy=rollback skips these data, and a larger --nonfinite.limit allows "
        "more skipped steps. If the error recurs, train in another --workdir with a lower "
        "learning rate, a longer warm-up or a smaller optimizer.clip"
    )
