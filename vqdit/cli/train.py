"""`vqdit train --config=X`: trains the experiments of a config, from wherever they stand."""

import os
import sys
from pathlib import Path

from vqdit.cli.options import take

USAGE = """usage: train.py --config=CONFIG [--workdir=DIR] [--any.field=value ...]

Trains the experiment of a config, or its several ones in order; run again, it resumes.

  --config=CONFIG       a Python file with config(), or the name of a shipped config (quickstart)
  --workdir=DIR         where everything is written (default: runs/<config name>)
  --any.field=value     overrides a field of the config; --config=CONFIG --help lists them all;
                        of a config with several experiments: --tokenizer.steps=500

Exit codes: 0 done, 2 bad input, 75 stopped by SIGTERM after saving (run again to go on),
130 stopped by Ctrl-C after saving."""


def main(argv: list[str]) -> int:
    """Runs the command."""
    name, rest = take(argv, "--config")
    workdir, rest = take(rest, "--workdir")
    if name is None:
        if "-h" in rest or "--help" in rest:
            print(USAGE)
            return 0
        print(USAGE, file=sys.stderr)
        print("error: --config is missing", file=sys.stderr)
        return 2

    from vqdit import config as configs

    stem, config = configs.load(name)
    if "-h" in rest or "--help" in rest:
        print(USAGE + "\n")
    config = configs.override(config, rest)
    folder = Path(workdir or Path("runs") / stem)
    _use_compilation_cache(folder)
    if isinstance(config, dict):
        return _train_in_order(config, folder)
    return _train_one(stem, config, folder, folder, {})


def _train_in_order(config: dict, folder: Path) -> int:
    from vqdit.train.workdir import write_json

    if (folder / "config.json").exists():
        raise ValueError(
            f"the workdir {folder} holds a single experiment, the config has {', '.join(config)}; "
            "use another --workdir"
        )
    for experiment in config.values():
        _check_early(experiment)
    _make(folder)
    write_json(folder / "experiments.json", list(config))
    earlier: dict[str, Path] = {}
    for name, experiment in config.items():
        code = _train_one(name, experiment, folder / name, folder, earlier)
        if code:
            return code
        earlier[name] = folder / name
    return 0


def _check_early(experiment) -> None:  # noqa: ANN001 (its class would import JAX for --help)
    """What can be wrong with a later experiment should show before the first one has run."""
    from vqdit import sharding

    sharding.check_batch(experiment.data.batch_size, experiment.mesh.build())
    experiment.task.check(experiment.data.features())
    experiment.data.check()


def _train_one(name, experiment, folder: Path, shown: Path, earlier: dict[str, Path]) -> int:  # noqa: ANN001
    from vqdit.api import resolver
    from vqdit.tasks.tokenizer import TokenizerTask
    from vqdit.train.loop import train
    from vqdit.train.writers import configure_logging

    configure_logging(None)
    outcome = train(experiment, folder, resolver(earlier))
    if outcome.exit_code:
        return outcome.exit_code
    metrics = "  ".join(f"{key} {value:.4g}" for key, value in outcome.metrics.items())
    print(f"{name}: {outcome.step} steps, in {folder}")
    print(f"  validation: {metrics}")
    print(f"  preview: {outcome.preview}")
    if isinstance(experiment.task, TokenizerTask):
        print(
            f"  look at reconstructions: vqdit reconstruct --workdir={folder} --out=reconstructions"
        )
    else:
        print(f"  sample: python sample.py --workdir={shown} --num=64 --out=samples")
    return 0


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"cannot make the workdir {folder}: {error.strerror}; choose another with --workdir=DIR"
        ) from error
    if not os.access(folder, os.W_OK):
        raise OSError(f"cannot write in the workdir {folder}; choose another with --workdir=DIR")


def _use_compilation_cache(folder: Path) -> None:
    """Compiled programs stay beside the runs, so that a resumed run starts at once."""
    import jax

    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str((folder / ".jax_cache").absolute()))
