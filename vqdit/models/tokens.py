"""How the modalities enter a network over tokens."""

import math
from typing import Literal

from vqdit.typing import Component, Named


class Tokens(Component):
    """How one modality enters the network, and what is predicted for it.

    Attributes:
        route: "tokens" joins the sequence; "adaln" is added to the condition of every block;
            "cross" is a sequence that the tokens attend to.
        grid: positions along each axis; (1,) for a label.
        codes: codebook size if the modality is codes, else 0.
        codebooks: codes per position.
        width: channels per position if the modality is latents, else 0.
        patch: edge of the positions that make one token; 0 takes the network's.
        output: head outputs per position; 0 for a condition, which has no head.
    """

    route: Literal["tokens", "adaln", "cross"] = "tokens"
    grid: tuple[int, ...]
    codes: int = 0
    codebooks: int = 1
    width: int = 0
    patch: int = 0
    output: int = 0

    def folded(self, patch: int) -> tuple[int, ...]:
        """Returns the tokens along each axis, in a network of this patch."""
        return tuple(size // (self.patch or patch) for size in self.grid)


def routed(inputs: Named[Tokens], route: str) -> list[str]:
    """Returns the names of the modalities that enter by a route."""
    return [name for name, tokens in inputs.items() if tokens.route == route]


def spans(inputs: Named[Tokens], patch: int) -> dict[str, slice]:
    """Returns where the tokens of every modality are in the sequence."""
    found, start = {}, 0
    for name in routed(inputs, "tokens"):
        count = math.prod(inputs[name].folded(patch))
        found[name] = slice(start, start + count)
        start += count
    return found
