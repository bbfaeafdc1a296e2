"""Writes generated samples: arrays, files, an overview picture and a page."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from vqdit.cli.outputs import replacing
from vqdit.cli.report.clips import Sounds, write_clips
from vqdit.cli.report.page import Cards, Part, write_page
from vqdit.files import write_json
from vqdit.modalities import Video
from vqdit.modalities.drawing import overview, save_png, tile
from vqdit.ragged import is_ragged, padded_columns

RECORD = "samples.json"
"""File with the settings; a folder with this file contains samples."""
KINDS = ("image", "audio", "video", "label", "text")
"""Common names of modalities."""
EARLIER = (
    r"({names})_\d{{4,}}\.(png|wav|mp4)|({names})_grid\.gif|({names})s\.txt|"
    r"explanation/(attention|order|looked_\d+|because_of_.+)\.png"
)
"""Pattern of the files that earlier samples may have but new samples may not."""
SHOWN = 64
"""Largest number of samples on the page and in the overview."""


def write_samples(
    model: Any,
    samples: Mapping[str, np.ndarray],
    given: Sequence[str],
    record: Mapping[str, Any],
    out: Path,
    explained: Mapping[str, Any] | None,
) -> None:
    """Writes samples.npz, one file per sample, grid.png, index.html and samples.json.

    Clips are also written as a GIF of all, NAME_grid.gif.

    Args:
        model: the Generator that made the samples.
        samples: values by modality.
        given: names of the given modalities.
        record: settings, written as JSON.
        out: folder of the samples; earlier samples in it are replaced.
        explained: arguments of `Generator.sample` if the page explains the samples, else None.
    """
    earlier = EARLIER.format(names="|".join(map(re.escape, {*KINDS, *samples})))
    with replacing(out, RECORD, earlier) as new:
        np.savez(new / "samples.npz", **_dense(samples))  # pyright: ignore[reportArgumentType]
        sounds, clips = Sounds(model, samples), {}
        for name, values in samples.items():
            modality = model.modality(name)
            if isinstance(modality, Video):
                clips[name] = write_clips(modality, values, sounds, new, name, SHOWN)
            else:
                modality.write(values, new, name)
        stored = {
            name: model.modality(name).repack(values[:SHOWN]) for name, values in samples.items()
        }
        order = sorted(stored, key=lambda name: name not in given)
        drawn = {
            name: model.modality(name).draw(stored[name])
            for name in order
            if name not in model.task.conditions
        }
        single = next(iter(drawn.values()))
        save_png(new / "grid.png", tile(single) if len(drawn) == 1 else overview(drawn))
        columns = {
            name: [
                Markup(html)
                for html in clips.get(name) or map(model.modality(name).html, stored[name])
            ]
            for name in order
        }
        parts: list[Part] = [Cards(columns, given)]
        if explained is not None:
            from vqdit.cli.report.explanation import write_explanation

            parts += write_explanation(model, record["num"], explained, new)
        write_page(new / "index.html", f"{record['num']} samples of {record['workdir']}", parts)
        write_json(new / RECORD, record)


def _dense(samples: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns arrays that NumPy reads without pickle: samples of variable length are padded.

    The lengths are added as NAME_length.
    """
    found = {}
    for name, values in samples.items():
        if not is_ragged(values):
            found[name] = values
        elif isinstance(values[0], str):
            found[name] = np.asarray([str(text) for text in values])
        else:
            found |= padded_columns({name: values})
    return found
