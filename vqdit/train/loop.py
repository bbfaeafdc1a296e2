"""The training loop: the order of things, the workdir, and nothing of what is trained.

A workdir holds ``config.json``, ``data.json`` (what identifies the data), ``frozen/`` (what the
task uses but does not train), ``checkpoints/``, ``metrics.jsonl`` (what the mathematics gives),
``performance.jsonl`` (timings), ``previews/``, ``log.txt``, and ``averages/`` if averages are kept
from which others are reconstructed.
"""

import functools
import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from vqdit import metrics as measures
from vqdit import sharding
from vqdit.checkpoint import KEEP_ALL, Checkpoints, Keep
from vqdit.data import Batch
from vqdit.experiment import Experiment
from vqdit.random import stream
from vqdit.tasks.base import Frozen, Resolve
from vqdit.train import state as states
from vqdit.train import workdir as workdirs
from vqdit.train.doctor import Doctor
from vqdit.train.faults import Interrupts
from vqdit.train.state import TrainState
from vqdit.train.step import train_step
from vqdit.train.writers import JsonlWriter, Progress, configure_logging

log = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        step: finished steps.
        metrics: of the validation split, if the run is complete.
        preview: the last preview, if the run is complete.
        exit_code: 0, or that of the interruption.
    """

    step: int
    metrics: dict[str, float]
    preview: Path | None
    exit_code: int


class Run:
    """One experiment in its workdir, with everything compiled that its loop calls."""

    def __init__(self, experiment: Experiment, folder: Path, resolve: Resolve) -> None:
        self.experiment, self.folder = experiment, folder
        self.mesh = experiment.mesh.build()
        workdirs.check_data(folder, experiment.data.source.fingerprint())
        experiment.task.check(experiment.data.features())
        experiment.data.check()
        self.task, frozen = workdirs.load_frozen(
            folder, experiment.task, resolve, functools.partial(self.batches, "train")
        )
        self.task.check(experiment.data.features())
        self.frozen = sharding.put_replicated(frozen, self.mesh)
        optimizer = self.task.optimizer(experiment.optimizer, experiment.steps)
        averaging = experiment.averaging
        self._create = functools.partial(states.create, self.task, optimizer, averaging)
        self._step = functools.partial(train_step, self.task, optimizer, averaging)
        self._evaluate = sharding.compile_whole(_calls(self.task.evaluate), self.mesh)
        self._preview = sharding.compile_whole(_calls(self.task.preview), self.mesh)

    def batches(self, split: str) -> Iterable[Batch]:
        """One ordered pass over a split, as global arrays."""
        number, count = sharding.process()
        for batch in self.experiment.data.split_batches(
            split, process_index=number, process_count=count
        ):
            yield sharding.put_batch(batch, self.mesh)

    def start(self, checkpoints: Checkpoints) -> TrainState:
        """Returns the state to go on from: restored, fine-tuned from another run, or fresh."""
        seed = self.experiment.seed
        batch = self.experiment.data.first_batch(seed)
        inputs = (self.frozen, batch, jax.random.key(seed))
        abstract = sharding.abstract(self._create, self.mesh, *inputs)
        if checkpoints.latest() is not None:
            state = checkpoints.restore(abstract)
            log.info("resumed at step %d", int(state.step))
            return state
        source = self.experiment.init_from
        state = sharding.create(self._create, self.mesh, *inputs)
        if not source:
            return state
        return states.starting_from(
            state, *workdirs.load_initial(Path(source), self.experiment.task, state)
        )

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """Returns the metrics of the whole validation split."""
        key, total = stream(state.key, "evaluate"), None
        params = states.averaged(state)
        for number, batch in enumerate(self.batches("validation")):
            key_of_batch = jax.random.fold_in(key, number)
            part = self._evaluate(params, state.stats, self.frozen, batch, key_of_batch)
            total = measures.merge(total, sharding.host(part))
        return {} if total is None else measures.compute(total)

    def preview(self, state: TrainState) -> Path:
        """Writes a picture of what the run can do; returns the file."""
        batch = next(iter(self.batches("validation")))
        params, key = states.averaged(state), stream(state.key, "preview")
        preview = sharding.host(self._preview(params, state.stats, self.frozen, batch, key))
        path = self.folder / "previews" / f"step_{int(state.step):07d}"
        path.parent.mkdir(exist_ok=True)
        return self.task.write_preview(preview, path)


def train(experiment: Experiment, folder: Path, resolve: Resolve) -> Outcome:
    """Trains an experiment in its workdir, from where it stands to its end.

    Args:
        experiment: what to do.
        folder: the workdir; an unfinished run in it is resumed.
        resolve: finds the experiments that this one refers to.

    Raises:
        ValueError: the experiment cannot be trained, or the workdir holds another one.
        OSError: the workdir cannot be written.
    """
    sharding.check_batch(experiment.data.batch_size, experiment.mesh.build())
    done = workdirs.finished(folder, experiment)
    if done is not None:
        return Outcome(*done, 0)
    workdirs.make_folder(folder)
    with workdirs.alone(folder):
        changes = workdirs.changes(folder, experiment)
        workdirs.clear_failed_start(folder)
        handler = configure_logging(folder / "log.txt")
        try:
            for change in changes:
                log.info("changed on resume: %s", change)
            with (
                Interrupts() as interrupts,
                Checkpoints(folder / "checkpoints", Keep(last=experiment.keep)) as checkpoints,
                Checkpoints(folder / workdirs.AVERAGES, KEEP_ALL) as averages,
            ):
                run = Run(experiment, folder, resolve)
                return _loop(run, checkpoints, averages, interrupts)
        except Exception:
            log.exception("stopped by an error")
            raise
        finally:
            if handler is not None:
                logging.getLogger("vqdit").removeHandler(handler)
                handler.close()


def _loop(
    run: Run, checkpoints: Checkpoints, averages: Checkpoints, interrupts: Interrupts
) -> Outcome:
    experiment, steps = run.experiment, run.experiment.steps
    state = run.start(checkpoints)
    workdirs.claim(run.folder, experiment)
    start = int(state.step)
    metrics = JsonlWriter(run.folder / "metrics.jsonl")
    performance = JsonlWriter(run.folder / "performance.jsonl")
    for writer in (metrics, performance):
        writer.cut(start)
    step_function = sharding.compile_step(run._step, state)
    progress = Progress(run.folder.name, start, steps, experiment.data.batch_size)
    doctor = Doctor()
    number, count = sharding.process()
    batches = experiment.data.train_batches(
        experiment.seed, int(state.data_step), process_index=number, process_count=count
    )
    waited, results, preview = 0.0, None, None
    try:
        for step in range(start + 1, steps + 1):
            before = time.monotonic()
            batch = sharding.put_batch(next(batches), run.mesh)
            waited += time.monotonic() - before
            state, values = step_function(state, run.frozen, batch)

            if step % experiment.log_every == 0 or step == steps:
                numbers = {name: float(value) for name, value in sharding.host(values).items()}
                metrics.write(step, **numbers)
                speed = progress.update(step, numbers)
                for advice in doctor.see(numbers):
                    log.warning("step %d: %s", step, advice)
                performance.write(step, **speed, data_wait_seconds=waited)
                waited = 0.0
            last = step == steps
            if last or _due(step, experiment.evaluate_every):
                results = _write_evaluation(metrics, step, run.evaluate(state))
                progress.pause()
            if last or _due(step, experiment.preview_every):
                preview = run.preview(state)
                progress.pause()
            stopping = interrupts.should_stop(step)
            if experiment.posthoc and (last or _due(step, experiment.posthoc.every)):
                averages.save(step, state.profiles)
            if _due(step, experiment.checkpoint_every) or stopping or last:
                checkpoints.save(step, state)
                progress.pause()
            if stopping and not last:
                checkpoints.wait()
                log.info("saved step %d; the same command goes on from there", step)
                return Outcome(step, {}, None, interrupts.exit_code)
    finally:
        batches.close()
        progress.close()
    checkpoints.wait()
    averages.wait()
    results = run.evaluate(state) if results is None else results
    preview = run.preview(state) if preview is None else preview
    workdirs.finish(run.folder, int(state.step), results, preview)
    return Outcome(int(state.step), results, preview, 0)


def _write_evaluation(
    metrics: JsonlWriter, step: int, results: dict[str, float]
) -> dict[str, float]:
    metrics.write(step, **{f"validation/{name}": value for name, value in results.items()})
    shown = "  ".join(f"{name} {value:.4g}" for name, value in results.items())
    log.info("step %d validation: %s", step, shown)
    return results


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _calls(method: Any) -> Any:
    """A fresh function around a bound method, so that its compilations are this run's own."""

    def call(params: Any, stats: Any, frozen: Frozen, batch: Batch, key: Any) -> Any:
        return method(params, stats, frozen, batch, key)

    return call
