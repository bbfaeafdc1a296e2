"""`vqdit sample --workdir=DIR`: generates, and writes arrays, pictures and what made them."""

import dataclasses
import difflib
import json
import sys
from pathlib import Path
from typing import Any

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
    options = parse(argv, OPTIONS, repeated="given")
    if "workdir" not in options:
        print(f"{USAGE}\nerror: --workdir is missing", file=sys.stderr)
        return 2
    for name in ("num", "batch-size", "steps"):
        if options.get(name, 1) < 1:
            raise ValueError(f"--{name} must be at least 1, got {options[name]}")
    out = Path(options.get("out", "samples"))
    _make(out)

    import numpy as np

    from vqdit.api import BATCH, Generator, load

    model = load(options["workdir"])
    if not isinstance(model, Generator):
        raise ValueError(
            f"{options['workdir']} holds a tokenizer, which generates nothing; "
            f"see what it keeps with `vqdit reconstruct --workdir={options['workdir']}`"
        )
    given, longest = _given(model, options.get("given", []))
    _require_something_to_do(model, given)
    settings = {
        "num": options.get("num", longest if longest > 1 else 16),
        "guidance": options.get("guidance", model.task.guidance),
        "seed": options.get("seed", 0),
        "batch_size": options.get("batch-size", BATCH),
    }
    samplers = _samplers(model, options)
    samples = model.sample(given=given, samplers=samplers, **settings)

    np.savez(out / "samples.npz", **samples)
    for name, values in samples.items():
        model.modality(name).write(values, out)
    (out / "samples.json").write_text(
        json.dumps(
            {
                "workdir": str(options["workdir"]),
                "step": model.step,
                "given": options.get("given", []),
                "samplers": {name: repr(sampler) for name, sampler in samplers.items()},
                **settings,
            },
            indent=2,
        )
        + "\n"
    )
    print(f"{settings['num']} samples in {out}: samples.npz, grid.png, single files, samples.json")
    return 0


def parse(argv: list[str], known: dict[str, type], repeated: str = "") -> dict[str, Any]:
    """Reads `--name=value` and `--name value`; underscores may stand for dashes.

    Raises:
        ValueError: an option is unknown, has no value, or one of the wrong type.
    """
    options: dict[str, Any] = {}
    arguments = iter(argv)
    for argument in arguments:
        name, equals, value = argument.removeprefix("--").partition("=")
        name = name.replace("_", "-")
        if not argument.startswith("--") or name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean --{near[0]}?" if near else ""
            raise ValueError(f"unknown option {argument!r}{hint}")
        if not equals:
            value = next(arguments, None)
            if value is None:
                raise ValueError(f"--{name} needs a value")
        try:
            converted = known[name](value)
        except ValueError as error:
            raise ValueError(f"--{name} must be {known[name].__name__}, got {value!r}") from error
        if name == repeated:
            options.setdefault(name, []).append(converted)
        else:
            options[name] = converted
    return options


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


def _require_something_to_do(model: Any, given: dict[str, Any]) -> None:
    if all(name in given for name in model.task.targets):
        targets = ", ".join(model.task.targets)
        conditions = ", ".join(model.task.conditions)
        raise ValueError(
            f"nothing is left to generate: this model generates {targets}, which is given"
            f"{f', from {conditions}' if conditions else ''}"
        )


def _samplers(model: Any, options: dict[str, Any]) -> Any:
    """The config's samplers with the fields that the options name."""
    from vqdit import samplers as package
    from vqdit.samplers import Sampler
    from vqdit.typing import Named

    classes = {
        name: getattr(package, name)
        for name in package.__all__
        if isinstance(getattr(package, name), type)
        and issubclass(getattr(package, name), Sampler)
        and getattr(package, name) is not Sampler
    }
    chosen = options.get("sampler")
    if chosen is not None and chosen not in classes:
        near = difflib.get_close_matches(chosen, classes, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"unknown sampler {chosen!r}{hint}; one of: {', '.join(classes)}")
    result = {}
    for name, target in model.task.targets.items():
        sampler = target.sampler if chosen is None else classes[chosen]()
        if chosen == type(target.sampler).__name__:
            sampler = target.sampler
        sampler.check(target.process)
        fields = {field.name for field in dataclasses.fields(sampler)}
        changes = {key: options[key] for key in ("steps", "temperature") if key in options}
        unknown = set(changes) - fields
        if unknown:
            raise ValueError(f"{type(sampler).__name__} has no {', '.join(sorted(unknown))}")
        result[name] = dataclasses.replace(sampler, **changes)
    return Named(result)


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cannot write in {out}: {error.strerror}; choose another --out") from error
