"""`vqdit sample --workdir=DIR`: generates, and writes arrays, pictures and what made them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from vqdit.cli.options import command, near, parse

USAGE = """usage: sample.py --workdir=DIR [--num=N] [--given NAME=VALUE ...] [OPTIONS]

Generates from a trained model; the workdir is all it needs.

  --workdir=DIR         of the run, or of a config with several: its last one
  --num=N               how many (default: 16; with several given files, one for each)
  --given NAME=VALUE    what is known, any number of times: label=7, label=3,5, label=none,
                        image=FILE.png, image=FOLDER; sample i uses item i mod F.
                        Labels that are not given go through the classes in turn.
  --steps=K             network evaluations (default: the config's)
  --guidance=W          scale of classifier-free guidance; 1 is none (default: the config's)
  --sampler=NAME        Euler or Unmasking (default: the config's)
  --temperature=T       of the codes' distribution, for Unmasking (default: the config's)
  --batch-size=B        samples at a time (default: 64)
  --seed=S              of the noise (default: 0)
  --out=DIR             where everything is written (default: samples)

Writes samples.npz (one array per modality), grid.png, single files, and samples.json."""
OPTIONS = {
    "workdir": str,
    "num": int,
    "given": str,
    "steps": int,
    "guidance": float,
    "sampler": str,
    "temperature": float,
    "batch-size": int,
    "seed": int,
    "out": str,
}


def main(argv: list[str]) -> int:
    """Runs the command."""
    if "-h" in argv or "--help" in argv:
        print(USAGE)
        return 0
    options = parse(argv, OPTIONS, repeated="given", required="workdir")
    for name in ("num", "batch-size", "steps"):
        if options.get(name, 1) < 1:
            raise ValueError(f"--{name} must be at least 1, got {options[name]}")
    if not 0 <= options.get("seed", 0) < 2**32:
        raise ValueError(f"--seed must be from 0 to 2^32 - 1, got {options['seed']}")

    import numpy as np

    from vqdit.api import BATCH, Generator, load
    from vqdit.train.workdir import make_folder

    model = load(options["workdir"])
    if not isinstance(model, Generator):
        raise ValueError(
            f"{options['workdir']} holds a tokenizer, which generates nothing; see what it keeps "
            f"with `{command('reconstruct')} --workdir={options['workdir']}`"
        )
    given, longest = _given(model, options.get("given", []))
    samplers = _samplers(model, options)
    settings = {
        "num": options.get("num", longest if longest > 1 else 16),
        "guidance": options.get("guidance"),
        "seed": options.get("seed", 0),
        "batch_size": options.get("batch-size", BATCH),
    }
    model.check(given, samplers, settings["guidance"])
    out = Path(options.get("out", "samples"))
    make_folder(out, "--out")
    samples = model.sample(given=given, samplers=samplers, **settings)

    np.savez(out / "samples.npz", **samples)  # pyright: ignore[reportArgumentType]
    for name, values in samples.items():
        model.modality(name).write(values, out)
    record = {
        "workdir": options["workdir"],
        "step": model.step,
        "given": options.get("given", []),
        "samplers": {name: repr(sampler) for name, sampler in samplers.items()},
        **settings,
        "guidance": options.get("guidance", model.task.guidance),
    }
    (out / "samples.json").write_text(json.dumps(record, indent=2) + "\n")
    print(f"{settings['num']} samples in {out}: samples.npz, grid.png, single files, samples.json")
    return 0


def _given(model: Any, pairs: list[str]) -> tuple[dict[str, Any], int]:
    """Reads what is given, before anything is compiled; also returns the largest count."""
    import numpy as np

    given: dict[str, list[Any]] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--given takes NAME=VALUE such as label=7, got {pair!r}")
        modality = model.modality(name)
        if name in model.task.conditions and value == "none":
            given.setdefault(name, []).append(np.int32(-1))
        else:
            given.setdefault(name, []).extend(modality.read(value))
    longest = max((len(items) for items in given.values()), default=1)
    return {name: np.stack(items) for name, items in given.items()}, longest


def _samplers(model: Any, options: dict[str, Any]) -> Any:
    """The config's samplers with the fields that the options name."""
    from vqdit.cli.overrides import classes_of
    from vqdit.samplers import Sampler
    from vqdit.typing import Named

    classes = classes_of(Sampler)
    chosen = options.get("sampler")
    if chosen is not None and chosen not in classes:
        raise ValueError(
            f"unknown sampler {chosen!r}{near(chosen, classes)}; one of: {', '.join(classes)}"
        )
    changes = {name: options[name] for name in ("steps", "temperature") if name in options}
    result = {}
    for name, target in model.task.targets.items():
        sampler = target.sampler
        if chosen not in (None, type(sampler).__name__):
            sampler = classes[chosen]()
        sampler.check(target.process)
        for field in set(changes) - {field.name for field in dataclasses.fields(sampler)}:
            takers = ", ".join(c for c in classes if hasattr(classes[c](), field))
            raise ValueError(f"{type(sampler).__name__} has no {field}; --{field} is for {takers}")
        result[name] = dataclasses.replace(sampler, **changes)
    return Named(result)
