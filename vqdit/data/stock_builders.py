"""Builders of TFDS data sets, which read prepared data without TensorFlow."""

import contextlib
import difflib
import importlib.util
import re
from collections.abc import Iterator
from typing import Any

from vqdit.data.sources import root

NAME = r"(?P<namespace>[\w-]+:)?[a-zA-Z]\w*(/[\w+.-]+)?(:(\d+|\*)(\.(\d+|\*)){2})?"
"""Pattern of the name of a data set, with an optional namespace, configuration and version."""


def open_stock(name: str) -> Any:
    """Returns the builder of a prepared data set.

    Raises:
        FileNotFoundError: the data set is not prepared.
        ValueError: there is no such data set, or its code is from a third party.
    """
    if (match := re.fullmatch(NAME, name)) and (namespace := match["namespace"]):
        bare = name.removeprefix(namespace)
        raise ValueError(
            f"{name} has a namespace, and only `vqdit prepare tfds:{name}` runs the code of a "
            f"namespace; if you trust {namespace[:-1]}, run this command, then use the name "
            f"{bare!r}"
        )
    builder = make_builder(name)
    if not builder.info.splits:
        raise FileNotFoundError(
            f"the TFDS data set {name!r} is not prepared in {root() / 'tfds'}; "
            f"run `vqdit prepare tfds:{name}`"
        )
    return builder


def records_of(name: str, split: str) -> Any:
    """Returns the records of a split; 5 % of the training records if the split does not exist.

    Raises:
        ValueError: there is no training split.
    """
    builder = open_stock(name)
    available = set(builder.info.splits)
    if "train" not in available:
        raise ValueError(
            f"{name} has no training split; it has: {', '.join(sorted(available))}; "
            "choose another data set"
        )
    missing = [other for other in ("validation", "test") if other not in available]
    if split in available and (split != "train" or not missing):
        expression = split
    elif split == "train":
        expression = f"train[:{100 - 5 * len(missing)}%]"
    else:
        start = 100 - 5 * (len(missing) - missing.index(split))
        expression = f"train[{start}%:{start + 5}%]"
    from tensorflow_datasets.core.decode import DeserializeMethod

    return builder.as_data_source(expression, deserialize_method=DeserializeMethod.RAW_BYTES)


def make_builder(name: str) -> Any:
    """Returns the TFDS builder of a data set.

    Args:
        name: name of the data set; if it has a namespace, TFDS downloads code and runs it.

    Raises:
        ValueError: if TFDS has no such data set or version.
        ImportError: if the data set needs TensorFlow or another package that is not installed.
    """
    import tensorflow_datasets as tfds

    if not re.fullmatch(NAME, name):
        raise ValueError(
            f"{name!r} is not the name of a TFDS data set; write it like celeb_a or mnist:3.0.1"
        )
    try:
        with _only_known_features(), plain_sounds():
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
    """Prevents TFDS from importing modules that the files of prepared data name."""
    from tensorflow_datasets.core.features.feature import FeatureConnector

    def known(cls: Any, name: str) -> Any:
        if name not in cls._registered_features:
            raise ValueError(
                f"the prepared data use the feature {name!r}, which is not a feature of TFDS and "
                f"may run untrusted code; remove the data from {root() / 'tfds'} and prepare them "
                "again"
            )
        return cls._registered_features[name]

    importing = FeatureConnector.__dict__["cls_from_name"]
    FeatureConnector.cls_from_name = classmethod(known)  # pyright: ignore
    try:
        yield
    finally:
        FeatureConnector.cls_from_name = importing


@contextlib.contextmanager
def plain_sounds() -> Iterator[None]:
    """Lets TFDS read sounds without TensorFlow, from which TFDS only needs their data type."""
    from tensorflow_datasets.core.features import audio_feature

    decoder: Any = audio_feature._AudioDecoder

    def init(self: Any, file_format: str | None, np_dtype: Any, shape: Any) -> None:
        self._file_format, self._np_dtype, self._shape = file_format, np_dtype, shape
        self._channels = shape[1] if len(shape) > 1 else 1

    original = decoder.__init__
    if importlib.util.find_spec("tensorflow") is None:
        decoder.__init__ = init
    try:
        yield
    finally:
        decoder.__init__ = original


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
