"""Image data sets of TensorFlow Datasets (TFDS), such as celeb_a or imagenet2012."""

import difflib
import re
from typing import Any

import numpy as np

from vqdit.data.builders.description import reading
from vqdit.data.pictures import check_form, fit
from vqdit.data.sources import PRESENT, Arrays, Feature, Source, Split, check_split, root
from vqdit.typing import Named


class TFDS(Source):
    """A TFDS data set: `image` uint8 [size, size, channels], and `label` if the data set has one.

    `vqdit prepare tfds:NAME` must have prepared the data set in the array_record format. If the
    data set has no validation or test split, 5 % of its training split is used for each. Labels
    below 0, which some test sets use for secret labels, count as missing.

    Attributes:
        name: TFDS name, such as "celeb_a" or "imagenet2012:5.1.0".
        size: edge of the square to which each image is cropped and resized, in pixels.
        channels: 1 for grey, 3 for colour.
        image: name of the TFDS feature that holds the image.
        label: name of the TFDS feature that holds the label; empty for no label.
    """

    name: str = "celeb_a"
    size: int = 64
    channels: int = 3
    image: str = "image"
    label: str = "label"

    def __post_init__(self) -> None:
        check_form(self, self.size, self.channels)

    def features(self) -> Named[Feature]:
        found = self._builder().info.features
        optional = () if self.label in ("", "label") else (self.label,)  # many have no label
        for name in (self.image, *optional):
            if name not in found:
                raise ValueError(
                    f"{self.name} has no feature {name!r}; it has: {', '.join(sorted(found))}"
                )
        image = found[self.image]
        if len(image.shape or ()) != 3 or image.np_dtype != np.uint8:
            raise ValueError(
                f"the feature {self.image!r} of {self.name} holds no uint8 pictures; choose "
                "another with --data.source.image"
            )
        columns = {"image": Feature((self.size, self.size, self.channels))}
        if self.label in found:
            label = found[self.label]
            if not getattr(label, "num_classes", None):
                raise ValueError(
                    f"the feature {self.label!r} of {self.name} is no class label; "
                    "set --data.source.label= (empty) to train without labels"
                )
            columns["label"] = Feature((), label.num_classes, tuple(label.names))
        return Named(columns)

    def split(self, name: str) -> Split:
        check_split(name)
        builder = self._builder()
        available = set(builder.info.splits)
        if "train" not in available:
            raise ValueError(
                f"{self.name} has no training split; it has: {', '.join(sorted(available))}; "
                "choose another data set"
            )
        missing = [split for split in ("validation", "test") if split not in available]
        if name in available and (name != "train" or not missing):
            expression = name
        elif name == "train":
            expression = f"train[:{100 - 5 * len(missing)}%]"
        else:
            start = 100 - 5 * (len(missing) - missing.index(name))
            expression = f"train[{start}%:{start + 5}%]"
        return _Stock(self, builder.as_data_source(expression))

    def fingerprint(self) -> dict[str, Any]:
        info = self._builder().info
        splits = {name: split.num_examples for name, split in info.splits.items()}
        return {"name": info.name, "version": str(info.version), "splits": splits}

    def _builder(self) -> Any:
        builder = make_builder(self.name)
        if not builder.info.splits:
            raise FileNotFoundError(
                f"the TFDS data set {self.name!r} is not prepared in {root() / 'tfds'}; "
                f"run `vqdit prepare tfds:{self.name}`"
            )
        return builder


class _Stock:
    def __init__(self, source: TFDS, records: Any) -> None:
        self._source, self._records = source, records

    def __len__(self) -> int:
        return len(self._records)

    def take(self, rows: np.ndarray) -> Arrays:
        source = self._source
        with reading(f"a split of {source.name} in {root() / 'tfds'}"):
            found = self._records.__getitems__(rows.tolist())
        size = (source.size, source.size)
        images = [fit(_channels(record[source.image], source.channels), size) for record in found]
        arrays: Arrays = {"image": np.stack(images)}
        if found and source.label in found[0]:
            labels = np.asarray([record[source.label] for record in found], np.int32)
            arrays["label"] = np.maximum(labels, 0)
            arrays[PRESENT + "label"] = labels >= 0
        arrays[PRESENT + "image"] = np.ones(len(rows), bool)
        return arrays


def _channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    if pixels.shape[-1] in (2, 4):  # the last channel is alpha: blend with white
        alpha = pixels[..., -1:] / 255.0
        pixels = np.round(pixels[..., :-1] * alpha + 255.0 * (1.0 - alpha)).astype(np.uint8)
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    weights = np.asarray([0.299, 0.587, 0.114])  # luma, ITU-R BT.601
    return np.round(pixels @ weights).astype(np.uint8)[..., None]


def make_builder(name: str) -> Any:
    """Returns the TFDS builder of a data set.

    Raises:
        ValueError: if TFDS has no such data set or version.
        ImportError: if the data set needs TensorFlow or another package that is not installed.
    """
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=root() / "tfds", file_format="array_record")
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)  # listing those needs TensorFlow
        near = difflib.get_close_matches(re.split("[:/]", name)[0], known, n=3)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise ValueError(f"TFDS has no data set {name!r}{hint}") from error
    except ImportError as error:
        raise needs_tensorflow(name, error) from error
    except AssertionError as error:  # TFDS raises this for an unknown version
        raise ValueError(f"cannot open the TFDS data set {name!r}: {error}") from error


def prepare_stock(name: str) -> Any:
    """Downloads and prepares a TFDS data set; returns its builder.

    Raises:
        ImportError: if the data set needs TensorFlow or another package that is not installed.
        OSError: if the data set must be downloaded by hand, or the download fails.
    """
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
    from tensorflow_datasets.core.download.util import DownloadError

    builder = make_builder(name)
    try:
        builder.download_and_prepare()
    except ImportError as error:
        raise needs_tensorflow(name, error) from error
    except (DownloadError, NonMatchingChecksumError) as error:
        raise OSError(f"cannot download the TFDS data set {name!r}: {error}") from error
    except AssertionError as error:  # TFDS raises this for a missing manual download
        fault = "must be downloaded by hand"
        if not builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            fault = "cannot be prepared"
        raise OSError(f"the TFDS data set {name!r} {fault}: {error}") from error
    return builder


def needs_tensorflow(name: str, error: ImportError) -> ImportError:
    """Returns an error that names the package to install, which is TensorFlow in most cases."""
    cause: Any = error
    while isinstance(cause, ImportError) and not cause.name:  # TFDS's own error has no name
        cause = cause.__cause__
    package = getattr(cause, "name", None) or "tensorflow"
    wanted = "'vqdit[tf]'" if package.startswith("tensorflow") else package
    return ImportError(
        f"the TFDS data set {name!r} needs a package that is not installed ({package}); "
        f"run `pip install {wanted}` and prepare it again"
    )
