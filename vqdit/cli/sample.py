"""`vqdit sample --workdir=DIR`: any modality from any other, as arrays, files and a page."""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vqdit.cli.options import COUNT, SEED, command, near, parse, with_help
from vqdit.cli.report.page import table, write_page

USAGE = """usage: sample.py --workdir=DIR [--given NAME=VALUE ...] [--want NAME ...] [OPTIONS]

Generates from a trained model; the workdir is all it needs.

  --workdir=DIR         of the run, or of a config with several: its last one
  --num=N               how many (default: 16; with several given items, one for each)
  --given NAME=VALUE    what is known, any number of times: text=seven, text=LINES.txt, label=7,
                        label=3,5, image=FILE.png, audio=FILE.wav, or a folder of files; sample i
                        uses item i mod F. A label that only conditions may be none; if it is not
                        given, the classes take turns
  --want NAME           what to generate, any number of times (default: all that is not given);
                        what is neither given nor wanted stays unknown
  --init=FILE           a picture that is changed; of another modality NAME=VALUE, as in --given
  --mask=FILE           where: white is generated anew, black stays bit for bit (default: all)
  --strength=S          how far towards noise it goes first, in (0, 1] (default: 1; without a mask 1
                        would keep nothing, so it must be given)
  --interpolate=A,B     two pictures; the samples lie on the path from A to B and share one noise.
                        --strength=S, in [0, 1], says how far both go towards noise first
  --steps=K             network evaluations (default: the config's)
  --guidance=W          scale of guidance by what is given; 1 is none (default: the config's).
                        By pair, any number of times: --guidance image:text=3
  --autoguide=DIR       a smaller or less trained run over the same tokens: guidance moves away
                        from what it predicts, by the one --guidance
  --sampler=NAME        of codes such as Unmasking, DiscreteAncestral, ReMDM; of latents such as
                        Euler, DDIM, DPMSolver, UniPC (default: the config's); or of one:
                        image=Euler
  --temperature=T       of the codes' distribution, for samplers of codes; or of one: text=0.5
  --explain             also show why: where tokens looked, in which order they were revealed, and
                        which part of what was given caused what
  --batch-size=B        samples at a time (default: 64)
  --seed=S              of the noise (default: 0)
  --out=DIR             where everything is written (default: samples)

Writes index.html (open it in a browser), samples.npz (one array per modality), grid.png, single
files, and samples.json."""
OPTIONS = {
    "workdir": str,
    "num": COUNT,
    "given": str,
    "want": str,
    "init": str,
    "mask": str,
    "strength": float,
    "interpolate": str,
    "steps": COUNT,
    "guidance": str,
    "autoguide": str,
    "sampler": str,
    "temperature": str,
    "explain": bool,
    "batch-size": COUNT,
    "seed": SEED,
    "out": str,
}
REPEATED = ("given", "want", "guidance", "sampler", "temperature")
EDITING = ("init", "mask", "strength", "interpolate")
NONE = "none"
"""What is given of a condition to leave it out."""
RECORD = "samples.json"
"""Of the settings: a folder that has it holds samples."""
WHITE = 128
"""Pixels of a mask that are at least so bright are generated anew."""
SHOWN = 64
"""Samples on the page and in the grid."""


@with_help(USAGE)
def main(argv: list[str]) -> int:
    """Runs the command."""
    options = parse(argv, OPTIONS, repeated=REPEATED, required=("workdir",))

    import numpy as np

    from vqdit.inference.generator import BATCH
    from vqdit.runs.workdir import make_folder

    model = load_generator(options["workdir"])
    given = read_given(model, options.get("given", []))
    longest = max((len(values) for values in given.values()), default=1)
    settings = {
        "given": given,
        "want": options.get("want"),
        "guidance": _guidance(options.get("guidance", [])),
        "samplers": _samplers(model, options),
        "seed": options.get("seed", 0),
        "batch_size": options.get("batch-size", BATCH),
    }
    if "explain" in options and "autoguide" in options:
        raise ValueError("--explain is of one network; leave out --autoguide")
    edits = _edits(model, options)
    worse = load_generator(options["autoguide"]) if "autoguide" in options else None
    model.prepare(given, settings["want"], settings["samplers"], settings["guidance"], worse)
    out = Path(options.get("out", "samples"))
    make_folder(out, "--out")
    num = options.get("num", longest if longest > 1 else 16)
    samples = model.sample(num, edits=edits, autoguide=worse, **settings)

    _clear(out)
    np.savez(out / "samples.npz", **samples)  # pyright: ignore[reportArgumentType]
    for name, values in samples.items():
        model.modality(name).write(values, out)
    parts = [_show(model, samples, list(given), out)]
    if options.get("explain"):
        from vqdit.cli.report.explanation import write_explanation

        parts += write_explanation(model, num, settings, out)
    title = f"{num} samples of {options['workdir']}"
    write_page(out / "index.html", title, parts)
    record = {
        "workdir": options["workdir"],
        "step": model.step,
        "num": num,
        **settings,
        "given": options.get("given", []),
        "autoguide": options.get("autoguide"),
        "edits": {name: options[name] for name in EDITING if name in options},
        "want": [name for name in samples if name not in (*given, *model.task.conditions)],
        "samplers": {name: repr(sampler) for name, sampler in settings["samplers"].items()},
        "guidance": model.task.guidance if settings["guidance"] is None else settings["guidance"],
    }
    (out / RECORD).write_text(json.dumps(record, indent=2) + "\n")
    print(f"{num} samples in {out}: index.html, samples.npz, grid.png, files, samples.json")
    return 0


def _clear(out: Path) -> None:
    """Removes the numbered files of earlier samples, which may have been more."""
    if (out / RECORD).is_file():
        for file in [*out.iterdir()]:
            if re.fullmatch(r"(image|audio)_\d{4,}\.(png|wav)", file.name):
                file.unlink()


def load_generator(path: str) -> Any:
    """Loads a trained generator.

    Raises:
        ValueError: it is a tokenizer.
        FileNotFoundError: there is no run, or no checkpoint yet.
    """
    from vqdit.inference.generator import Generator
    from vqdit.inference.loading import load

    model = load(path)
    if not isinstance(model, Generator):
        raise ValueError(
            f"{path} holds a tokenizer, which generates nothing; see what it keeps with "
            f"`{command('reconstruct')} --workdir={path}`"
        )
    return model


def read_given(model: Any, pairs: Iterable[str], option: str = "--given") -> dict[str, Any]:
    """Reads NAME=VALUE pairs, before anything is compiled: a stack of values for every name."""
    import numpy as np

    given: dict[str, list[Any]] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not value:
            raise ValueError(f"{option} takes NAME=VALUE such as text=seven, got {pair!r}")
        modality, condition = model.modality(name), model.task.conditions.get(name)
        parts = value.split(",") if condition and condition.classes else [value]
        values = given.setdefault(name, [])
        if condition is None or NONE not in parts:
            values += modality.read(value)
            continue
        for part in parts:
            values += [np.int32(-1)] if part == NONE else modality.read(part)
    stacks = {name: np.stack(values) for name, values in given.items()}
    for name, values in stacks.items():
        model.pack(name, values)  # shows what is wrong with them
    return stacks


def _guidance(values: list[str]) -> float | dict[str, float] | None:
    """One number, or numbers of pairs."""
    pairs, plain = _by_name("guidance", values, float)
    if pairs and plain is not None:
        raise ValueError("--guidance takes one number, or pairs such as image:text=3, not both")
    return pairs or plain


def _by_name(option: str, values: list[str], kind: type) -> tuple[dict[str, Any], Any]:
    """Reads VALUE and NAME=VALUE; returns those with a name, and the last one without."""
    named, plain = {}, None
    for value in values:
        name, equals, text = value.rpartition("=")
        converted = parse([f"--{option}={text}"], {option: kind})[option]
        if equals:
            named[name] = converted
        else:
            plain = converted
    return named, plain


def _stack(values: list[Any]) -> Any:
    import numpy as np

    return np.stack(values)


def _edits(model: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """What is changed, by its name: from --init or --interpolate, --mask and --strength."""
    source = "interpolate" if "interpolate" in options else "init"
    if source not in options:
        for option in ("mask", "strength"):
            if option in options:
                raise ValueError(
                    f"--{option} is of what is changed, and nothing is; add --init=FILE"
                )
        return {}
    if "explain" in options:
        raise ValueError(f"--explain explains what is generated from noise; leave out --{source}")
    if source == "interpolate":
        return _interpolation(model, options)
    return _change(model, options)


def _change(model: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    from vqdit.modalities import Image
    from vqdit.tasks.editing import EditSpec

    if "mask" not in options and "strength" not in options:
        raise ValueError(
            "--init alone would keep nothing of it; say where to change it by --mask=FILE, or how "
            "far by --strength=S, such as 0.6"
        )
    name, value = _of_picture(model, options["init"], "--init", "FILE")
    modality = model.modality(name)
    mask = None
    if "mask" in options:
        if not isinstance(modality, Image):
            raise ValueError(f"--mask is a picture, and {name!r} is none; use --strength alone")
        grey = dataclasses.replace(modality, channels=1)
        mask = _stack(grey.read(options["mask"]))[..., 0] >= WHITE
    return {name: EditSpec(_stack(modality.read(value)), mask, options.get("strength", 1.0))}


def _interpolation(model: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    from vqdit.tasks.interpolation import Interpolation

    for option in ("init", "mask"):
        if option in options:
            raise ValueError(f"--interpolate changes the whole by itself; leave out --{option}")
    if "strength" not in options:
        raise ValueError(
            "--interpolate needs --strength=S, how far both go towards noise before they are "
            "mixed, such as 0.6; 0 mixes them as they are"
        )
    name, value = _of_picture(model, options["interpolate"], "--interpolate", "A,B")
    files = value.split(",")
    if len(files) != 2 or not all(files):
        raise ValueError(f"--interpolate takes two files, as in A.png,B.png, got {value!r}")
    first, second = (_stack(model.modality(name).read(file)) for file in files)
    return {name: Interpolation(first, second, options["strength"])}


def _of_picture(model: Any, given: str, option: str, value: str) -> tuple[str, str]:
    """Reads NAME=VALUE; the name may be left out if the model generates one kind of picture."""
    from vqdit.modalities import Image

    name, equals, text = given.partition("=")
    if equals:
        return name, text
    found = [n for n in model.task.targets if isinstance(model.modality(n), Image)]
    if len(found) != 1:
        known = ", ".join(model.task.targets)
        raise ValueError(f"{option} needs a name, as in {option}=NAME={value}; one of: {known}")
    return found[0], given


def _samplers(model: Any, options: Mapping[str, Any]) -> Any:
    """The config's samplers with what the options change."""
    from vqdit.cli.overrides import classes_of
    from vqdit.samplers import Sampler
    from vqdit.typing import Named

    classes, targets = classes_of(Sampler), model.task.targets
    chosen, every = _by_name("sampler", options.get("sampler", []), str)
    temperatures, temperature = _by_name("temperature", options.get("temperature", []), float)
    for option, named in (("sampler", chosen), ("temperature", temperatures)):
        for name in named:
            if name not in targets:
                known = ", ".join(targets)
                raise ValueError(f"--{option} for {name!r}, but this model generates {known}")
    result = {}
    for name, target in targets.items():
        sampler, wish = target.sampler, chosen.get(name, every)
        if wish is not None and wish not in classes:
            raise ValueError(
                f"unknown sampler {wish!r}{near(wish, classes)}; one of: {', '.join(classes)}"
            )
        if wish not in (None, type(sampler).__name__):
            sampler = classes[wish]()
        sampler.check(target.process)
        wishes = {"steps": options.get("steps"), "temperature": temperatures.get(name, temperature)}
        changes = {field: value for field, value in wishes.items() if value is not None}
        for field in set(changes) - {field.name for field in dataclasses.fields(sampler)}:
            takers = ", ".join(c for c in classes if hasattr(classes[c](), field))
            raise ValueError(f"{type(sampler).__name__} has no {field}; --{field} is for {takers}")
        result[name] = dataclasses.replace(sampler, **changes)
    return Named(result)


def _show(model: Any, samples: Mapping[str, Any], given: list[str], out: Path) -> str:
    """Writes the grid; returns the samples as HTML."""
    from vqdit.modalities.drawing import overview, save_png, tile

    stored = {name: model.modality(name).repack(values[:SHOWN]) for name, values in samples.items()}
    order = sorted(stored, key=lambda name: name not in given)
    drawn = {
        name: model.modality(name).draw(stored[name])
        for name in order
        if name not in model.task.conditions
    }
    only = next(iter(drawn.values()))
    save_png(out / "grid.png", tile(only) if len(drawn) == 1 else overview(drawn))
    columns = {
        name: [model.modality(name).html(example) for example in stored[name]] for name in order
    }
    return table(columns, given)
