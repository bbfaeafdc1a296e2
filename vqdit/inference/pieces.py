"""Encodes and decodes recordings piece by piece, with the same result as for the whole recording.

Every stage of an encoder or decoder receives its inputs as they arrive. A stage with a window keeps
the last inputs, on which later outputs depend; a recurrent stage keeps its state. The memory
depends on the size of the pieces, not on the length of the recording.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from vqdit.models.codec import Codec, Stage
from vqdit.precision import in_32_bits
from vqdit.tasks.autoencoder import AutoencoderTask
from vqdit.typing import Params, Stats

LARGEST = 64
"""Largest number of tokens that a stream computes at a time, a power of 2."""


class Pieces:
    """The compiled stages of a codec.

    Attributes:
        model: the codec.

    Raises:
        ValueError: the model of the task can only encode recordings as a whole.
    """

    def __init__(self, task: AutoencoderTask, params: Params, stats: Stats) -> None:
        model = task.model
        if not isinstance(model, Codec):
            raise ValueError(
                f"a {type(model).__name__} encodes recordings as a whole, because its layers "
                "normalise over the whole recording; leave out `chunk`, or use a codec (SEANet, "
                "DAC, Mimi)"
            )
        if model.whole_only:
            raise ValueError(
                f"this model only encodes and decodes whole recordings: {model.whole_only}; leave "
                "out `chunk`"
            )
        self.model = model
        self._params, self._stats = params, stats
        self._encoder = _compiled(model.encoder_stages(task.width), params["encoder"])
        self._decoder = _compiled(model.decoder_stages(task.channels), params["decoder"])
        self._tokens, self._lookup = _jitted(task.tokens), _jitted(task.lookup)

    @property
    def hop(self) -> int:
        """Samples per token."""
        return self.model.downsampling

    def encode(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields the tokens of samples [b, n, c], as soon as they are determined."""
        found: Any = self._filled(blocks) if self.model.fills_tokens else blocks
        for stage in self._encoder:
            found = stage(found)
        for z in found:
            yield np.asarray(self._tokens(self._params, self._stats, z))

    def decode(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields the samples [b, n, c] of tokens [b, l, q], as soon as they are determined."""
        found: Any = (self._lookup(self._params, self._stats, tokens) for tokens in blocks)
        for stage in self._decoder:
            found = stage(found)
        yield from found

    def _filled(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        count, last = 0, None
        for block in blocks:
            count, last = count + block.shape[1], block
            yield block
        if last is not None and count % self.hop:
            yield np.zeros((len(last), -count % self.hop, last.shape[2]), last.dtype)


def cut(x: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yields parts of x [b, n, ...] with `size` positions along the second axis."""
    for first in range(0, x.shape[1], size):
        yield x[:, first : first + size]


def in_tokens(blocks: Iterable[np.ndarray], hop: int) -> Iterator[np.ndarray]:
    """Regroups samples into blocks of 1, 2, 4, ... tokens, so that few shapes are compiled."""
    kept = None
    for block in blocks:
        kept = block if kept is None else np.concatenate([kept, block], axis=1)
        while tokens := kept.shape[1] // hop:
            size = hop * min(LARGEST, 1 << tokens.bit_length() - 1)
            yield kept[:, :size]
            kept = kept[:, size:]
    if kept is not None and kept.shape[1]:
        yield kept


def _jitted(function: Callable[..., Any]) -> Callable[..., Any]:
    return in_32_bits(jax.jit(function))  # a generator runs in the context of its caller


def _compiled(stages: list[Stage], params: Params) -> list[Any]:
    return [(_Recurrent if stage.is_recurrent else _Windowed)(stage, params) for stage in stages]


class _Recurrent:
    def __init__(self, stage: Stage, params: Params) -> None:
        self._apply, self._params = _jitted(stage.apply), params

    def __call__(self, blocks: Iterable[Any]) -> Iterator[Any]:
        state = None
        for block in blocks:
            y, state = self._apply(self._params, block, state)
            yield y


class _Windowed:
    def __init__(self, stage: Stage, params: Params) -> None:
        self._stage, self._params = stage, params
        self._apply = _jitted(lambda params, x: stage.apply(params, x)[0])

    def __call__(self, blocks: Iterable[Any]) -> Iterator[np.ndarray]:
        up, down = self._stage.rate.numerator, self._stage.rate.denominator
        kept, start, done = None, 0, 0  # inputs, position of the first, and number that is done
        for block in blocks:
            block = np.asarray(block)
            kept = block if kept is None else np.concatenate([kept, block], axis=1)
            ready = (start + kept.shape[1] - self._stage.after) // down * down
            if ready <= done or (start == 0 and kept.shape[1] <= self._stage.mirrored):
                continue
            y = np.asarray(self._apply(self._params, kept))
            yield y[:, (done - start) * up // down : (ready - start) * up // down]
            first = max(start, (ready - self._stage.before) // down * down)
            kept, start, done = kept[:, first - start :], first, ready
        if kept is not None and start + kept.shape[1] > done:
            y = np.asarray(self._apply(self._params, kept))
            yield y[:, (done - start) * up // down :]
