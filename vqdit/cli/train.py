"""`vqdit train --config=X`: trains the experiments of a config, or resumes them."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from vqdit.cli.invocation import command
from vqdit.cli.options import FOLDER, INDEX, Overrides, text
from vqdit.train.exit_codes import leave_on_sigterm

Experiments = dict[str, Any]
"""Experiments by name; typed as Any, as their class would import JAX for --help."""


def train(
    *,
    config: Annotated[str, text("CONFIG")],
    workdir: Annotated[str | None, FOLDER] = None,
    strict: bool = False,
    coordinator: Annotated[str | None, text("HOST:PORT")] = None,
    processes: Annotated[int | None, INDEX] = None,
    process: Annotated[int | None, INDEX] = None,
    overrides: Overrides = (),
) -> int:
    """Train the experiments of a config.

    Several experiments are trained in order. Re-run the same command to resume.

    Any other option overrides a field of the config: --any.field=value; --config=CONFIG --help
    lists all fields. If the config has several experiments, the name comes first, as in
    --tokenizer.steps=500. The class of a component is set by name: --data.source=ImageFolder. An
    optional component is added with --task.adversary=Adversary, and removed with
    --task.adversary=None.

    Exit codes: 0 done; 2 bad input; 3 too many steps whose loss or gradient was not finite;
    75 stopped by SIGTERM after saving, or because a data worker was killed (re-run to resume);
    124 no progress within a timeout (re-run to resume from the last checkpoint);
    130 stopped by Ctrl-C after saving.
    SIGUSR1 saves a checkpoint at the end of the step, and training continues.

    Args:
        config: A Python file with config(), or the name of a shipped config such as quickstart.
        workdir: Folder of all results. Default: runs/<name of the config>.
        strict: Stop at a damaged checkpoint. By default, it is reported and moved aside, and the
            previous one is used.
        coordinator: Address on which process 0 listens. On TPUs and in Slurm, Open MPI and indexed
            Kubernetes jobs, this option and the next two are detected.
        processes: Number of processes.
        process: Number of this process, from 0.
        overrides: Fields of the config.
    """
    with leave_on_sigterm():
        return _start(config, workdir, strict, (coordinator, processes, process), overrides)


def _start(
    name: str,
    workdir: str | None,
    strict: bool,
    place: tuple[str | None, int | None, int | None],
    overrides: Sequence[str],
) -> int:
    from vqdit import config as configs
    from vqdit.cli.overrides import override
    from vqdit.files import local_path
    from vqdit.parallel import distributed, use_compilation_cache
    from vqdit.runs.workdir import make_folder, refuse_links

    stem, config = configs.load(name)
    config = override(config, overrides)
    distributed.start(distributed.place(*place))
    several = isinstance(config, dict)
    experiments = config if several else {stem: config}
    folder = local_path(workdir or Path("runs") / stem)
    runs = {name: folder / name if several else folder for name in experiments}
    refuse_links(folder)
    _check_order(folder, list(experiments) if several else [])
    _check(experiments, runs)
    make_folder(folder, "--workdir")
    use_compilation_cache()
    return _train(experiments, runs, folder, strict)


def _check_order(folder: Path, names: list[str]) -> None:
    """Raises ValueError if the folder has other experiments; `names` is empty for a single one."""
    from vqdit.runs.workdir import CONFIG, experiment_names

    there = experiment_names(folder)
    single = (folder / CONFIG).is_file()
    if (single and names) or not set(there) <= set(names):
        here = ", ".join(names) or "a single one"
        raise ValueError(
            f"the experiments of the workdir {folder} ({', '.join(there) or 'a single one'}) "
            f"are not those of the config ({here}); use another --workdir"
        )


def _check(experiments: Experiments, runs: dict[str, Path]) -> None:
    """Checks all experiments before the first one trains.

    References are resolved only for new runs, as a started run has copies of the arrays it uses.
    """
    from vqdit.files import local_path
    from vqdit.inference.loading import resolver
    from vqdit.runs import workdir
    from vqdit.train import trackers

    tasks: dict[str, Any] = {}

    def find(name: str) -> Any:
        return tasks[name] if name in tasks else resolver({n: runs[n] for n in tasks})(name).task

    for name, experiment in experiments.items():
        try:
            if workdir.finished(runs[name], experiment) is None:
                workdir.changes(runs[name], experiment)
                experiment.check_batch(experiment.mesh.build())
                trackers.check(experiment.log_to)
                task = experiment.task
                if not (runs[name] / workdir.CONFIG).is_file():
                    task = task.resolve_references(find)
                    if experiment.init_from:
                        workdir.find_run(local_path(experiment.init_from))
                for known in (experiment.data.announced, experiment.data.features):
                    features = known()  # check tasks before data are prepared
                    task.adopt(features).check(features)
                experiment.data.check()
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        tasks[name] = experiment.task


def _train(experiments: Experiments, runs: dict[str, Path], folder: Path, strict: bool) -> int:
    from vqdit.data.workers import LostWorker
    from vqdit.files import write_json
    from vqdit.inference.loading import resolver
    from vqdit.runs.workdir import ORDER
    from vqdit.tasks.autoencoder import AutoencoderTask
    from vqdit.train.exit_codes import DIVERGED, REQUEUE
    from vqdit.train.loop import train
    from vqdit.train.nonfinite import Diverged

    if folder not in runs.values():
        write_json(folder / ORDER, list(experiments))
    done: dict[str, Path] = {}
    for name, experiment in experiments.items():
        try:
            outcome = train(experiment, runs[name], resolver(done), strict=strict)
        except Diverged as error:
            print(f"error: {name}: {error}", file=sys.stderr)
            return DIVERGED
        except LostWorker as error:
            print(f"error: {name}: {error}", file=sys.stderr)
            return REQUEUE
        if outcome.exit_code:
            return outcome.exit_code
        done[name] = runs[name]
        metrics = "  ".join(f"{key} {value:.4g}" for key, value in outcome.metrics.items())
        print(f"{name}: {outcome.step} steps, in {runs[name]}")
        print(f"  validation: {metrics}")
        print(f"  preview: {outcome.preview}")
        is_last = len(done) == len(experiments)
        shown = shlex.quote(str(folder if is_last else runs[name]))
        if isinstance(experiment.task, AutoencoderTask):
            name = command("reconstruct")
            print(f"  reconstruct: {name} --workdir={shown} --out=reconstructions")
        else:
            print(f"  sample: {command('sample')} --workdir={shown} --num=64 --out=samples")
    return 0
