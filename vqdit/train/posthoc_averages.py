"""Post-hoc EMA: averages of parameters that are computed after training."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.optim import ema
from vqdit.runs import frozen_arrays, restoring, workdir
from vqdit.runs.checkpoints import Checkpoints
from vqdit.typing import Params


def reconstruct(folder: Path, width: float, step: int | None = None) -> tuple[Params, int]:
    """Returns the power-function average of a given width, combined from a run's saved averages.

    Args:
        folder: workdir of a run with `posthoc`.
        width: standard deviation of the average, as a fraction of the steps.
        step: number of steps after which the average ends; None uses the last saved averages.

    Returns:
        The averaged parameters, and the step.

    Raises:
        FileNotFoundError: the run saved no averages.
        ValueError: the width or the step is out of range.
    """
    folder = workdir.find_run(folder)
    posthoc = workdir.read_experiment(folder).posthoc
    if posthoc is None or not (steps := Checkpoints(folder / workdir.AVERAGES).steps()):
        raise FileNotFoundError(
            f"{folder} has no saved averages; train with --posthoc=PosthocEMA, with `every` "
            "not larger than the number of steps"
        )
    if not 0.0 < width < ema.WIDEST:
        raise ValueError(f"the width must be in (0, {ema.WIDEST}), got {width}; 0.1 is usual")
    end = steps[-1] if step is None else step
    if not steps[0] <= end <= steps[-1]:
        raise ValueError(
            f"step {end} is out of range: averages were saved for steps {steps[0]} to {steps[-1]}; "
            "choose a step in this range"
        )
    kept = [(time, each) for time in steps for each in posthoc.widths]
    shares = iter(ema.weights(kept, end, width))
    params = jax.eval_shape(frozen_arrays.read_frozen(folder)[0].blank)[0]
    total: Any = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float64), params)
    with Checkpoints(folder / workdir.AVERAGES) as averages:
        for time in steps:
            for profile in averages.restore((params,) * len(posthoc.widths), time):
                share = next(shares)
                total = jax.tree.map(
                    lambda a, b, share=share: a + share * np.asarray(b), total, profile
                )
    return jax.tree.map(lambda a, leaf: jnp.asarray(a, leaf.dtype), total, params), end


def write(source: Path, folder: Path, params: Params, step: int, *, option: str = "folder") -> None:
    """Writes a copy of a run's workdir with other parameters.

    Args:
        source: workdir of the run.
        folder: a new or empty folder.
        params: parameters that replace the run's parameters.
        step: step of the new checkpoint.
        option: command-line option that selects another folder, for error messages.

    Raises:
        ValueError: the folder already has a run.
        OSError: the folder cannot be written.
    """
    run = restoring.restore(source)
    experiment = dataclasses.replace(run.experiment, ema=0.0, posthoc=None)
    averaged = run._replace(experiment=experiment, params=params, step=step)
    restoring.write_run(folder, averaged, option=option)
