"""A source that is prepared once, as array_records, and read from there."""

import functools
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vqdit.data.builders import records
from vqdit.data.sources import Feature, Source, Split, check_split, root
from vqdit.typing import Named

log = logging.getLogger(__name__)


class Recorded(Source):
    """Base of sources with records of their own."""

    def key(self) -> str:
        """Returns the name of the folder of the prepared data: one per content."""
        raise TypeError(f"{type(self).__name__} must define key")

    def columns(self) -> Named[Feature]:
        """Returns the features, from the raw data."""
        raise TypeError(f"{type(self).__name__} must define columns")

    def examples(self) -> Mapping[str, Iterable[Mapping[str, Any]]]:
        """Returns the examples of every split, from the raw data."""
        raise TypeError(f"{type(self).__name__} must define examples")

    def prepare(self) -> Path:
        """Looks at the raw data, prepares them unless that was done; returns their folder."""
        folder = root() / self.key()
        if not self.is_prepared():
            log.info("preparing %s in %s", type(self).__name__, folder)
            name = "".join(c if c.isalnum() else "_" for c in self.key())
            records.write(folder, name, self.columns(), self.examples())
        _PREPARED[self._place()] = folder
        return folder

    def is_prepared(self) -> bool:
        """Returns whether the raw data, as they are now, were prepared before."""
        return records.is_prepared(root() / self.key())

    def features(self) -> Named[Feature]:
        return records.features_of(self._prepared())

    def split(self, name: str) -> Split:
        check_split(name)
        return reader(self._prepared(), name)

    def fingerprint(self) -> dict[str, Any]:
        """Returns what identifies the data, after another look at the raw ones."""
        found = records.describe(self.prepare())  # its name comes from where the raw data are
        return {part: found[part] for part in ("version", "features", "splits", "checksum")}

    def _prepared(self) -> Path:
        return _PREPARED.get(self._place()) or self.prepare()

    def _place(self) -> tuple[Any, ...]:
        return self, root(), Path.cwd()  # its path may be relative


_PREPARED: dict[tuple[Any, ...], Path] = {}
"""What this process has prepared: a run must not notice that files come and go beside it."""


@functools.lru_cache(maxsize=16)
def reader(folder: Path, split: str) -> records.Records:
    """One reader per split and process, so that what it remembers is shared."""
    return records.Records(folder, split)
