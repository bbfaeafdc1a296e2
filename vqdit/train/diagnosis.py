"""Diagnosis of common training failures from the logged metrics, with advice.

It detects two failures of tokenizers: a codebook that collapses to few codes, and a discriminator
that is so accurate that the decoder learns nothing from it.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

WINDOW = 5
"""Number of consecutive log lines that must show a failure before it is reported."""
COLLAPSED = 0.75
"""A codebook has collapsed if more than this fraction of its codes is dead."""
WON = 0.95
"""A discriminator dominates if its accuracy is above this; guessing gives 0.5."""

Numbers = Mapping[str, float]


class Condition(NamedTuple):
    """A failure that can be reported.

    Attributes:
        name: name of the failure, which is reported once per run.
        shows: returns whether one log line shows the failure.
        advice: returns the message for the user, from the last log line.
    """

    name: str
    shows: Callable[[Numbers], bool]
    advice: Callable[[Numbers], str]


def _collapsed(numbers: Numbers) -> bool:
    # Before a quantizer starts, latents are unchanged: the error is 0, and usage is meaningless.
    has_started = numbers.get("quantization_error", 0.0) > 0.0
    return has_started and numbers.get("dead_codes", 0.0) > COLLAPSED


def _won(numbers: Numbers) -> bool:
    # Before an adversary starts, the generator's loss has no weight.
    return numbers.get("generator_weight", 0.0) > 0.0 and numbers["discriminator_accuracy"] > WON


CONDITIONS = (
    Condition(
        "codebook collapse",
        _collapsed,
        lambda numbers: (
            f"the codebook is collapsing: {numbers['dead_codes']:.0%} of its codes are dead "
            f"(perplexity {numbers['codebook_perplexity']:.3g}). Try these in order: initialize "
            "the codes from data (VQ: start=1000) and revive dead ones (revive_below=0.1); "
            "search codes in fewer dimensions (dim=8) with distance='cosine'; lower the learning "
            "rate; use a quantizer that cannot collapse, such as FSQ"
        ),
    ),
    Condition(
        "discriminator wins",
        _won,
        lambda numbers: (
            "the discriminator wins: it classifies "
            f"{numbers['discriminator_accuracy']:.0%} of originals and reconstructions correctly "
            f"(mean logits {numbers['logits_real']:.3g} and {numbers['logits_fake']:.3g}), so the "
            "decoder learns little from it. Try: start it later (adversary.start), when "
            "reconstructions are good; lower adversary.optimizer.learning_rate; set "
            "adversary.lecam=0.001 or adversary.r1=10; use a smaller discriminator"
        ),
    ),
)


def diagnose(recent: Sequence[Numbers]) -> dict[str, str]:
    """Returns advice, keyed by name, for each failure that all of the last `WINDOW` log lines show.

    Args:
        recent: training metrics of the last log lines, in order.
    """
    window = recent[-WINDOW:]
    if len(window) < WINDOW:
        return {}
    return {
        condition.name: condition.advice(window[-1])
        for condition in CONDITIONS
        if all(condition.shows(numbers) for numbers in window)
    }


class Diagnosis:
    """Diagnoses a run from its logged metrics, and reports each failure once."""

    def __init__(self) -> None:
        self._recent: deque[Numbers] = deque(maxlen=WINDOW)
        self._reported: set[str] = set()

    def update(self, numbers: Numbers) -> list[str]:
        """Adds the metrics of one log line; returns advice for newly detected failures."""
        self._recent.append(numbers)
        found = diagnose(list(self._recent))
        new = [advice for name, advice in found.items() if name not in self._reported]
        self._reported |= set(found)
        return new
