"""The doctor: looks at the logged numbers and says, in plain words, what goes wrong and what helps.

It knows two illnesses of tokenizers: a codebook that collapses onto few codes, and a discriminator
that is so far ahead that the decoder learns nothing from it.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

WINDOW = 5
"""Logged lines in a row that must show a condition: one bad batch is no illness."""
COLLAPSED = 0.75
"""A codebook is collapsed if more than this share of its codes is dead."""
WON = 0.95
"""A discriminator has won if its accuracy is above this; guessing gives 0.5."""

Numbers = Mapping[str, float]


class Condition(NamedTuple):
    """Something to be warned of.

    Attributes:
        name: of the condition; each is reported once in a run.
        shows: whether one logged line shows it.
        advice: from the last line to what is wrong and what helps.
    """

    name: str
    shows: Callable[[Numbers], bool]
    advice: Callable[[Numbers], str]


def _collapsed(numbers: Numbers) -> bool:
    # Before a quantizer starts, latents pass unchanged: the error is 0, and use means nothing.
    return (
        numbers.get("quantization_error", 0.0) > 0.0 and numbers.get("dead_codes", 0.0) > COLLAPSED
    )


def _won(numbers: Numbers) -> bool:
    # Before an adversary starts, the generator's loss has no weight.
    return numbers.get("generator_weight", 0.0) > 0.0 and numbers["discriminator_accuracy"] > WON


CONDITIONS = (
    Condition(
        "codebook collapse",
        _collapsed,
        lambda numbers: (
            f"the codebook is collapsing: {numbers['dead_codes']:.0%} of its codes are dead "
            f"(perplexity {numbers['codebook_perplexity']:.3g}). What helps, in this order: let "
            "codes start on the data (VQ: start=1000) and be revived (revive_below=0.1); look up "
            "in fewer dimensions (dim=8) by distance='cosine'; a lower learning rate; a quantizer "
            "that cannot collapse, such as FSQ"
        ),
    ),
    Condition(
        "discriminator wins",
        _won,
        lambda numbers: (
            "the discriminator wins: it tells "
            f"{numbers['discriminator_accuracy']:.0%} of originals and reconstructions apart "
            f"(mean logits {numbers['logits_real']:.3g} and {numbers['logits_fake']:.3g}), so the "
            "decoder learns little from it. What helps: let it begin later (adversary.start), "
            "when reconstructions are good; a lower adversary.optimizer.learning_rate; "
            "adversary.lecam=0.001 or adversary.r1=10; a smaller discriminator"
        ),
    ),
)


def diagnose(recent: Sequence[Numbers]) -> dict[str, str]:
    """Returns advice by condition, for those that all of the last `WINDOW` lines show.

    Args:
        recent: logged numbers of training, the latest last.
    """
    window = recent[-WINDOW:]
    if len(window) < WINDOW:
        return {}
    return {
        condition.name: condition.advice(window[-1])
        for condition in CONDITIONS
        if all(condition.shows(numbers) for numbers in window)
    }


class Doctor:
    """Follows a run, and reports each condition once."""

    def __init__(self) -> None:
        self._recent: deque[Numbers] = deque(maxlen=WINDOW)
        self._told: set[str] = set()

    def see(self, numbers: Numbers) -> list[str]:
        """Takes the numbers of one logged line; returns what is new to be said."""
        self._recent.append(numbers)
        found = diagnose(list(self._recent))
        new = [advice for name, advice in found.items() if name not in self._told]
        self._told |= set(found)
        return new
