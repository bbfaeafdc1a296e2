"""What a generation is asked for: what is given, known, wanted, guided and edited."""

from typing import NamedTuple

from vqdit.samplers import Branch
from vqdit.tasks.editing import EditInputs
from vqdit.tasks.interpolation import InterpolationInputs
from vqdit.typing import Array, Bool, Named


class Request(NamedTuple):
    """What is given and what is wanted; a pytree, so that one compiled program answers them all.

    Attributes:
        given: stored arrays of every target and condition; whatever where a target is not known,
            and -1 for a label that is no condition.
        known: which targets are given.
        wanted: which targets are generated; those neither known nor wanted stay unknown.
        branches: of guidance.
        edits: of wanted targets, which begin at an example, or between two, instead of noise.
    """

    given: Named[Array]
    known: Named[Bool[Array, ""]]
    wanted: Named[Bool[Array, ""]]
    branches: tuple[Branch, ...] = ()
    edits: Named[EditInputs | InterpolationInputs] = Named()
