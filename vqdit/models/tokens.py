"""Description of the inputs of a network over tokens."""

import math
from collections.abc import Collection
from typing import Literal

from vqdit.processes.base import X
from vqdit.typing import Component, Named


class Tokens(Component):
    """Input of the network for one modality, and the size of its prediction.

    Attributes:
        route: "tokens" adds the modality's tokens to the sequence; "adaln" adds its embedding to
            the condition of every block; "cross" makes it a second sequence, to which the tokens
            attend by cross-attention.
        grid: number of positions along each axis; (1,) for a label.
        codes: codebook size if the modality consists of codes, else 0.
        codebooks: number of codes per position.
        width: number of channels per position if the modality consists of latents, else 0.
        patch: edge of the square of positions that forms one token; 0 uses the network's patch.
        output: number of head outputs per position; 0 for a condition, which is not predicted.
        block: number of codes per block if the modality is generated block by block, else 0. In
            training, such a modality has both noised and clean tokens.
    """

    route: Literal["tokens", "adaln", "cross"] = "tokens"
    grid: tuple[int, ...]
    codes: int = 0
    codebooks: int = 1
    width: int = 0
    patch: int = 0
    output: int = 0
    block: int = 0

    def folded(self, patch: int) -> tuple[int, ...]:
        """Returns the number of tokens along each axis in a network with this patch size."""
        return tuple(size // (self.patch or patch) for size in self.grid)

    def is_doubled(self, count: int) -> bool:
        """Returns whether `count` positions are the noised, then the clean codes of all blocks."""
        return self.block > 0 and count == 2 * math.prod(self.grid)


def routed(inputs: Named[Tokens], route: str) -> list[str]:
    """Returns the names of the modalities whose route is `route`."""
    return [name for name, tokens in inputs.items() if tokens.route == route]


def spans(inputs: Named[Tokens], patch: int, doubled: Collection[str] = ()) -> dict[str, slice]:
    """Returns the slice of the sequence with the tokens of each modality.

    For modalities in `doubled`, whose noised tokens are followed by clean ones, it is the slice of
    the noised tokens.
    """
    found, start = {}, 0
    for name in routed(inputs, "tokens"):
        count = math.prod(inputs[name].folded(patch))
        found[name] = slice(start, start + count)
        start += count * (2 if name in doubled else 1)
    return found


def doubled(inputs: Named[Tokens], x: Named[X]) -> list[str]:
    """Returns the modalities whose noised and clean tokens are both in x."""
    return [name for name, tokens in inputs.items() if tokens.is_doubled(x[name].shape[1])]
