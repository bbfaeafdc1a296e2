"""Data sets of TensorFlow Datasets (TFDS), such as celeb_a, imagenet2012 or imdb_reviews."""

import io
import re
from typing import Any

import numpy as np

from vqdit.data.builders.description import reading
from vqdit.data.sources import PRESENT, Arrays, Feature, Source, Split, check_split, root
from vqdit.data.stock_builders import NAME, make_builder, needs_tensorflow, open_stock, records_of
from vqdit.data.stock_rows import StockRows
from vqdit.modalities import Modality
from vqdit.modalities.pictures import check_form, fit, open_checked
from vqdit.typing import Named

CLASSES = 2**20
"""Largest number of classes of a label."""


class TFDS(Source):
    """A TFDS data set: `image` uint8 [size, size, channels], and `label` if the data set has one.

    With `columns`, the columns are instead any of the texts, classes, pictures and sounds of the
    data set. They are converted once, like the columns of a `Table`.

    `vqdit prepare tfds:NAME` must have prepared the data set in the array_record format. If the
    data set has no validation or test split, 5 % of its training split is used for each. Labels
    below 0, which some test sets use for secret labels, count as missing.

    A name with a namespace, such as kubric:movi_e, is a data set whose code comes from a third
    party. Only `vqdit prepare` runs this code; afterwards, use the name without the namespace.

    Attributes:
        name: TFDS name, such as "celeb_a" or "imagenet2012:5.1.0".
        size: edge of the square to which each image is cropped and resized, in pixels.
        channels: 1 for grey, 3 for colour.
        image: name of the TFDS feature that holds the image.
        label: name of the TFDS feature that holds the label; empty for no label.
        columns: modality of every column by the name of its TFDS feature, such as
            text=Text(length=512, outside="cut"). If it is not empty, all other fields except `name`
            are ignored. Sounds are resampled to the rate of their `Audio`; a feature that states no
            rate is assumed to have this rate already.
    """

    name: str = "celeb_a"
    size: int = 64
    channels: int = 3
    image: str = "image"
    label: str = "label"
    columns: Named[Modality] = Named()

    def __post_init__(self) -> None:
        check_form(self, self.size, self.channels)

    @property
    def rows(self) -> StockRows | None:
        """The rows with `columns`; None if `columns` is empty."""
        return StockRows(name=self.name, columns=self.columns) if self.columns else None

    def features(self) -> Named[Feature]:
        import tensorflow_datasets as tfds

        if self.rows:
            return self.rows.features()
        found = open_stock(self.name).info.features
        optional = () if self.label in ("", "label") else (self.label,)  # many have no label
        for name in (self.image, *optional):
            if name not in found:
                raise ValueError(
                    f"{self.name} has no feature {name!r}; choose one of: "
                    f"{', '.join(sorted(found))}"
                )
        image: Any = found[self.image]
        is_image = isinstance(image, tfds.features.Image)
        if not is_image or image.np_dtype != np.uint8:
            raise ValueError(
                f"the feature {self.image!r} of {self.name} has no uint8 pictures; choose another "
                "with --data.source.image"
            )
        columns = {"image": Feature((self.size, self.size, self.channels))}
        if self.label in found:
            label = found[self.label]
            if not getattr(label, "num_classes", None):
                raise ValueError(
                    f"the feature {self.label!r} of {self.name} is not a class label; set "
                    "--data.source.label= (empty) to train without labels"
                )
            if label.num_classes > CLASSES:
                raise ValueError(
                    f"the feature {self.label!r} of {self.name} has {label.num_classes:,} "
                    f"classes, but at most {CLASSES:,} are possible"
                )
            columns["label"] = Feature((), label.num_classes, tuple(label.names))
        return Named(columns)

    def split(self, name: str) -> Split:
        check_split(name)
        if self.rows:
            return self.rows.split(name)
        return _Stock(self, records_of(self.name, name))

    def fingerprint(self) -> dict[str, Any]:
        if self.rows:
            return self.rows.fingerprint()
        info = open_stock(self.name).info
        splits = {name: split.num_examples for name, split in info.splits.items()}
        return {"name": info.name, "version": str(info.version), "splits": splits}


class _Stock:
    def __init__(self, source: TFDS, records: Any) -> None:
        self._source, self._records = source, records

    def __len__(self) -> int:
        return len(self._records)

    def take(self, rows: np.ndarray) -> Arrays:
        source = self._source
        with reading(f"a split of {source.name} in {root() / 'tfds'}"):
            found = self._decoded(self._records.__getitems__(rows.tolist()))
        size = (source.size, source.size)
        images = [fit(_channels(record[source.image], source.channels), size) for record in found]
        arrays: Arrays = {"image": np.stack(images)}
        if found and source.label in found[0]:
            labels = np.asarray([record[source.label] for record in found], np.int32)
            arrays["label"] = np.maximum(labels, 0)
            arrays[PRESENT + "label"] = labels >= 0
        arrays[PRESENT + "image"] = np.ones(len(rows), bool)
        return arrays

    def _decoded(self, examples: list[bytes]) -> list[Any]:
        """Decodes the image and the label of examples, and no other features."""
        import tensorflow_datasets as tfds
        from tensorflow_datasets.proto import tf_example_pb2

        source, features = self._source, dict(self._records.dataset_info.features)
        wanted = {name for name in (source.image, source.label) if name in features}
        kept = tfds.features.FeaturesDict({name: features[name] for name in wanted})
        for example in examples:
            stored = tf_example_pb2.Example.FromString(example).features.feature  # pyright: ignore
            open_checked(io.BytesIO(stored[source.image].bytes_list.value[0])).close()
        return [kept.deserialize_example_np(example) for example in examples]


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


def lacks_pictures(name: str) -> str:
    """Returns possible `columns` as source code if a prepared data set has no pictures, else "".

    These are the texts and class labels of the data set.
    """
    import tensorflow_datasets as tfds

    features = open_stock(name).info.features
    if any(isinstance(feature, tfds.features.Image) for feature in features.values()):
        return ""
    found = []
    for column, feature in sorted(features.items()):
        if isinstance(feature, tfds.features.Text):
            found.append(f'{column}=Text(length=512, outside="cut")')
        if isinstance(feature, tfds.features.Audio):
            rate = feature.sample_rate or 16000
            found.append(f'{column}=Audio(rate={rate}, seconds=(0.5, 10.0), outside="cut")')
        if isinstance(feature, tfds.features.ClassLabel):
            found.append(f"{column}=Label(classes={feature.num_classes})")
    if not found:
        known = ", ".join(sorted(features))
        raise ValueError(
            f"{name} has no picture, text or class, but only the features {known}; choose another "
            "data set"
        )
    return f"columns=Named({', '.join(found)})"


def prepare_stock(name: str) -> str:
    """Downloads and prepares a TFDS data set; returns its name without the namespace.

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
    match = re.fullmatch(NAME, name)
    return name.removeprefix((match and match["namespace"]) or "")
