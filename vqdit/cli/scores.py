"""Metrics of sets of pictures for `vqdit evaluate`: reads the sets, measures, writes reports."""

import datetime
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vqdit.cli.picture_inputs import (
    GROUPS,
    check_reference,
    check_sets,
    network_of,
    read_held_out,
    read_names,
    read_set,
)
from vqdit.cli.sampled_set import sample_set

REPORT, PAGE, STATISTICS = "report.json", "report.md", "reference.npz"
"""Names of the files of results; the statistics are those of the reference's features."""
CLOSEST = "closest.png"
"""Name of the picture of the samples nearest to the training set, above their neighbours."""
FEATURES = "features"
"""Name of the folder of features in the folder of results."""


def are_of_pictures(metrics: str | None) -> bool:
    """Returns whether a list of metrics contains a metric of picture sets."""
    from vqdit.evaluation.set_metrics import METRICS

    words = {word.strip() for word in (metrics or "").split(",")}
    return not words.isdisjoint((*METRICS, *GROUPS))


def run(
    *,
    workdir: str | None,
    samples: str | None,
    reference: str | None,
    held_out: str | None,
    metrics: str | None,
    features: str | None,
    preprocessing: str | None,
    unknown_weights: bool,
    num: int | None,
    size: int | None,
    guidance: float | None,
    batch_size: int,
    seed: int,
    out: str,
) -> int:
    """Runs `vqdit evaluate` for metrics of pictures; the arguments are its options.

    Raises:
        ValueError: an option is missing or does not suit the others.
    """
    from vqdit.cli.report import scores as report

    if workdir and samples:
        raise ValueError("--samples are given, so --workdir is not used; omit one of them")
    if not metrics:
        raise ValueError("--metrics is missing; give --metrics=fd,kid,prdc; see --help")
    names = read_names(metrics)
    if not samples and not workdir:
        raise ValueError("--samples is missing; give --samples=PATH of pictures, or --workdir=DIR")
    if samples and guidance is not None:
        raise ValueError(
            "--guidance applies only to sampling from --workdir, but --samples are given; omit "
            "--guidance"
        )
    other = read_set(reference, size) if reference else None
    network = network_of(
        features or "vgg-fd", preprocessing, unknown_weights, other, spatial="sfid" in names
    )
    check_reference(names, reference, network)
    new = read_held_out(names, held_out, size)
    if workdir:
        expected = other.pictures.size if other and other.pictures and not size else None
        own, about = sample_set(workdir, num, guidance, batch_size, seed, Path(out), expected)
        own, num = own.fitted(size) if size else own, None
    else:
        own, about = read_set(samples or "", size).pictures, {}
        if own is None:
            raise ValueError(f"{samples} has only statistics; --samples must be pictures")
    record = evaluate_sets(
        samples=own,
        reference=reference,
        other=other,
        held_out=new,
        names=names,
        network=network,
        num=num,
        batch_size=batch_size,
        seed=seed,
        folder=Path(out),
        about=about,
    )
    print(f"{own.name} against {reference}, features {network.name}\n\n{report.table(record)}")
    for text in record["warnings"]:
        print(f"note: {text}")
    pictures = f", {CLOSEST}" if new else ""
    print(f"\n{Path(out) / REPORT}, {PAGE}{pictures}")
    return 0


def evaluate_sets(
    *,
    samples: Any,
    reference: str | None,
    other: Any,
    held_out: Any,
    names: Sequence[str],
    network: Any,
    num: int | None,
    batch_size: int,
    seed: int,
    folder: Path,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Measures samples against a reference; writes report.json and report.md.

    Args:
        samples: a `PictureSet`.
        reference: the value of --reference, for messages and the report.
        other: the `Reference` that was read; None if the metrics need none.
        held_out: the `PictureSet` that "copies" needs, or None.
        names: names of metrics.
        network: the feature network.
        num: number of samples that are drawn from the set; None takes all.
        batch_size: pictures in a batch.
        seed: seed of the choice of samples.
        folder: folder of the results.
        about: further entries of the report's protocol that describe the samples.

    Raises:
        ValueError: a set does not suit the metrics; see the message.
    """
    import numpy as np

    import vqdit
    from vqdit.cli.report import scores as report
    from vqdit.cli.report.text_metrics import Countdown
    from vqdit.evaluation.extraction import extract
    from vqdit.evaluation.frechet import Moments
    from vqdit.evaluation.picture_sets import Reference
    from vqdit.evaluation.set_metrics import FRECHET, Settings, Statistics, measure_sets
    from vqdit.files import write_json, write_whole
    from vqdit.runs.workdir import make_folder

    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    settings = Settings()
    other = other or Reference(None)
    check_sets(names, samples, other, reference, network, num, settings, held_out)
    make_folder(folder / FEATURES, "--out")
    rows = np.arange(samples.count)
    if num is not None:
        rows = np.sort(np.random.default_rng(seed).permutation(samples.count)[:num])
    statistics = Statistics(other.gaussian, other.spatial)
    from_statistics = {name for name in names if statistics.of(name) is not None}
    without_pictures = {"is", *from_statistics}
    with Countdown() as countdown:

        def features(what: str, pictures: Any, rows: Any) -> Any:
            width = len(other.gaussian.mean) if {"fid", "fd"} & from_statistics else None

            def show(done: int, total: int) -> None:
                countdown.update(f"features of the {what}", done, total)

            return extract(
                pictures, network, rows, folder / FEATURES / what, batch_size, show, width
            )

        own = features("samples", samples, rows)
        real = None
        if other.pictures is not None and set(names) - without_pictures:
            real = features("reference", other.pictures, np.arange(other.pictures.count))
        new = held_out and features("held-out", held_out, np.arange(held_out.count))
        count = len(names)
        metrics = measure_sets(
            names,
            own,
            real,
            statistics,
            settings,
            lambda name: countdown.update("metrics", names.index(name), count),
            new,
        )
    if "copies" in metrics:
        _draw_closest(metrics["copies"]["pairs"], samples, rows, other.pictures, folder / CLOSEST)
    if real is not None and not set(FRECHET).isdisjoint(names):
        mean, covariance = Moments.of(real.values).gaussian()
        arrays = {"mu": mean, "sigma": covariance, "network": np.asarray(network.identity)}
        if real.spatial is not None:
            arrays["mu_s"], arrays["sigma_s"] = Moments.of(real.spatial).gaussian()
        np.savez(folder / STATISTICS, allow_pickle=False, **arrays)
    width = own.values.shape[1]
    protocol = {
        "samples": {**_described(samples, own, len(rows)), **about},
        "reference": _of_reference(reference, other, real, bool(from_statistics)),
        **({"held_out": _described(held_out, new, held_out.count)} if held_out else {}),
        "features": {
            "name": network.name,
            "sha256": network.checksum or "none",
            "preprocessing": network.preprocessing,
            "width": width,
            "note": network.note,
        },
        "interval": "95 %, infinitesimal jackknife or binomial over the examples",
        "seed": seed,
        "batch_size": batch_size,
        "versions": {
            "vqdit": vqdit.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            **_versions("jax", "pillow", "scipy"),
        },
    }
    record = {
        "metrics": metrics,
        "warnings": _warnings(names, len(rows), real, width, other, bool(from_statistics)),
        "protocol": protocol,
        "started": started.isoformat(timespec="seconds"),
        "seconds": time.monotonic() - clock,
    }
    write_whole(folder / PAGE, report.markdown(record).encode())
    write_json(folder / REPORT, record)
    return record


def _draw_closest(
    pairs: Sequence[Mapping[str, Any]], samples: Any, rows: Any, training: Any, file: Path
) -> None:
    """Draws the samples nearest to the training set, each above its nearest training picture."""
    import numpy as np

    from vqdit.modalities.drawing import save_png, side_by_side

    def pictures(of: Any, wanted: Any) -> Any:
        different, places = np.unique(wanted, return_inverse=True)
        return np.concatenate(list(of.batches(different, len(different))))[places]

    drawn = pictures(samples, rows[[pair["sample"] for pair in pairs]])
    nearest = pictures(training, [pair["nearest"] for pair in pairs])
    save_png(file, side_by_side(drawn, nearest))


def _described(pictures: Any, features: Any, count: int) -> dict[str, Any]:
    height, width = pictures.size
    return {
        "path": pictures.name,
        "kind": pictures.kind,
        "count": count,
        "size": f"{width}x{height}",
        "resized": pictures.resized or "no",
        "pixels": features.pixels,
    }


def _of_reference(name: Any, other: Any, real: Any, from_statistics: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"path": name} if name else {}
    if real is not None:
        found |= _described(other.pictures, real, other.pictures.count)
    if from_statistics:
        said = other.network or "not stated by the file"
        found["statistics"] = {"sha256": other.checksum, "network": said}
    return found


def _warnings(
    names: Sequence[str], count: int, real: Any, width: int, other: Any, from_statistics: bool
) -> list[str]:
    """Returns the warnings of a report, such as a bias because of few samples."""
    from vqdit.evaluation.set_metrics import FRECHET

    found = []
    if set(FRECHET) & set(names):
        least = min(count, len(real.values) if real is not None else count)
        if least <= width:
            found.append(
                f"{least} examples are no more than the {width} features, so the Frechet distance "
                "is biased upwards; compare only reports with equal numbers of examples"
            )
        elif count < 50_000:
            found.append(
                f"the Frechet distance of {count} samples is above that of more samples; 50,000 "
                "are common"
            )
    if from_statistics and not other.network:
        found.append("the file of statistics does not say which network and preprocessing made it")
    return found


def _versions(*names: str) -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in names}


def compare(paths: Sequence[str]) -> str:
    """Returns the comparison of two reports as text; each path is a report or its folder.

    Raises:
        ValueError: a file is not a report.
    """
    from vqdit.cli.report import scores as report
    from vqdit.files import local_path, read_json

    files = [local_path(path) for path in paths]
    files = [file / REPORT if file.is_dir() else file for file in files]
    first, second = (read_json(file, report.SHAPE) for file in files)
    return report.compare(first, second, (os.fspath(files[0]), os.fspath(files[1])))
