"""Rules for keeping the checkpoints of a run."""

import logging
from collections.abc import Mapping
from typing import Any

from vqdit.typing import Component

log = logging.getLogger(__name__)


class Keep(Component):
    """Rules for keeping checkpoints; a checkpoint is kept if any rule applies.

    Attributes:
        last: number of newest checkpoints to keep.
        every: keep checkpoints whose step is a multiple of this number; 0 disables the rule.
        best: keep the checkpoint with the highest value of this validation metric, such as "psnr";
            "-loss" keeps the one with the lowest loss; "" disables the rule.
    """

    last: int = 3
    every: int = 0
    best: str = ""

    def __post_init__(self) -> None:
        if self.last < 1 or self.every < 0:
            raise ValueError(
                f"Keep needs last >= 1 and every >= 0, got last={self.last} every={self.every}"
            )

    @property
    def _metric(self) -> str:
        return self.best.removeprefix("-")

    def measured(self, metrics: Mapping[str, float]) -> Mapping[str, float] | None:
        """Returns the metrics; logs an error and returns None if they lack the metric of `best`."""
        if not self.best or self._metric in metrics:
            return metrics
        log.error(
            "keep_best: there is no metric %r to determine the best checkpoint; metrics: %s",
            self.best,
            ", ".join(metrics),
        )
        return None

    def policy(self) -> Any:
        """Returns the preservation policy for Orbax."""
        from orbax.checkpoint import v1 as ocp

        policies: Any = ocp.training.preservation_policies
        rules = [policies.LatestN(self.last)]
        if self.every:
            rules.append(policies.EveryNSteps(self.every))
        if self.best:
            name, sign = self._metric, -1.0 if self.best.startswith("-") else 1.0
            rules.append(
                policies.BestN(
                    get_metric_fn=lambda metrics: sign * metrics[name],
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        return policies.AnyPreservationPolicy(rules)


KEEP_ALL = Keep(last=10**9)
