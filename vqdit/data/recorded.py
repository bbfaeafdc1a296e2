"""The base class of sources that convert raw data to array_record files once, and read these."""

import functools
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vqdit.data.builders import records
from vqdit.data.builders.description import describe, features_of, is_prepared, remarks
from vqdit.data.builders.reader import Records
from vqdit.data.sources import Feature, Source, Split, check_split, root
from vqdit.typing import Named

log = logging.getLogger(__name__)


class Recorded(Source):
    """Base class of sources whose data are prepared as array_record files."""

    def key(self) -> str:
        """Returns the folder name of the prepared data; it differs if the content differs."""
        raise TypeError(f"{type(self).__name__} must define the method 'key'")

    def raw_features(self) -> Named[Feature]:
        """Returns the features of the columns, read from the raw data."""
        raise TypeError(f"{type(self).__name__} must define the method 'raw_features'")

    def examples(self) -> Mapping[str, Iterable[records.Example]]:
        """Returns the examples of every split, read from the raw data.

        A string in place of an example is a remark, such as what was left out and why.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'examples'")

    def prepare(self, *, quiet: bool = False) -> Path:
        """Prepares the raw data unless they are already prepared; returns the folder.

        Args:
            quiet: True does not log the remarks about the prepared data.
        """
        folder = root() / self.key()
        if not is_prepared(folder):
            log.info("preparing %s in %s", type(self).__name__, folder)
            name = "".join(c if c.isalnum() else "_" for c in self.key())
            records.write(folder, name, self.raw_features(), self.examples())
            for line in [] if quiet else remarks(folder):
                log.warning("%s", line)
        _PREPARED[self._place()] = folder
        return folder

    def is_prepared(self) -> bool:
        """Returns whether the raw data are prepared in their current state."""
        return is_prepared(root() / self.key())

    def features(self) -> Named[Feature]:
        return features_of(self._prepared())

    def split(self, name: str) -> Split:
        check_split(name)
        return reader(self._prepared(), name)

    def fingerprint(self) -> dict[str, Any]:
        """Returns the identity of the data, after checking whether the raw data have changed."""
        found = describe(self.prepare())  # "name" is left out: it depends on the path
        return {part: found[part] for part in ("version", "features", "splits", "checksum")}

    def _prepared(self) -> Path:
        return _PREPARED.get(self._place()) or self.prepare()

    def _place(self) -> tuple[Any, ...]:
        return self, root(), Path.cwd()  # the source's path to the raw data may be relative


_PREPARED: dict[tuple[Any, ...], Path] = {}
"""Folders prepared by this process; a run keeps using its data even if the raw files change."""


@functools.lru_cache(maxsize=16)
def reader(folder: Path, split: str) -> Records:
    """Returns the reader of a split; there is one reader, with one cache, per process."""
    return Records(folder, split)
