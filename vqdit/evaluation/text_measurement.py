"""Settings, examples and generated values that all metrics of text share."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vqdit.data import Source
from vqdit.evaluation.text_data import Rows, rows

WINDOW = 50
"""Default length of the windows of `verbatim`, in bytes."""
SAMPLES = 500
"""Default number of generated texts."""

Report = Callable[[str, int, int], None]
"""Called with the name of the metric, and the numbers of finished and of all examples."""

log = logging.getLogger(__name__)


class Settings(NamedTuple):
    """Settings of metrics of text.

    Attributes:
        given: columns of the examples that the model is given. If empty, `exact_match` gives all
            columns but the text.
        num: number of generated texts, and of real examples; None means `SAMPLES` of both, and all
            real examples for `bits_per_byte`.
        rounds: number of network evaluations for the bound on an example.
        guidance: guidance scale if columns are given; None uses the model's.
        window: length of the windows of `verbatim`, in bytes.
        seed: seed of the noise.
        batch_size: number of examples in a batch.
    """

    given: tuple[str, ...] = ()
    num: int | None = None
    rounds: int = 32
    guidance: float | None = None
    window: int = WINDOW
    seed: int = 0
    batch_size: int = 64

    @property
    def samples(self) -> int:
        """Number of generated texts."""
        return SAMPLES if self.num is None else self.num


class Measurement(NamedTuple):
    """A model, its data, and the settings of metrics.

    Attributes:
        model: a `vqdit.inference.generator.Generator`.
        source: data of the model.
        splits: splits whose examples are scored, given to the model, and compared with samples.
        settings: settings of the metrics.
        report: function that is called with the progress.
    """

    model: Any
    source: Source
    splits: Sequence[str]
    settings: Settings = Settings()
    report: Report | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """The given columns: `settings.given`, and the conditions that training never hid."""
        conditions = self.model.task.conditions.items()
        never_hidden = [name for name, condition in conditions if condition.drop == 0.0]
        return tuple(dict.fromkeys((*self.settings.given, *never_hidden)))

    def examples(self, names: Collection[str], given: Collection[str], num: int | None) -> Rows:
        """Returns examples that have all of the columns `names` and `given`.

        Examples whose given texts contain bytes that do not occur in the training data are left
        out, as the model rejects them.

        Args:
            names: columns that are compared.
            given: columns that the model is given.
            num: largest number of examples; None takes all.
        """
        found = rows(self.source, self.splits, dict.fromkeys((*names, *given)), num)
        keep = np.ones(found.count, bool)
        for name in given:
            occurs = self.model.frozen.get(name, {}).get("occurs")
            if occurs is not None and found.stored[name].dtype == np.uint8:
                known = np.asarray(occurs)
                keep &= np.asarray([known[row].all() for row in found.stored[name]])
        if keep.all():
            return found
        message = (
            "left out %d of %d examples, which contain characters that do not occur in the "
            "training data"
        )
        log.warning(message, (~keep).sum(), found.count)
        if not keep.any():
            raise ValueError(
                "every example has a given text with characters that do not occur in the "
                "training data; give other columns"
            )
        return Rows({name: column[keep] for name, column in found.stored.items()}, int(keep.sum()))

    def generate(
        self, want: list[str], given: Mapping[str, np.ndarray], num: int, what: str
    ) -> Mapping[str, np.ndarray]:
        """Generates `num` values of each wanted target; samples cycle through the given items."""
        values: dict[str, Any] = {n: self.model.modality(n).unpack(given[n]) for n in given}
        for name, condition in self.model.task.conditions.items():
            if name not in given and condition.classes:
                values[name] = np.asarray([-1], np.int32)
        return self.model.sample(
            num,
            given=values,
            want=want,
            guidance=self.settings.guidance if given else 1.0,
            seed=self.settings.seed,
            batch_size=min(self.settings.batch_size, num),
            report=self.progress(what, num),
        )

    def progress(self, what: str, total: int) -> Callable[[int], None] | None:
        """Returns a function that reports how many of `total` examples are finished."""
        report = self.report
        return None if report is None else lambda done: report(what, done, total)
