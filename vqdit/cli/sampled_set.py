"""Samples pictures for `vqdit evaluate --workdir` into a file, which can be resumed."""

from pathlib import Path
from typing import Any

FOLDER, ARRAY, PROGRESS = "samples", "samples.npy", "progress.json"
"""Names in the folder of results."""
NUM = 50_000
"""Default number of samples."""
SHAPE = {"key": str, "done": int}


def sample_set(
    workdir: str,
    num: int | None,
    guidance: float | None,
    batch_size: int,
    seed: int,
    folder: Path,
    expected: tuple[int, int] | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Samples pictures of a run; returns them, and the settings of sampling for the report.

    Classes that the run is conditioned on are given in turn. Each batch has a seed of its own, and
    batches that an earlier call with equal arguments has finished are not sampled again.

    Args:
        workdir: workdir of the run.
        num: number of samples; None for `NUM`.
        guidance: guidance scale; None uses the scale of the config.
        batch_size: samples in a batch.
        seed: seed of the noise.
        folder: folder of the results.
        expected: height and width that the pictures must have, or None.

    Raises:
        ValueError: the run does not generate exactly one picture modality, or its pictures do not
            have the expected size.
    """
    import numpy as np

    from vqdit.cli.given import load_generator
    from vqdit.cli.report.text_metrics import Countdown
    from vqdit.evaluation.picture_sets import read_file
    from vqdit.files import read_json, write_json
    from vqdit.modalities import Image
    from vqdit.runs.workdir import find_run, make_folder

    model, run = load_generator(workdir), find_run(Path(workdir))
    targets = model.task.targets
    names = [name for name in targets if isinstance(model.modality(name), Image)]
    if len(names) != 1:
        found = f"pictures under {', '.join(names)}" if names else "no pictures"
        raise ValueError(
            f"{workdir} generates {found}, but --workdir needs a run that generates exactly "
            "one picture modality"
        )
    num, name = num or NUM, names[0]
    classes = {n: c.classes for n, c in model.task.conditions.items() if c.classes}
    how = {
        "run": str(run),
        "step": model.step,
        "parameters": "averaged",
        "sampler": repr(targets[name].sampler),
        "guidance": model.task.guidance if guidance is None else guidance,
        "labels": ", ".join(f"{n}: 0 to {k - 1} in turn" for n, k in classes.items()) or "none",
        "seed": seed,
        "batch": batch_size,
    }
    place = folder / FOLDER
    make_folder(place, "--out")
    file, key = place / ARRAY, repr((how, num, name))
    done, stored = 0, None
    try:
        progress = read_json(place / PROGRESS, SHAPE)
        if progress["key"] == key:
            done, stored = progress["done"], np.lib.format.open_memmap(file, "r+")
    except (OSError, ValueError):  # nothing is finished
        pass
    with Countdown() as countdown:
        for start in range(done, num, batch_size):
            countdown.update("samples", start, num)
            rows = np.arange(start, min(start + batch_size, num))
            drawn = model.sample(
                batch_size,
                given={n: np.resize(rows, batch_size) % k for n, k in classes.items()},
                want=[name],
                guidance=guidance,
                seed=int(np.random.SeedSequence([seed, start]).generate_state(1)[0]),
                batch_size=batch_size,
            )[name][: len(rows)]
            if expected not in (None, drawn.shape[1:3]):
                (height, width), (h, w) = expected, drawn.shape[1:3]
                raise ValueError(
                    f"the samples have {w}x{h} pixels, but the reference has "
                    f"{width}x{height}; give --size=N to crop and resize both to NxN"
                )
            if stored is None:
                shape = (num, *drawn.shape[1:])
                stored = np.lib.format.open_memmap(file, "w+", drawn.dtype, shape)
            stored[rows] = drawn
            stored.flush()
            write_json(place / PROGRESS, {"key": key, "done": int(rows[-1]) + 1})
        countdown.update("samples", num, num)
    pictures = read_file(file).pictures
    kind = f"samples of {name}"
    return pictures._replace(kind=kind) if pictures else None, how
