"""Description of the modalities that enter a network over tokens."""

import math
from typing import Literal

from vqdit.typing import Component, Named


class Tokens(Component):
    """How one modality enters the network, and the size of its prediction.

    Attributes:
        route: "tokens" adds the modality's tokens to the sequence; "adaln" adds its embedding to
            the condition of every block; "cross" makes it a second sequence, to which the tokens
            attend.
        grid: number of positions along each axis; (1,) for a label.
        codes: codebook size if the modality consists of codes, else 0.
        codebooks: codes per position.
        width: channels per position if the modality consists of latents, else 0.
        patch: edge of the square of positions that forms one token; 0 takes the network's patch.
        output: head outputs per position; 0 for a condition, for which nothing is predicted.
    """

    route: Literal["tokens", "adaln", "cross"] = "tokens"
    grid: tuple[int, ...]
    codes: int = 0
    codebooks: int = 1
    width: int = 0
    patch: int = 0
    output: int = 0

    def folded(self, patch: int) -> tuple[int, ...]:
        """Returns the number of tokens along each axis in a network with this patch size."""
        return tuple(size // (self.patch or patch) for size in self.grid)


def routed(inputs: Named[Tokens], route: str) -> list[str]:
    """Returns the names of the modalities that enter by a route."""
    return [name for name, tokens in inputs.items() if tokens.route == route]


def spans(inputs: Named[Tokens], patch: int) -> dict[str, slice]:
    """Returns the slice of the sequence that holds each modality's tokens."""
    found, start = {}, 0
    for name in routed(inputs, "tokens"):
        count = math.prod(inputs[name].folded(patch))
        found[name] = slice(start, start + count)
        start += count
    return found
