"""Encodes and decodes recordings that are one float32 array [b, t] or [b, t, c]."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from vqdit import rules
from vqdit.inference.examples import (
    require_examples,
    require_finite,
    require_standardized,
    with_all_codebooks,
)
from vqdit.inference.pieces import Pieces, cut, in_tokens
from vqdit.modalities import Audio
from vqdit.models import SEANet
from vqdit.models.codec import Codec
from vqdit.models.seanet import LOUDNESS
from vqdit.tasks.autoencoder import AutoencoderTask
from vqdit.typing import Params, Stats


class Waveforms:
    """Encodes and decodes recordings of any length, as a whole or piece by piece.

    Raises:
        ValueError: the tokenizer does not encode sounds.
    """

    def __init__(self, task: AutoencoderTask, params: Params, stats: Stats) -> None:
        if not isinstance(task.modality, Audio):
            raise ValueError(
                f"the tokenizer encodes {task.name}, not sounds; load a tokenizer of sounds"
            )
        self._task, self._params, self._stats = task, params, stats
        self.rate = task.modality.rate
        self._encode = jax.jit(task.encode_standardized)
        self._decode = jax.jit(task.decode_standardized)

    @functools.cached_property
    def _pieces(self) -> Pieces:
        return Pieces(self._task, self._params, self._stats)

    def encode(self, x: np.ndarray, chunk: float | None = None) -> Any:
        """Returns the tokens of recordings; `chunk` is the length of the pieces in seconds."""
        x = self._standard(x)
        if chunk is not None:
            return np.concatenate(list(self._pieces.encode(cut(x, self._size(chunk)))), axis=1)
        mask = None
        if not isinstance(self._task.model, Codec) and x.shape[1] % self._task.model.downsampling:
            mask = np.ones(x.shape[:2], bool)  # such models round up to whole tokens with a mask
        return self._encode(self._params, self._stats, x, mask)

    def decode(self, tokens: Any, length: Any, chunk: float | None, loudness: Any) -> Any:
        """Returns standardised recordings [b, t, c] of tokens; see `Tokenizer.decode`."""
        tokens = self._checked(tokens)
        if length is not None and self._task.token_lengths(length) != tokens.shape[1]:
            raise ValueError(
                f"decode needs a length that fills {tokens.shape[1]} tokens, got {length}"
            )
        normalizes = isinstance(self._task.model, SEANet) and self._task.model.normalize
        if loudness is not None and not normalizes:
            raise ValueError(
                "loudness is only for codecs with normalize=True; other codecs encode it in their "
                "codes; leave it out"
            )
        if chunk is None:
            found = self._decode(self._params, self._stats, tokens)
        else:
            size = self._size(chunk) // self._task.model.downsampling
            found = np.concatenate(list(self._pieces.decode(cut(tokens, size))), axis=1)
        found = found[:, :length]
        if loudness is None:
            return found
        return found * (np.reshape(np.asarray(loudness, np.float32), (-1, 1, 1)) / LOUDNESS)

    def encode_stream(self, blocks: Iterable[Any]) -> Iterator[np.ndarray]:
        """Yields the tokens of recordings that arrive in blocks, each as soon as it is known."""
        self._require_causal("encode_stream", "encode(audio, chunk=SECONDS)")
        return self._pieces.encode(in_tokens(map(self._standard, blocks), self._pieces.hop))

    def decode_stream(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields the samples of tokens that arrive in blocks."""
        self._require_causal("decode_stream", "decode(tokens, chunk=SECONDS)")
        return self._pieces.decode(map(self._checked, blocks))

    def _require_causal(self, method: str, instead: str) -> None:
        model = self._pieces.model
        if not model.is_causal:
            raise ValueError(
                f"{method} needs a causal codec, but the outputs of this {type(model).__name__} "
                f"depend on later samples, too; use {instead}"
            )

    def _size(self, chunk: float) -> int:
        """Returns the number of samples of a piece: a whole number of tokens, at least one."""
        rules.check(rules.finite, chunk=chunk)
        if chunk <= 0.0:
            raise ValueError(f"chunk must be a number of seconds above 0, got {chunk}")
        hop = self._pieces.hop
        return max(1, round(chunk * self.rate / hop)) * hop

    def _standard(self, x: Any) -> np.ndarray:
        x, channels = np.asarray(x), self._task.channels
        if x.ndim == 2 and channels == 1:
            x = x[..., None]
        if x.dtype != np.float32 or x.ndim != 3 or x.shape[2] != channels or not x.size:
            wanted = "[b, t] or [b, t, 1]" if channels == 1 else f"[b, t, {channels}]"
            raise ValueError(
                f"encode takes recordings as float32 {wanted} in [-1, 1] at {self.rate} Hz, got "
                f"{x.dtype} {list(x.shape)}"
            )
        require_standardized(x, self._task.modality)
        return x

    def _checked(self, tokens: Any) -> np.ndarray:
        """Returns tokens of recordings of any length; codes of missing codebooks are -1."""
        task = self._task
        tokens = with_all_codebooks(np.asarray(tokens), task.codebook_sizes)
        require_examples(tokens, "decode")
        if tokens.dtype == np.float32:
            require_finite(tokens, "decode")
        samples = tokens.shape[1] * task.model.downsampling
        modality = dataclasses.replace(task.modality, seconds=(), samples=samples)
        return dataclasses.replace(task, modality=modality).checked(tokens)


def is_waveform(task: AutoencoderTask, x: Any) -> bool:
    """Returns whether x has recordings as one numeric array, not as a ragged column."""
    is_array = isinstance(x, np.ndarray | jax.Array) and x.dtype == np.float32
    return isinstance(task.modality, Audio) and is_array and x.ndim in (2, 3)


def is_waveform_tokens(task: AutoencoderTask, tokens: Any) -> bool:
    """Returns whether tokens of recordings are one numeric array, not a ragged column."""
    is_array = isinstance(tokens, np.ndarray | jax.Array) and tokens.dtype != object
    return isinstance(task.modality, Audio) and is_array and tokens.ndim == 3
