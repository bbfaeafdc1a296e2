"""Steps that are not finite: the step skips itself; here is what follows.

Which steps were skipped is read `LAG` steps behind the device, so that the device never waits for
the host: a run ends, or goes back, up to that many steps late, which a skipped step makes harmless.
"""

import json
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
from vqdit.runs.array_trees import flatten
from vqdit.train.state import TrainState
from vqdit.typing import Array, Bool, Float, Named

log = logging.getLogger(__name__)

LAG = 4
"""Steps that may be under way on the device while the host prepares the next one."""


class Diverged(FloatingPointError):
    """Too many steps in a row were not finite."""


class Skipped(NamedTuple):
    """A step that was skipped.

    Attributes:
        step: its number, from 1.
        metrics: those that are not finite.
    """

    step: int
    metrics: dict[str, float]


class Monitor:
    """Follows which steps were skipped.

    Args:
        settings: of the experiment; says how many in a row are too many.
    """

    def __init__(self, settings: NonFinite) -> None:
        self._most = 1 if settings.policy == "abort" else settings.limit
        self._pending: deque[tuple[int, Named[Float[Array, ""]]]] = deque()
        self._row: list[Skipped] = []

    def see(self, step: int, metrics: Named[Float[Array, ""]], lag: int = LAG) -> list[Skipped]:
        """Takes the metrics of a step; returns the steps that were skipped in a row, if too many.

        Args:
            step: number of finished steps.
            metrics: of the last of them, still on the device.
            lag: how many steps may still be under way; the last step of a run waits for all.
        """
        metrics["skipped"].copy_to_host_async()
        self._pending.append((step, metrics))
        while len(self._pending) > lag and len(self._row) < self._most:
            self._judge(*self._pending.popleft())
        return self._row if len(self._row) >= self._most else []

    def _judge(self, step: int, metrics: Named[Float[Array, ""]]) -> None:
        if not parallel.host(metrics["skipped"]):
            self._row = []
            return
        numbers = {name: float(value) for name, value in parallel.host(metrics).items()}
        found = {name: value for name, value in numbers.items() if not math.isfinite(value)}
        self._row = [*self._row, Skipped(step, found)]
        log.warning("%s was not finite, and was skipped", describe(self._row[-1]))


def describe(skipped: Skipped) -> str:
    """Returns a step and its numbers that are not finite, in words."""
    numbers = ", ".join(f"{name} {value}" for name, value in skipped.metrics.items())
    return f"step {skipped.step} ({numbers})"


def write_dumps(
    folder: Path, experiment: Experiment, row: list[Skipped], ahead: int, key: Array
) -> None:
    """Writes what it takes to look into skipped steps: `step_NNN.json` for each.

    Args:
        folder: where to.
        experiment: that they are of.
        row: the steps.
        ahead: by how much data steps are ahead of steps.
        key: root of the run's randomness.
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
        (folder / f"step_{step:07d}.json").write_text(json.dumps(record, indent=2) + "\n")


def check_result(state: TrainState) -> None:
    """Makes sure that a trained state is one: what is skipped for its loss alone may hide it.

    Raises:
        Diverged: parameters, statistics or averages are not finite; names the first.
    """
    flat = flatten({"params": state.params, "stats": state.stats, "ema": state.ema})
    wrong = [path for path, is_finite in _finite(flat).items() if not is_finite]
    if wrong:
        raise Diverged(
            f"the training has ended, and {wrong[0]} is not finite; nothing uses it. Train in "
            "another --workdir with a lower learning rate, a longer warm-up or a smaller "
            "optimizer.clip"
        )


@jax.jit
def _finite(flat: dict[str, Array]) -> dict[str, Bool[Array, ""]]:
    return {path: jnp.all(jnp.isfinite(leaf)) for path, leaf in flat.items()}


def diverged(folder: Path, row: list[Skipped], went_back: int) -> Diverged:
    """Returns the error that ends a run, with what helps."""
    count = f"{len(row)} steps in a row were" if len(row) > 1 else "a step was"
    back = f", after going back {went_back} times" if went_back else ""
    return Diverged(
        f"{count} not finite{back}; the last is {describe(row[-1])}. Their examples are listed in "
        f"{folder}. The same command goes on from the last checkpoint: with "
        "--nonfinite.policy=rollback it passes these data, with skip it takes a larger "
        "--nonfinite.limit. If it comes back, train in another --workdir with a lower learning "
        "rate, a longer warm-up or a smaller optimizer.clip"
    )
