"""`vqdit train --config=X`: trains the experiments of a config, from wherever they stand."""

import shlex
import sys
from pathlib import Path
from typing import Any

from vqdit.cli.options import HELP, command, near, take
from vqdit.train.exit_codes import leave_on_sigterm

USAGE = """usage: train.py --config=CONFIG [--workdir=DIR] [--any.field=value ...]

Trains the experiment of a config, or its several ones in order; run again, it resumes.

  --config=CONFIG       a Python file with config(), or the name of a shipped config (quickstart)
  --workdir=DIR         where everything is written (default: runs/<config name>)
  --strict              a damaged checkpoint is an error; else it is named, set aside, and the one
                        before it is used
  --coordinator=HOST:PORT --processes=N --process=I
                        this is process I of N, and process 0 listens there; a TPU, Slurm, Open MPI
                        and an indexed job of Kubernetes tell it without
  --any.field=value     overrides a field of the config; --config=CONFIG --help lists them all;
                        of a config with several experiments: --tokenizer.steps=500;
                        a component takes another class: --data.source=ImageFolder;
                        one that may be absent comes and goes: --task.adversary=Adversary

Exit codes: 0 done, 2 bad input, 3 too many steps whose loss or gradient was not finite,
75 stopped by SIGTERM after saving (run again to go on), 124 no progress within a deadline (run
again to go on from the last checkpoint), 130 stopped by Ctrl-C after saving.
SIGUSR1 saves at the end of the step, and the run goes on."""
STRICT = "--strict"
PLACE = ("--coordinator", "--processes", "--process")
Experiments = dict[str, Any]
"""Experiments by name. (Their class would import JAX for --help.)"""


def main(argv: list[str]) -> int:
    """Runs the command."""
    with leave_on_sigterm():
        return _main(argv)


def _main(argv: list[str]) -> int:
    name, rest = take(argv, "--config")
    workdir, rest = take(rest, "--workdir")
    place, rest = _place(rest)
    strict = STRICT in rest
    rest = [arg for arg in rest if arg != STRICT]
    overrides = [arg for arg in rest if arg not in HELP]
    if name is None:
        if len(overrides) < len(rest):
            print(USAGE)
            return 0
        for arg in overrides:
            if hint := near(arg.lstrip("-").partition("=")[0], ["config", "workdir"], "--"):
                raise ValueError(f"unknown option {arg!r}{hint}")
        raise ValueError("--config is missing: a Python file, or a name such as quickstart")

    from vqdit import config as configs
    from vqdit.cli.fields import print_fields
    from vqdit.cli.overrides import override
    from vqdit.parallel import distributed
    from vqdit.runs.workdir import make_folder

    stem, config = configs.load(name)
    config = override(config, overrides)
    if len(overrides) < len(rest):
        print(USAGE + "\n")
        print_fields(config, "train.py")
        return 0
    distributed.start(distributed.place(*place))
    several = isinstance(config, dict)
    experiments = config if several else {stem: config}
    folder = Path(workdir or Path("runs") / stem)
    runs = {name: folder / name if several else folder for name in experiments}
    _check_order(folder, list(experiments) if several else [])
    _check(experiments, runs)
    make_folder(folder, "--workdir")
    _use_compilation_cache(folder)
    return _train(experiments, runs, folder, strict)


def _place(argv: list[str]) -> tuple[tuple[str | None, int | None, int | None], list[str]]:
    """Takes coordinator, processes and process out of the arguments."""
    found = []
    for option in PLACE:
        value, argv = take(argv, option)
        if value is not None and option != "--coordinator" and not value.isdigit():
            raise ValueError(f"{option} must be an integer from 0, got {value!r}")
        found.append(value)
    coordinator, processes, process = found
    count, number = (None if value is None else int(value) for value in (processes, process))
    return (coordinator, count, number), argv


def _check_order(folder: Path, names: list[str]) -> None:
    """Refuses a folder that holds other experiments than those named; [] is a single one."""
    from vqdit.runs.workdir import CONFIG, ORDER, read_json

    order = folder / ORDER
    there = read_json(order) if order.is_file() else []
    single = (folder / CONFIG).is_file()
    if (single and names) or not set(there) <= set(names):
        here = ", ".join(names) or "a single one"
        raise ValueError(
            f"the workdir {folder} holds {', '.join(there) or 'a single experiment'}, the config "
            f"has {here}; use another --workdir"
        )


def _check(experiments: Experiments, runs: dict[str, Path]) -> None:
    """Whatever can be wrong with any of them shows here, before the first one trains.

    A workdir that was begun keeps what it refers to, so only a fresh one looks for it.
    """
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
                        workdir.find_run(Path(experiment.init_from))
                task.check(experiment.data.features())
                experiment.data.check()
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        tasks[name] = experiment.task


def _train(experiments: Experiments, runs: dict[str, Path], folder: Path, strict: bool) -> int:
    from vqdit.inference.loading import resolver
    from vqdit.runs.workdir import ORDER, write_json
    from vqdit.tasks.autoencoder import AutoencoderTask
    from vqdit.train.exit_codes import DIVERGED
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
            print(
                f"  reconstruct: {command('reconstruct')} --workdir={shown} --out=reconstructions"
            )
        else:
            print(f"  sample: {command('sample')} --workdir={shown} --num=64 --out=samples")
    return 0


def _use_compilation_cache(folder: Path) -> None:
    """Compiled programs stay beside the runs, so that a resumed run starts at once."""
    import jax

    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_compilation_cache_dir", str((folder / ".jax_cache").absolute()))
