"""Any stock TFDS data set of images and labels, such as celeb_a or imagenet2012."""

import difflib
from typing import Any

import numpy as np

from vqdit.data.pictures import fit
from vqdit.data.sources import PRESENT, Arrays, Feature, Source, Split, check_split, root
from vqdit.typing import Named


class TFDS(Source):
    """A data set by its TFDS name: `image` uint8 [size, size, channels] and `label`, if it has one.

    It must have been prepared (`vqdit prepare tfds:NAME`), in the array_record format. Splits that
    the data set lacks are cut off its training split: a twentieth each.

    Attributes:
        name: TFDS name, such as "celeb_a" or "imagenet2012:5.1.0".
        size: edge of the square that each picture is cropped and resized to, in pixels.
        channels: 1 for grey, 3 for colour.
        image: name of the picture's feature.
        label: name of the label's feature; empty for none.
    """

    name: str = "celeb_a"
    size: int = 64
    channels: int = 3
    image: str = "image"
    label: str = "label"

    def features(self) -> Named[Feature]:
        found = self._builder().info.features
        if self.image not in found:
            raise ValueError(
                f"{self.name} has no feature {self.image!r}; it has: {', '.join(found)}"
            )
        columns = {"image": Feature((self.size, self.size, self.channels))}
        if self.label in found:
            label = found[self.label]
            names = tuple(label.names) if hasattr(label, "names") else ()
            columns["label"] = Feature((), int(getattr(label, "num_classes", 0) or 0), names)
        return Named(columns)

    def split(self, name: str) -> Split:
        check_split(name)
        builder = self._builder()
        available = set(builder.info.splits)
        if "train" not in available:
            raise ValueError(f"{self.name} has no training split; it has: {', '.join(available)}")
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
    """One split: decodes, crops and resizes on the way."""

    def __init__(self, source: TFDS, records: Any) -> None:
        self._source, self._records = source, records

    def __len__(self) -> int:
        return len(self._records)

    def take(self, rows: np.ndarray) -> Arrays:
        source = self._source
        found = self._records.__getitems__(rows.tolist())
        size = (source.size, source.size)
        images = [fit(_channels(record[source.image], source.channels), size) for record in found]
        arrays: Arrays = {"image": np.stack(images)}
        if found and source.label in found[0]:
            arrays["label"] = np.asarray([record[source.label] for record in found], np.int32)
        everywhere = {PRESENT + name: np.ones(len(rows), bool) for name in arrays}
        return arrays | everywhere


def _channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels[..., :1], 3, axis=-1)
    weights = np.asarray([0.299, 0.587, 0.114])  # luma, ITU-R BT.601
    return np.round(pixels[..., :3] @ weights).astype(np.uint8)[..., None]


def make_builder(name: str) -> Any:
    """Returns the TFDS builder of a stock data set.

    Raises:
        ValueError: there is no such data set.
        ImportError: it needs TensorFlow; names the extra to install.
    """
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=root() / "tfds", file_format="array_record")
    except tfds.core.DatasetNotFoundError as error:
        near = difflib.get_close_matches(name.split(":")[0], tfds.list_builders(), n=3)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise ValueError(f"TFDS has no data set {name!r}{hint}") from error
    except ImportError as error:
        raise needs_tensorflow(name, error) from error


def prepare_stock(name: str) -> Any:
    """Downloads and prepares a stock data set; returns its builder.

    Raises:
        ImportError: it needs TensorFlow; names the extra to install.
        OSError: it must be downloaded by hand, or cannot be downloaded.
    """
    builder = make_builder(name)
    try:
        builder.download_and_prepare()
    except ImportError as error:
        raise needs_tensorflow(name, error) from error
    except AssertionError as error:  # how TFDS says that a manual download is missing
        raise OSError(f"{name} must be downloaded by hand: {error}") from error
    return builder


def needs_tensorflow(name: str, error: ImportError) -> ImportError:
    """Returns an error that says what to install."""
    return ImportError(
        f"the TFDS data set {name!r} needs a package that is not installed ({error.name}); "
        "run `pip install 'vqdit[tf]'` and prepare it again"
    )
