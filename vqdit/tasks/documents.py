"""Documents that are packed into one window: what the network sees of them."""

import jax.numpy as jnp

from vqdit.data.text_stream import document_numbers
from vqdit.typing import Array, Int


def shown(numbers: Int[Array, "b l"]) -> Int[Array, "b l"]:
    """Returns document numbers as the network takes them: what only fills is one of its own."""
    return jnp.where(numbers < 0, numbers.shape[1], numbers)


def of_codes(codes: Int[Array, "b l 1"]) -> Int[Array, "b l"]:
    """Returns the document numbers of windows; -1 where nothing but end codes fills them."""
    return document_numbers(codes[..., 0], jnp)
