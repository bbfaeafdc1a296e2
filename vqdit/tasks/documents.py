"""Document numbers of packed windows, in the form that the network takes."""

import jax.numpy as jnp

from vqdit.data.text_stream import document_numbers
from vqdit.typing import Array, Int


def shown(numbers: Int[Array, "b l"]) -> Int[Array, "b l"]:
    """Returns document numbers for the network: padding gets a separate number instead of -1."""
    return jnp.where(numbers < 0, numbers.shape[1], numbers)


def of_codes(codes: Int[Array, "b l 1"]) -> Int[Array, "b l"]:
    """Returns the document number of every position of windows; -1 at padding."""
    return document_numbers(codes[..., 0], jnp)
