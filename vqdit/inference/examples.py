"""Checks of the arrays that callers give to a tokenizer."""

from typing import Any

import numpy as np

from vqdit.modalities import Modality

SLACK = 1e-3
"""Tolerance for standardised values outside [-1, 1], such as rounding errors."""


def require_examples(x: np.ndarray, method: str) -> None:
    """Raises ValueError if an array is empty."""
    if not x.size:
        raise ValueError(f"{method} needs at least one example, got {x.dtype} {list(x.shape)}")


def require_finite(x: np.ndarray, method: str) -> None:
    """Raises ValueError if a value is NaN or infinite."""
    wrong = np.argwhere(~np.isfinite(x))
    if len(wrong):
        where = ", ".join(map(str, wrong[0]))
        raise ValueError(
            f"{method} needs finite numbers, got {x[tuple(wrong[0])]} at [{where}] "
            f"({len(wrong)} in total); check the code that made them"
        )


def require_standardized(x: np.ndarray, modality: Modality) -> None:
    """Raises ValueError if a value is NaN, or outside of [-1, 1]."""
    require_finite(x, "encode")
    if x.size and np.abs(x).max() > 1.0 + SLACK:
        raise ValueError(
            f"encode takes float32 in [-1, 1], got {x.min():.4g} to {x.max():.4g}; scale the "
            f"data (x / 127.5 - 1 for 0 to 255) or convert them to {modality.dtype}"
        )


def with_all_codebooks(tokens: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Returns codes [..., q] of all codebooks; the last ones are -1 if `tokens` lacks them."""
    more: Any = len(sizes) - tokens.shape[-1] if tokens.ndim and sizes else 0
    if more <= 0:
        return tokens
    return np.pad(tokens, ((0, 0),) * (tokens.ndim - 1) + ((0, more),), constant_values=-1)


def require_codebooks(codebooks: int | None, sizes: tuple[int, ...]) -> None:
    """Raises ValueError unless `codebooks` is None or from 1 to the number of codebooks."""
    if codebooks is not None and not 1 <= codebooks <= len(sizes):
        has = f"{len(sizes)} codebooks" if sizes else "no codebooks"
        raise ValueError(
            f"codebooks must be from 1 to the number of trained codebooks, got {codebooks}; the "
            f"tokenizer has {has}"
        )
