"""Reads the options of `vqdit evaluate` that name picture sets, feature networks and metrics."""

from collections.abc import Sequence
from typing import Any

from vqdit.cli.options import near

GROUPS = {"prdc": ("precision", "recall", "density", "coverage")}
"""Names of several metrics together."""
NETWORKS = ("vgg-fd", "pixels", "recogniser")
"""Names of feature networks that need no file."""


def read_names(metrics: str) -> list[str]:
    """Returns the names in a list of metrics of picture sets, separated by commas.

    Raises:
        ValueError: a name is unknown.
    """
    from vqdit.evaluation.set_metrics import METRICS

    names: list[str] = []
    for name in (word.strip() for word in metrics.split(",")):
        if name not in METRICS and name not in GROUPS:
            hint = near(name, METRICS) or f"; one of: {', '.join((*METRICS, *GROUPS))}"
            raise ValueError(f"unknown metric of pictures {name!r}{hint}")
        names += [n for n in GROUPS.get(name, (name,)) if n not in names]
    return names


def network_of(
    features: str,
    preprocessing: Any,
    unknown_weights: bool,
    reference: Any = None,
    spatial: bool = False,
) -> Any:
    """Returns the feature network that --features names.

    Args:
        features: the value of the option.
        preprocessing: how pictures are resized for Inception, or None.
        unknown_weights: whether weights with an unknown checksum are accepted.
        reference: the `Reference`, on whose classes a recogniser is trained.
        spatial: whether Inception returns the spatial features of sFID as well.

    Raises:
        ValueError: there is no such network, or --preprocessing does not apply to it, or a
            recogniser has no labelled reference.
    """
    from vqdit.evaluation import feature_networks as networks
    from vqdit.files import local_path

    if features in NETWORKS:
        if preprocessing:
            raise ValueError(
                f"--features={features} defines its own preprocessing; omit --preprocessing"
            )
        if features == "recogniser":
            if reference is None or reference.pictures is None:
                raise ValueError("a recogniser needs labelled pictures; give --reference=PATH")
            return networks.recogniser_network(reference.pictures)
        return networks.vgg_network() if features == "vgg-fd" else networks.pixels_network()
    if ".py:" in features:
        return networks.function_network(features)
    if (file := local_path(features)).is_file():
        method = preprocessing or "clean"
        return networks.inception_network(file, method, unknown_weights, spatial)
    raise ValueError(
        f"unknown features {features!r}{near(features, NETWORKS)}; give {', '.join(NETWORKS)}, or "
        "FILE.py:FUNCTION, or the file of Inception's weights"
    )


def read_set(path: str, size: int | None) -> Any:
    """Reads a set: a folder, a file, DIR:SPLIT of a workdir, or a source such as image_folder:DIR.

    Args:
        path: the set.
        size: edge to which pictures are cropped and resized, or None.

    Raises:
        ValueError: `path` is none of these sets, or cannot be read.
    """
    from vqdit.cli import prepare
    from vqdit.evaluation import picture_sets as sets
    from vqdit.files import local_path
    from vqdit.runs import workdir as runs

    place = local_path(path)
    if place.is_file():
        found = sets.read_file(place)
        return found._replace(pictures=_fitted(found.pictures, size))
    if (place / "samples.npz").is_file():  # the other pictures there are a grid and previews
        return read_set(str(place / "samples.npz"), size)
    before, _, split = path.rpartition(":")
    folder, kind = local_path(before or path), path.partition(":")[0]
    if place.is_dir():
        if (place / runs.CONFIG).is_file() or (place / runs.ORDER).is_file():
            raise ValueError(f"{path} is a workdir; name one of its splits, as in {path}:train")
        return sets.Reference(sets.read_folder(place, size))
    if folder.is_dir() and split in ("train", "validation", "test"):
        source = runs.read_experiment(runs.find_run(folder)).data.source
        return sets.Reference(_fitted(sets.read_source(path, source, split), size))
    if kind in prepare.SOURCES or kind == "tfds":
        return sets.Reference(_fitted(_read_source(path, size), size))
    raise FileNotFoundError(
        f"no set of pictures {path}; name a folder, an .npz or .npy file, WORKDIR:SPLIT, or "
        "SOURCE:PATH such as image_folder:DIR"
    )


def read_held_out(names: Sequence[str], path: str | None, size: int | None) -> Any:
    """Reads the held-out pictures for the metric copies; returns None if copies is not measured.

    Raises:
        ValueError: copies is measured without held-out pictures, they are given without copies, or
            the path has only statistics.
    """
    if "copies" not in names:
        if path:
            raise ValueError(
                "--held-out is only used by the metric copies; add copies to --metrics, or omit "
                "--held-out"
            )
        return None
    if not path:
        raise ValueError(
            "the metric copies needs pictures that were not used in training; give "
            "--held-out=PATH, and the training set as --reference"
        )
    pictures = read_set(path, size).pictures
    if pictures is None:
        raise ValueError(f"{path} has only statistics; --held-out must be pictures")
    return pictures


def _fitted(pictures: Any, size: int | None) -> Any:
    return pictures.fitted(size) if pictures is not None and size else pictures


def _read_source(path: str, size: int | None) -> Any:
    """Reads SOURCE[:PATH][:SPLIT]; the default split is train."""
    from vqdit import data
    from vqdit.cli import prepare
    from vqdit.evaluation.picture_sets import read_source

    rest, _, split = path.rpartition(":")
    if split not in ("train", "validation", "test"):
        rest, split = path, "train"
    name, _, place = rest.partition(":")
    if name == "tfds":
        name, place = rest, ""
    takes_size = "size" in prepare.SOURCES.get(name, ("", ("size",)))[1]
    if takes_size and not size:
        raise ValueError(f"{path} needs --size=N, the edge to which its pictures are resized")
    options = {"path": place or None, "size": size if takes_size else None}
    cls, fields = prepare.read(name, options)
    return read_source(path, prepare.build(getattr(data, cls), fields), split)


def check_reference(names: Sequence[str], reference: str | None, network: Any) -> None:
    """Raises ValueError if a metric does not suit the feature network, or lacks a reference."""
    for name in {"fid", "sfid"} & set(names):
        if not network.is_inception:
            raise ValueError(
                f"the metric {name} needs the features of Inception, got the features "
                f"{network.name}; measure fd, or give the file of Inception's weights with "
                "--features=FILE"
            )
    if "is" in names and not network.has_classes:
        raise ValueError(
            "the metric 'is' (Inception Score) needs the class probabilities of a classifier; "
            "give --features=FILE of Inception's weights, or --features=recogniser"
        )
    compared = [name for name in names if name != "is"]
    if compared and not reference:
        raise ValueError(f"the metric {compared[0]} needs a reference; give --reference=PATH")


def check_sets(
    names: Sequence[str],
    samples: Any,
    other: Any,
    reference: str | None,
    network: Any,
    num: int | None,
    settings: Any,
    held_out: Any,
) -> None:
    """Raises ValueError if the sets do not suit the metrics, before features are computed.

    Args:
        names: names of the metrics.
        samples: the `PictureSet` that is measured.
        other: the `Reference`.
        reference: value of --reference, for messages.
        network: the `FeatureNetwork`.
        num: number of samples that are drawn; None takes all.
        settings: the `Settings` of the metrics.
        held_out: the `PictureSet` for the metric copies, or None.
    """
    from vqdit.evaluation.memorisation import NEAR
    from vqdit.evaluation.set_metrics import Statistics

    if num is not None and num > samples.count:
        raise ValueError(
            f"--num={num}, but {samples.name} has only {samples.count} pictures; give a "
            "smaller number"
        )
    compared = [name for name in names if name != "is"]
    statistics = Statistics(other.gaussian, other.spatial)
    of_pictures = [name for name in compared if statistics.of(name) is None]
    if of_pictures and other.pictures is None:
        raise ValueError(
            f"{reference} has only statistics, and not those of {of_pictures[0]}, which needs the "
            "pictures of the reference; name a set of pictures, or measure fid or fd"
        )
    if other.network and other.network != network.identity:
        raise ValueError(
            f"the statistics in {reference} were computed with the features "
            f"{other.network!r}, but --features names {network.identity!r}; use the same "
            "features"
        )
    count = samples.count if num is None else num
    least = {name: 2 for name in compared} | {"is": 2 * settings.splits}
    least |= dict.fromkeys(GROUPS["prdc"], settings.k + 1) | {"copies": 1}
    for name in names:
        sizes = [("samples", count)]
        if name != "is" and other.pictures is not None:
            sizes.append(("pictures of the reference", other.pictures.count))
        for what, found in sizes:
            if found < least[name]:
                raise ValueError(
                    f"the metric {name} needs at least {least[name]} {what}, got {found}"
                )
    if held_out is not None and held_out.count < 1 / NEAR:
        raise ValueError(
            f"the metric copies needs at least {round(1 / NEAR)} held-out pictures, got "
            f"{held_out.count}"
        )
    for what, pictures in (("the reference", other.pictures), ("--held-out", held_out)):
        if compared and pictures is not None and pictures.size != samples.size:
            (h, w), (height, width) = samples.size, pictures.size
            raise ValueError(
                f"the samples have {w}x{h} pixels, but {what} has {width}x{height}; give "
                "--size=N to crop and resize all pictures to NxN"
            )
