"""A batch, as it goes from the pipeline into a training step."""

from typing import NamedTuple

from vqdit.typing import Array, Bool, Int, Named

GIVEN = "_given"
"""After the name of a modality: a second view of it, for where it is given to a DiT."""


class Batch(NamedTuple):
    """Examples side by side.

    Attributes:
        data: arrays as they are stored, such as uint8 images; zeros where one is not present.
            Some may have a second view, under their name and GIVEN.
        present: for each of them, True where the example has it.
        mask: for modalities of variable length, True where a position is real.
        index: the row of each example in the global batch (training) or split (evaluation); with
            the step it makes every key of randomness its own.
        valid: False in rows that only fill up the last batch of an evaluation.
        size: of the global batch that these examples are a part of; None if they are all of it.
    """

    data: Named[Array]
    present: Named[Bool[Array, " b"]]
    mask: Named[Bool[Array, "b _"]]
    index: Int[Array, " b"]
    valid: Bool[Array, " b"]
    size: int | None = None
