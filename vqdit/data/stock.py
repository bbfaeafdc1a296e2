"""Image data sets of TensorFlow Datasets (TFDS), such as celeb_a or imagenet2012."""

import contextlib
import difflib
import io
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from vqdit.data.builders.description import reading
from vqdit.data.sources import PRESENT, Arrays, Feature, Source, Split, check_split, root
from vqdit.modalities.pictures import check_form, fit, open_checked
from vqdit.typing import Named

NAME = r"(?P<namespace>[\w-]+:)?[a-zA-Z]\w*(/[\w+.-]+)?(:(\d+|\*)(\.(\d+|\*)){2})?"
"""Pattern of the name of a data set, with an optional namespace, configuration and version."""
CLASSES = 2**20
"""Largest number of classes of a label."""


class TFDS(Source):
    """A TFDS data set: `image` uint8 [size, size, channels], and `label` if the data set has one.

    `vqdit prepare tfds:NAME` must have prepared the data set in the array_record format. If the
    data set has no validation or test split, 5 % of its training split is used for each. Labels
    below 0, which some test sets use for secret labels, count as missing.

    Only `vqdit prepare` runs the code of a data set of others, whose name has a namespace, such as
    kubric:movi_e. Once prepared, it is known by its name without the namespace.

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
        import tensorflow_datasets as tfds

        found = self._builder().info.features
        optional = () if self.label in ("", "label") else (self.label,)  # many have no label
        for name in (self.image, *optional):
            if name not in found:
                raise ValueError(
                    f"{self.name} has no feature {name!r}; it has: {', '.join(sorted(found))}"
                )
        image: Any = found[self.image]
        is_image = isinstance(image, tfds.features.Image)
        if not is_image or image.np_dtype != np.uint8:
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
            if label.num_classes > CLASSES:
                raise ValueError(
                    f"the feature {self.label!r} of {self.name} has {label.num_classes:,} classes; "
                    f"at most {CLASSES:,} are possible"
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
        from tensorflow_datasets.core.decode import DeserializeMethod

        raw = DeserializeMethod.RAW_BYTES
        return _Stock(self, builder.as_data_source(expression, deserialize_method=raw))

    def fingerprint(self) -> dict[str, Any]:
        info = self._builder().info
        splits = {name: split.num_examples for name, split in info.splits.items()}
        return {"name": info.name, "version": str(info.version), "splits": splits}

    def _builder(self) -> Any:
        if (match := re.fullmatch(NAME, self.name)) and (namespace := match["namespace"]):
            name = self.name.removeprefix(namespace)
            raise ValueError(
                f"{self.name} has a namespace, whose code only `vqdit prepare tfds:{self.name}` "
                f"runs; prepare it, if you trust {namespace[:-1]}, and name it {name!r} here"
            )
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
        """Decodes image and label of examples. The other features are not decoded."""
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


def make_builder(name: str) -> Any:
    """Returns the TFDS builder of a data set.

    Args:
        name: its name. One with a namespace makes TFDS download code and run it.

    Raises:
        ValueError: if TFDS has no such data set or version.
        ImportError: if the data set needs TensorFlow or another package that is not installed.
    """
    import tensorflow_datasets as tfds

    if not re.fullmatch(NAME, name):
        raise ValueError(f"{name!r} is no name of a TFDS data set, such as celeb_a or mnist:3.0.1")
    try:
        with _only_known_features():
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


@contextlib.contextmanager
def _only_known_features() -> Iterator[None]:
    """Keeps TFDS from importing the modules of features that prepared data name."""
    from tensorflow_datasets.core.features.feature import FeatureConnector

    def known(cls: Any, name: str) -> Any:
        if name not in cls._registered_features:
            raise ValueError(
                f"the prepared data name {name!r}, which is no feature of TFDS and may be code of "
                f"others; remove them from {root() / 'tfds'} and prepare them again"
            )
        return cls._registered_features[name]

    importing = FeatureConnector.__dict__["cls_from_name"]
    FeatureConnector.cls_from_name = classmethod(known)  # pyright: ignore
    try:
        yield
    finally:
        FeatureConnector.cls_from_name = importing


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
