"""Reads options with given values, edits, guidance and samplers."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from vqdit.cli.invocation import command
from vqdit.cli.options import near, read_number
from vqdit.files import local_path

WHITE = 128
"""Pixels of a mask with at least this brightness are regenerated."""


def load_generator(path: str) -> Any:
    """Loads a trained generator.

    Raises:
        ValueError: the run is a tokenizer.
        FileNotFoundError: there is no run, or no checkpoint yet.
    """
    from vqdit.inference.generator import Generator
    from vqdit.inference.loading import load

    model = load(path)
    if not isinstance(model, Generator):
        raise ValueError(
            f"{path} is the workdir of a tokenizer, which cannot generate; see its "
            f"reconstructions with `{command('reconstruct')} --workdir={path}`"
        )
    return model


def read_templates(model: Any, pairs: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Separates templates and prompts from other NAME=VALUE pairs.

    NAME^=VALUE is a prompt. A literal text with a gap, `___`, is a template.

    Returns:
        The other pairs, and the templates and prompts by the name of their modality.
    """
    from vqdit.inference.templates import template_parts
    from vqdit.modalities import Text
    from vqdit.tasks.templates import GAP, Prompt, Template

    rest, found = [], {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        is_prompt, name = name.endswith("^"), name.removesuffix("^")
        is_text = name in model.task.targets and isinstance(model.modality(name), Text)
        if is_prompt:
            model.modality(name)  # raises an error that lists the known names
            if not is_text:
                raise ValueError(
                    f"--given {name}^= gives the beginning of a text, but {name!r} is not a "
                    "text; leave out ^"
                )
        elif not is_text or value.endswith(".txt") or not GAP.search(value):
            rest.append(pair)
            continue
        if name in found:
            raise ValueError(
                f"--given takes one template or prompt for {name!r}, got two; leave one out"
            )
        found[name] = Prompt(value) if is_prompt else Template(value)
        template_parts(model.task, model.frozen, name, found[name])  # raises if it does not fit
    return rest, found


def read_values(model: Any, pairs: Sequence[str], option: str = "--given") -> dict[str, Any]:
    """Reads NAME=VALUE pairs with literals or files; returns the stacked values of every name."""
    found: dict[str, list[Any]] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not value:
            raise ValueError(f"{option} takes NAME=VALUE such as text=seven, got {pair!r}")
        found.setdefault(name, []).extend(model.modality(name).read(value))
    stacks = {name: _stacked(model.modality(name), values) for name, values in found.items()}
    for name, values in stacks.items():
        model.pack(name, values)  # raises an error that describes the invalid values
    return stacks


def _stacked(modality: Any, values: list[Any]) -> Any:
    import numpy as np

    from vqdit.ragged import ragged

    return ragged(values) if modality.lengths and values[0].ndim else np.stack(values)


def read_lengths(
    model: Any, words: Sequence[str], known: Collection[str], want: Sequence[str] | None
) -> dict[str, list[float]]:
    """Reads the NAME=LENGTH pairs of --length; returns the lengths by name.

    If a name has several lengths, the samples cycle through them.

    Raises:
        ValueError: a pair cannot be read, or the model cannot generate a length.
    """
    from vqdit.inference.requests import check_names, told_lengths, wanted_targets

    found: dict[str, list[float]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not value:
            raise ValueError(f"--length takes NAME=VALUE such as text=40, got {word!r}")
        found.setdefault(name, []).append(read_number("--length", value))
    check_names(model.task, known, want)
    told_lengths(model.task, wanted_targets(model.task, known, want), found, 1)
    return found


def read_guidance(words: Sequence[str]) -> float | dict[str, float] | None:
    """Reads one guidance scale, or one scale per pair of modalities."""
    pairs, single = _by_name("--guidance", words, read_number)
    if pairs and single is not None:
        raise ValueError("--guidance takes one number, or pairs such as image:text=3, not both")
    return pairs or single


def _by_name(
    option: str, words: Sequence[str], parse: Callable[[str, str], Any]
) -> tuple[dict[str, Any], Any]:
    """Reads VALUE and NAME=VALUE; returns the named values, and the last value without a name."""
    named, single = {}, None
    for word in words:
        name, equals, text = word.rpartition("=")
        if not text:
            raise ValueError(f"{option} needs a value, as in {option}=...")
        if equals:
            named[name] = parse(option, text)
        else:
            single = parse(option, text)
    return named, single


def read_samplers(
    model: Any, names: Sequence[str], temperatures: Sequence[str], steps: int | None
) -> Any:
    """Returns the samplers of the targets: those of the config, changed by the options.

    Args:
        model: the `Generator`.
        names: values of --sampler: class names, or NAME=CLASS for one target.
        temperatures: values of --temperature: numbers, or NAME=NUMBER for one target.
        steps: number of network evaluations; None keeps those of the samplers.
    """
    from vqdit.cli.overrides import classes_of
    from vqdit.samplers import Sampler
    from vqdit.typing import Named

    classes, targets = classes_of(Sampler), model.task.targets
    by_name, default = _by_name("--sampler", names, lambda option, word: word)
    hot, temperature = _by_name("--temperature", temperatures, read_number)
    for option, named in (("sampler", by_name), ("temperature", hot)):
        for name in named:
            if name not in targets:
                known = ", ".join(targets)
                raise ValueError(
                    f"--{option} is given for {name!r}, but this model generates {known}"
                )
    result = {}
    for name, target in targets.items():
        sampler, wanted = target.sampler, by_name.get(name, default)
        if wanted is not None and wanted not in classes:
            raise ValueError(
                f"unknown sampler {wanted!r}{near(wanted, classes)}; choose one of: "
                f"{', '.join(classes)}"
            )
        if wanted not in (None, type(sampler).__name__):
            sampler = classes[wanted]()
        sampler.check(target.process)
        fields = {"steps": steps, "temperature": hot.get(name, temperature)}
        changes = {field: value for field, value in fields.items() if value is not None}
        for field in set(changes) - {field.name for field in dataclasses.fields(sampler)}:
            takers = ", ".join(c for c in classes if hasattr(classes[c](), field))
            raise ValueError(
                f"{type(sampler).__name__} has no {field}; --{field} is only for {takers}"
            )
        result[name] = dataclasses.replace(sampler, **changes)
    return Named(result)


def read_edits(
    model: Any, options: Mapping[str, Any], explain: bool, templates: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns edits by modality, from the options --init, --interpolate, --mask and --strength.

    Args:
        model: the `Generator`.
        options: values of those of the four options that are given, by name.
        explain: whether --explain is given, which supports no edits.
        templates: templates and prompts by modality, which the result also contains.
    """
    source = "interpolate" if "interpolate" in options else "init"
    is_edit = source in options
    if options and not is_edit:
        raise ValueError(
            f"--{next(iter(options))} is an option of an edit, which needs a file to edit; add "
            "--init=FILE"
        )
    if explain and (is_edit or templates):
        what = f"--{source}" if is_edit else "the template or prompt"
        raise ValueError(
            "--explain supports only samples that are generated from noise, not edits; leave out "
            f"{what}"
        )
    read = _read_interpolation if source == "interpolate" else _read_edit
    found = read(model, options) if is_edit else {}
    for name in set(found) & set(templates):
        raise ValueError(
            f"{name!r} is edited by --{source} and also has a template; use only one of them"
        )
    return {**found, **templates}


def _read_edit(model: Any, options: Mapping[str, Any]) -> dict[str, Any]:

    from vqdit.modalities import Image, Video
    from vqdit.tasks.editing import EditSpec

    if "mask" not in options and "strength" not in options:
        raise ValueError(
            "with --init alone, nothing of the picture would be kept; add --mask=FILE, the area "
            "to change, or --strength=S, the amount of change, such as 0.6"
        )
    name, value = _split_name(model, options["init"], "--init", "FILE")
    modality = model.modality(name)
    mask = None
    if "mask" in options:
        if not isinstance(modality, Image | Video):
            raise ValueError(
                f"--mask is for pictures, and {name!r} is not a picture; use only --strength, or "
                "a template of a text, as in --given='text=In ___'"
            )
        mask = _read_mask(modality, options["mask"])
    values = _stacked(modality, modality.read(value))
    return {name: EditSpec(values, mask, options.get("strength", 1.0))}


def _read_mask(modality: Any, file: str) -> Any:
    """Reads a mask, True where data are regenerated; a picture masks all frames of a clip alike."""
    import numpy as np

    from vqdit.modalities import Image, Video
    from vqdit.modalities.videos import SUFFIXES

    grey = dataclasses.replace(modality, channels=1)
    if isinstance(modality, Video) and not file.lower().endswith(SUFFIXES):
        picture = Image(size=modality.size, channels=1, fit=modality.fit)
        white = np.stack(picture.read(file))[..., 0] >= WHITE
        return np.repeat(white[:, None], modality.frames, axis=1)
    return np.stack(grey.read(file))[..., 0] >= WHITE


def _read_interpolation(model: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    from vqdit.tasks.interpolation import Interpolation

    for option in ("init", "mask"):
        if option in options:
            raise ValueError(
                f"--interpolate changes whole examples, so --{option} is impossible; leave it out"
            )
    if "strength" not in options:
        raise ValueError(
            "--interpolate needs --strength=S, the time to which both files are noised "
            "before they are mixed, such as 0.6; 0 mixes them without noise"
        )
    name, value = _split_name(model, options["interpolate"], "--interpolate", "A,B")
    modality = model.modality(name)
    first, second = (_stacked(modality, modality.read(file)) for file in _split_pair(value))
    return {name: Interpolation(first, second, options["strength"])}


def _split_pair(value: str) -> tuple[str, str]:
    """Splits A,B at the comma between two existing files, as names of files may contain commas."""
    words = value.split(",")
    pairs = [(",".join(words[:at]), ",".join(words[at:])) for at in range(1, len(words))]
    found = [pair for pair in pairs if all(local_path(file).exists() for file in pair)]
    pairs = found if len(found) == 1 else pairs
    if len(pairs) != 1 or not all(pairs[0]):
        raise ValueError(f"--interpolate takes two files, as in A.png,B.png, got {value!r}")
    return pairs[0]


def _split_name(model: Any, word: str, option: str, value: str) -> tuple[str, str]:
    """Splits NAME=VALUE; the name may be omitted if the model generates one picture or clip.

    The text before an equals sign is a name only if the model has a modality of this name;
    otherwise it is a part of a file name.
    """
    from vqdit.modalities import Image, Video

    name, equals, text = word.partition("=")
    if equals and (name in model.task.modalities or not local_path(word).exists()):
        model.modality(name)  # raises an error that lists the known names
        return name, text
    found = [n for n in model.task.targets if isinstance(model.modality(n), Image | Video)]
    if len(found) != 1:
        known = ", ".join(model.task.targets)
        raise ValueError(
            f"{option} needs a name, as in {option}=NAME={value}; choose one of: {known}"
        )
    return found[0], word
