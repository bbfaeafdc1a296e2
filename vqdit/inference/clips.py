"""Encodes and decodes clips of any length in chunks, with a causal autoencoder.

The result equals the result for the whole clip. The memory depends on the size of the chunks, not
on the length of the clip.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from vqdit import rules
from vqdit.inference.examples import require_standardized
from vqdit.models import VideoAutoencoder
from vqdit.precision import in_32_bits
from vqdit.tasks.autoencoder import AutoencoderTask
from vqdit.typing import Params, Stats


class Chunks:
    """The compiled steps of a causal autoencoder of clips.

    Raises:
        ValueError: the task's tokenizer is not a causal autoencoder of clips.
    """

    def __init__(self, task: AutoencoderTask, params: Params, stats: Stats) -> None:
        model = task.model
        if not isinstance(model, VideoAutoencoder):
            raise ValueError(
                f"chunk needs recordings as one float32 array [b, t] or [b, t, c], or clips, but "
                f"the tokenizer is for {task.name} ({type(model).__name__}); leave chunk out"
            )
        self._task, self._model, self._arrays = task, model, (params, stats)

        def encode(params: Params, stats: Stats, x: Any, cache: Any) -> Any:
            x = x if x.dtype == np.float32 else task.input(x)
            z, cache = model.encode_chunk(params, x, task.width, cache, last=False)
            return task.tokens(params, stats, z), cache

        def decode(params: Params, stats: Stats, tokens: Any, cache: Any, last: bool) -> Any:
            z = task.lookup(params, stats, tokens)
            return model.decode_chunk(params, z, task.channels, cache, last)

        self._encode = in_32_bits(jax.jit(encode))
        self._decode = in_32_bits(jax.jit(decode, static_argnums=4))

    def encode_whole(self, x: Any, chunk: int | float) -> np.ndarray:
        """Returns the tokens of clips in one array; see `encode`."""
        x = self._checked(x)
        self._model.grid(x.shape[1:-1])  # raises ValueError if the size does not fit
        return np.concatenate(list(self.encode([x], chunk)), axis=1)

    def encode(self, blocks: Iterable[np.ndarray], chunk: int | float = 1) -> Iterator[np.ndarray]:
        """Yields the tokens of stored or standardised frames [b, n, h, w, c] of any n.

        Args:
            blocks: the frames.
            chunk: number of frames of tokens that are computed at a time, at least 1.

        Raises:
            ValueError: chunk is no positive integer, or sizes or values are not allowed.
        """
        size, step, cache = _whole(chunk), self._model.time_stride, None
        parts = _regrouped(map(self._checked, blocks), 1 + (size - 1) * step, size * step)
        count = 0
        for x in parts:
            count += x.shape[1]
            self._model.grid((count, *x.shape[2:4]))
            tokens, cache = self._encode(*self._arrays, x, cache)
            yield np.asarray(tokens)

    def decode(self, blocks: Iterable[np.ndarray], chunk: int | float = 1) -> Iterator[np.ndarray]:
        """Yields the standardised frames [b, n, h, w, c] of tokens [b, m, y, x, q] of any m."""
        size, cache = _whole(chunk), None
        parts = ((part, False) for part in _regrouped(blocks, size, size))
        for tokens, last in parts if self._model.is_causal else _with_last(parts):
            y, cache = self._decode(*self._arrays, tokens, cache, last)
            yield np.asarray(y)

    def _checked(self, block: Any) -> np.ndarray:
        x, modality = np.asarray(block), self._task.modality
        is_clip = x.ndim == 5 and x.shape[-1] == self._task.channels and x.size
        if not is_clip or x.dtype not in (np.float32, modality.dtype):
            raise ValueError(
                f"encode takes clips {modality.dtype} or float32 in [-1, 1], [b, f, h, w, "
                f"{self._task.channels}], got {x.dtype} {list(x.shape)}"
            )
        if x.dtype == np.float32:
            require_standardized(x, modality)
        return x


def _whole(chunk: int | float) -> int:
    rules.check(rules.finite, chunk=chunk)
    if chunk < 1 or chunk != int(chunk):
        raise ValueError(
            "for clips, chunk must be an integer of at least 1, the frames of tokens at a "
            f"time, got {chunk}"
        )
    return int(chunk)


def _regrouped(blocks: Iterable[np.ndarray], first: int, size: int) -> Iterator[np.ndarray]:
    """Regroups blocks along the second axis: `first` positions, then `size` each, then the rest."""
    kept, wanted = None, first
    for block in blocks:
        kept = block if kept is None else np.concatenate([kept, block], axis=1)
        while kept.shape[1] >= wanted:
            yield kept[:, :wanted]
            kept, wanted = kept[:, wanted:], size
    if kept is not None and kept.shape[1]:
        yield kept


def _with_last(parts: Iterator[tuple[np.ndarray, bool]]) -> Iterator[tuple[np.ndarray, bool]]:
    """Yields the parts, with True only for the last one."""
    before = None
    for part, _ in parts:
        if before is not None:
            yield before, False
        before = part
    if before is not None:
        yield before, True
