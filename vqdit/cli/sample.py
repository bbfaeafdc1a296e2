"""`vqdit sample --workdir=DIR`: generates modalities; writes arrays, media files and a page."""

from pathlib import Path
from typing import Annotated

from vqdit.cli.options import (
    BATCH,
    FILE,
    FOLDER,
    NUMBER,
    ROUNDS,
    SAMPLES,
    Repeated,
    Seed,
    Workdir,
    text,
)


def sample(
    *,
    workdir: Workdir,
    num: Annotated[int | None, SAMPLES] = None,
    given: Repeated = [],  # noqa: B006
    want: Repeated = [],  # noqa: B006
    init: Annotated[str | None, FILE] = None,
    mask: Annotated[str | None, FILE] = None,
    strength: Annotated[float | None, NUMBER] = None,
    interpolate: Annotated[str | None, text("A,B")] = None,
    steps: Annotated[int | None, ROUNDS] = None,
    guidance: Repeated = [],  # noqa: B006
    autoguide: Annotated[str | None, FOLDER] = None,
    sampler: Repeated = [],  # noqa: B006
    temperature: Repeated = [],  # noqa: B006
    length: Repeated = [],  # noqa: B006
    explain: bool = False,
    batch_size: Annotated[int, BATCH] = 64,
    seed: Seed = 0,
    out: Annotated[str, FOLDER] = "samples",
) -> int:
    """Generate from a trained model.

    Writes index.html (open it in a browser), samples.npz (one array per modality), grid.png, one
    file per sample, and samples.json (the settings). Clips are MP4 files, with the sounds of their
    samples, and one GIF of all.

    Args:
        workdir: Workdir of a run; if the config has several experiments, the last one is used.
        num: Number of samples. Default: 16, or one per given item if several items are given.
        given: NAME=VALUE, a known modality: text=seven, text=LINES.txt, label=7, label=3,5,
            image=FILE.png, audio=FILE.wav, video=FILE.mp4, or a folder of files. Sample i uses item
            i mod n. A label that is only a condition may be "none" or -1; if it is not given,
            samples cycle through the classes. "text=In the ___ created" is a template, whose gap is
            filled in (___12 has twelve units, such as bytes). "text^=In the" is the beginning of a
            text.
        want: Name of a modality to generate. Default: all that are not given. A modality that is
            neither given nor wanted stays unknown.
        init: Picture or clip to edit; for another modality NAME=VALUE, as in --given.
        mask: Picture: white areas are regenerated, black areas are unchanged bit for bit. For a
            clip, the mask may also be a clip.
        strength: Time to which --init is noised, in (0, 1]; 1 is pure noise. Default: 1. Required
            without --mask. With --interpolate it is required and may be 0.
        interpolate: Two pictures A,B; the samples are on a path from A to B and have the same
            noise.
        steps: Number of network evaluations. Default: as in the config.
        guidance: Guidance scale; 1 disables guidance. Default: as in the config. Or a scale per
            pair of generated and given modality: image:text=3.
        autoguide: Workdir of a smaller or less trained run with the same tokens. Guidance, which
            then has a single --guidance scale, moves samples away from the predictions of that run.
        sampler: Sampler: for codes Unmasking, DiscreteAncestral, ReMDM, ...; for latents Euler,
            DDIM, DPMSolver, UniPC, ... Default: as in the config. For one modality: image=Euler.
        temperature: Temperature of samplers of codes. For one modality: text=0.5.
        length: NAME=VALUE, the length of a target of variable length: text=40 (bytes), audio=2.5
            (seconds). Default: the model draws the length.
        explain: Also show attention, the order in which tokens were revealed, and the influence of
            the parts of the given values on the result.
        batch_size: Samples per batch.
        seed: Seed of the noise.
        out: Folder of the results.
    """
    from vqdit.cli import given as arguments
    from vqdit.cli.report import samples as report
    from vqdit.inference.explanation import check_explained
    from vqdit.inference.requests import check_edited
    from vqdit.runs.workdir import make_folder

    model = arguments.load_generator(workdir)
    pairs, templates = arguments.read_templates(model, given)
    known = arguments.read_values(model, pairs)
    longest = max((len(values) for values in known.values()), default=1)
    settings = {
        "given": known,
        "want": want or None,
        "guidance": arguments.read_guidance(guidance),
        "samplers": arguments.read_samplers(model, sampler, temperature, steps),
        "seed": seed,
        "batch_size": batch_size,
    }
    lengths = arguments.read_lengths(model, length, known, settings["want"])
    if explain and autoguide:
        raise ValueError("--explain supports only a single network; leave out --autoguide")
    editing = {"init": init, "mask": mask, "strength": strength, "interpolate": interpolate}
    editing = {name: value for name, value in editing.items() if value is not None}
    edits = arguments.read_edits(model, editing, explain, templates)
    weak = arguments.load_generator(autoguide) if autoguide else None
    inputs = model.prepare(
        known, settings["want"], settings["samplers"], settings["guidance"], weak
    )
    check_edited(inputs.wanted, edits)
    if explain:
        check_explained(inputs.task, inputs.wanted)
    folder = Path(out)
    make_folder(folder, "--out")
    num = num or (longest if longest > 1 else 16)
    if num < longest:
        print(f"--num={num}: only the first {num} of {longest} given items are used")
    samples = model.sample(num, edits=edits, autoguide=weak, lengths=lengths, **settings)

    record = {
        "workdir": workdir,
        "step": model.step,
        "num": num,
        **settings,
        "given": given,
        "autoguide": autoguide,
        "edits": editing,
        "lengths": lengths,
        "want": [name for name in samples if name not in (*known, *model.task.conditions)],
        "samplers": {name: repr(sampler) for name, sampler in settings["samplers"].items()},
        "guidance": model.task.guidance if settings["guidance"] is None else settings["guidance"],
    }
    explained = {**settings, "lengths": lengths} if explain else None
    report.write_samples(model, samples, list(known), record, folder, explained)
    print(f"{num} samples in {out}: index.html, samples.npz, grid.png, files, samples.json")
    return 0
