"""One experiment in its workdir, with the compiled functions for the training loop."""

import functools
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vqdit import metrics as measures
from vqdit import parallel
from vqdit.config import Experiment
from vqdit.data import Batch
from vqdit.profiling.flops import model_flops
from vqdit.random import stream
from vqdit.runs import frozen_arrays, restoring, workdir
from vqdit.runs.checkpoints import Checkpoints
from vqdit.tasks.base import Frozen, Resolve
from vqdit.train import state as states
from vqdit.train.state import TrainState
from vqdit.train.step import train_step

log = logging.getLogger(__name__)


class FailedPreview(OSError):
    """A preview could not be written."""


class Run:
    """One experiment in its workdir, with the compiled functions for the training loop.

    Args:
        experiment: the experiment.
        folder: the workdir.
        resolve: returns the experiments to which this one refers.
        progress: called after each batch of a pass over a split.
        strict: True raises an error if a checkpoint is damaged.
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: Path,
        resolve: Resolve,
        progress: Callable[[], None] = lambda: None,
        *,
        strict: bool = False,
    ) -> None:
        self.experiment, self.folder, self._progress = experiment, folder, progress
        self._strict = strict
        self.mesh = experiment.mesh.build()
        workdir.check_data(folder, experiment.data.source.fingerprint())
        task = experiment.task.adopt(experiment.data.features())
        task.check(experiment.data.features())
        experiment.data.check()
        task = task.continued() if experiment.init_from else task
        self.task, frozen = frozen_arrays.load_frozen(
            folder, task, resolve, functools.partial(self.batches, "train")
        )
        self.task.check(experiment.data.features())
        self.frozen = parallel.put_replicated(frozen, self.mesh)
        optimizer = self.task.optimizer(experiment.optimizer, experiment.steps)
        averaging = experiment.averaging
        self._create = functools.partial(states.create, self.task, optimizer, averaging)
        self.step = functools.partial(
            train_step, self.task, optimizer, averaging, accumulate=experiment.accumulate
        )
        self._evaluate = parallel.compile_whole(_calls(self.task.evaluate), self.mesh)
        self._preview = parallel.compile_whole(_calls(self.task.preview), self.mesh)

    def batches(self, split: str) -> Iterable[Batch]:
        """Yields the batches of a split in order, as global arrays."""
        number, count = parallel.process()
        for batch in self.experiment.data.split_batches(
            split, process_index=number, process_count=count
        ):
            self._progress()
            yield parallel.put_batch(batch, self.mesh)

    def start(self, checkpoints: Checkpoints) -> TrainState:
        """Returns the initial state: restored, initialized from another run, or new."""
        seed = self.experiment.seed
        batch = self.experiment.data.first_batch(seed)
        inputs = (self.frozen, batch, jax.random.key(seed))
        abstract = parallel.abstract(self._create, self.mesh, *inputs)
        if checkpoints.latest() is not None:
            state = checkpoints.restore(abstract, strict=self._strict)
            log.info("resumed at step %d", int(state.step))
            return state
        source = self.experiment.init_from
        state = parallel.create(self._create, self.mesh, *inputs)
        if not source:
            return state
        found = restoring.load_initial(
            Path(source),
            self.task,
            state.params,
            state.stats,
            other_tokenizers=self.experiment.init_other_tokenizers,
        )
        return states.starting_from(state, *found)

    def step_flops(self, state: TrainState) -> float:
        """Returns the model FLOPs of a step over the global batch."""
        batch = self.experiment.data.first_batch(self.experiment.seed)
        return model_flops(self.step, state, self.frozen, batch)

    def metric_names(self, state: TrainState) -> list[str]:
        """Returns the names of the metrics that `evaluate` computes, without computing them."""
        batch = self.experiment.data.first_batch(self.experiment.seed)
        inputs = states.averaged(state), state.stats, self.frozen, batch, state.key
        found = jax.eval_shape(self._evaluate, *inputs)
        return list(measures.compute(jax.tree.map(lambda leaf: np.ones(leaf.shape), found)))

    def evaluate(
        self, state: TrainState, is_urgent: Callable[[], bool] = lambda: False
    ) -> dict[str, float] | None:
        """Returns the metrics of the whole validation split, or None if it was interrupted.

        If no example of the split has a modality, metrics of this modality are left out.

        Args:
            state: the state to evaluate; uses its averaged parameters if there are any.
            is_urgent: called before every batch; True interrupts the evaluation.
        """
        key, total = stream(state.key, "evaluate"), None
        params = states.averaged(state)
        for number, batch in enumerate(self.batches("validation")):
            if is_urgent():
                return None
            key_of_batch = jax.random.fold_in(key, number)
            part = self._evaluate(params, state.stats, self.frozen, batch, key_of_batch)
            total = measures.merge(total, parallel.host(part))
        if total is None:
            return {}
        if lacking := [name for name in total if not total[name].compute(name)]:
            log.warning(
                "the validation split has no examples for the metrics %s", ", ".join(lacking)
            )
        return measures.compute(total)

    def preview(self, state: TrainState) -> Path:
        """Writes a preview of the run's output; returns the file. Only the first process writes it.

        Raises:
            FailedPreview: the preview could not be written.
        """
        batch = next(iter(self.batches("validation")))
        params, key = states.averaged(state), stream(state.key, "preview")
        preview = parallel.host(self._preview(params, state.stats, self.frozen, batch, key))
        path = self.folder / "previews" / f"step_{int(state.step):07d}"
        if parallel.process()[0] != 0:
            return path
        try:
            path.parent.mkdir(exist_ok=True)
            return self.task.write_preview(preview, path)
        except OSError as error:
            for begun in path.parent.glob(f"{path.name}.*"):
                begun.unlink(missing_ok=True)
            raise FailedPreview(
                f"cannot write the preview of step {int(state.step)}: {error}"
            ) from error


def _calls(method: Any) -> Any:
    """Wraps a bound method in a new function, so that runs do not share compiled programs."""

    def call(params: Any, stats: Any, frozen: Frozen, batch: Batch, key: Any) -> Any:
        return method(params, stats, frozen, batch, key)

    return call
