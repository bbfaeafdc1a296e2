"""A trained tokenizer as a Python object, which encodes examples and decodes tokens."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.inference.clips import Chunks
from vqdit.inference.examples import (
    require_codebooks,
    require_examples,
    require_finite,
    require_standardized,
    with_all_codebooks,
)
from vqdit.inference.waveforms import Waveforms, is_waveform, is_waveform_tokens
from vqdit.modalities import Image, Video
from vqdit.precision import in_32_bits
from vqdit.ragged import cut, lengths, padded, ragged
from vqdit.runs.restoring import Restored
from vqdit.tasks.autoencoder import AutoencoderTask
from vqdit.typing import Array, Bool


class Tokenizer:
    """A trained tokenizer. Its methods are jitted; each new batch shape compiles once.

    Standardised images may have any size that the model's downsampling divides. The same applies to
    clips, stored or standardised, whose number of frames must be 1 + n s for a time stride of s.

    *Tokens* are codes int32 [b, *grid, q], or float32 latents [b, *grid, d] of a `KLTask`. *Stored*
    examples have the form of data sets: uint8 images [b, h, w, c], uint8 clips [b, f, h, w, c],
    int16 audio [b, t]. *Standardised* examples are float32 in [-1, 1] with channels last: images
    [b, h, w, c], clips [b, f, h, w, c], audio [b, t, 1].

    If the modality's lengths vary, examples and tokens are ragged columns or lists of arrays. Each
    example [n, ...] has its own length, and its tokens [l, q] or [l, d] do not depend on the other
    examples. A call pads its examples to one of a few lengths, and compiles once for each.

    Attributes:
        task: the task of the run, without parts that are used only in training.
        model: encoder and decoder.
        params: parameters.
        stats: statistics, such as codebooks and counts.
        step: number of training steps.
        standardized: default for `decode`: True returns standardised examples, False stored ones.
    """

    def __init__(self, restored: Restored, *, standardized: bool = False) -> None:
        if not isinstance(restored.task, AutoencoderTask):
            raise ValueError(
                f"the run is a {type(restored.task).__name__}, not a tokenizer; load the run of a "
                "tokenizer"
            )
        stripped = restored.task.for_inference(restored.params, restored.stats)
        self.task, self.params, self.stats = stripped
        self.model, self.step = self.task.model, restored.step
        self.standardized = standardized
        self._encode = jax.jit(self.task.encode)
        self._encode_standardized = jax.jit(self.task.encode_standardized)
        self._decode = jax.jit(self.task.decode)
        self._decode_standardized = jax.jit(self.task.decode_standardized)

    @functools.cached_property
    def _waveforms(self) -> Waveforms:
        return Waveforms(self.task, self.params, self.stats)

    @functools.cached_property
    def _chunks(self) -> Chunks:
        return Chunks(self.task, self.params, self.stats)

    @property
    def rate(self) -> int:
        """Samples per second of a tokenizer of sounds."""
        return self._waveforms.rate

    @in_32_bits
    def encode(
        self, x: Any, *, codebooks: int | None = None, chunk: int | float | None = None
    ) -> Array | np.ndarray:
        """Returns the tokens of stored or of standardised examples.

        Args:
            x: the examples; recordings may also be one float32 array [b, t] or [b, t, c] of any
                length t, whose tokens are then one array, too.
            codebooks: number of codes per position; the first codebooks are used, None uses all.
            chunk: amount that is encoded at a time: seconds of such an array for codecs, frames of
                tokens for clips and causal autoencoders. The tokens equal the tokens of the whole,
                but the memory does not grow with the length. None encodes all at once.

        Raises:
            ValueError: there are no examples, shape and type match neither form, the model's
                downsampling does not divide the size, a standardised value is NaN or outside
                [-1, 1], the model has fewer codebooks, or can only encode recordings as a whole.
        """
        require_codebooks(codebooks, self.task.codebook_sizes)
        if is_waveform(self.task, x):
            tokens = self._waveforms.encode(x, chunk)
        elif chunk is not None:
            tokens = self._chunks.encode_whole(x, chunk)
        else:
            tokens = self._encode_examples(x)
        if codebooks is None:
            return tokens
        if tokens.dtype == object:
            return ragged(codes[:, :codebooks] for codes in tokens)
        return tokens[..., :codebooks]

    def encode_stream(
        self, blocks: Iterable[Any], *, codebooks: int | None = None
    ) -> Iterator[np.ndarray]:
        """Yields the tokens of recordings or clips that arrive in blocks; for causal tokenizers.

        The yielded tokens, concatenated, equal the tokens of the whole: codes int32 [b, l, q] of
        recordings, and [b, 1, y, x, q] of clips, one frame of tokens at a time. A token is yielded
        once its last sample or frame has arrived, so the latency is one token. A codec that mirrors
        the start of a recording (padding="reflect") yields its first codes a little later,
        together.

        Args:
            blocks: float32 [b, t] or [b, t, c] in [-1, 1], where t may differ between blocks; or
                clips [b, f, h, w, c], where f may differ.
            codebooks: number of codes per position; the first codebooks are used, None uses all.

        Raises:
            ValueError: the tokenizer is not causal, or `encode` does not accept a block.
        """
        require_codebooks(codebooks, self.task.codebook_sizes)
        stream = self._chunks.encode if self._is_of_clips else self._waveforms.encode_stream
        found = stream(blocks)
        return (codes[..., :codebooks] for codes in found)

    def decode_stream(self, blocks: Iterable[Any]) -> Iterator[np.ndarray]:
        """Yields the standardised samples [b, t, c] of codes that arrive in blocks [b, l, q].

        For the tokens of clips [b, n, y, x, q], it yields frames [b, f, h, w, c].

        Raises:
            ValueError: the tokenizer is not causal, or `decode` does not accept a block.
        """
        if self._is_of_clips:
            return self._chunks.decode(map(self._checked_tokens, blocks))
        return self._waveforms.decode_stream(blocks)

    @property
    def _is_of_clips(self) -> bool:
        return isinstance(self.task.modality, Video)

    def _encode_examples(self, x: Any) -> Array | np.ndarray:
        modality = self.task.modality
        if modality.lengths:
            return self._encode_ragged(x)
        x = np.asarray(x)
        require_examples(x, "encode")
        if x.shape[1:] == modality.shape and x.dtype == modality.dtype:
            return self._encode(self.params, self.stats, x)
        standard = (*modality.grid, self.task.channels)
        may_differ = isinstance(modality, Image | Video) and x.ndim == len(standard) + 1
        may_differ = may_differ and x.shape[-1] == standard[-1]
        is_stored = self._is_of_clips and x.dtype == modality.dtype
        if not (x.dtype == np.float32 or is_stored) or not (may_differ or x.shape[1:] == standard):
            raise ValueError(
                f"encode takes {modality.dtype} [b, {', '.join(map(str, modality.shape))}] or "
                f"float32 [b, {', '.join(map(str, standard))}] in [-1, 1], "
                f"got {x.dtype} {list(x.shape)}"
            )
        self.model.grid(x.shape[1:-1])  # raises ValueError if the size is not divisible
        if is_stored:
            return self._encode(self.params, self.stats, x)
        require_standardized(x, self.task.modality)
        return self._encode_standardized(self.params, self.stats, x)

    def _encode_ragged(self, x: Any) -> np.ndarray:
        task, encode = self.task, self._encode
        first = x[0] if len(x) else None
        if isinstance(first, np.ndarray) and first.dtype == np.float32 and first.ndim == 2:
            column, encode = ragged(x), self._encode_standardized
            require_standardized(np.concatenate(column), task.modality)
        else:
            column = task.modality.pack(x)
        values, mask = in_bucket(task, column)
        tokens = encode(self.params, self.stats, values, mask)
        return cut(tokens, task.token_lengths(lengths(column)))

    @in_32_bits
    def decode(
        self,
        tokens: Any,
        *,
        standardized: bool | None = None,
        length: Any = None,
        chunk: int | float | None = None,
        loudness: Any = None,
    ) -> Array | np.ndarray:
        """Decodes tokens to examples.

        Args:
            tokens: tokens from `encode`, or generated tokens. Codes of the last codebooks may be
                missing. The tokens of recordings may be one array [b, l, q] of any length l; then
                the result is one array, too.
            standardized: True returns the decoder's output, not clipped to [-1, 1]; False returns
                stored examples; None uses the attribute `standardized`.
            length: if the modality's lengths vary, the number of positions of each example; None
                returns all decoded positions.
            chunk: amount that is decoded at a time: seconds for recordings in one array, frames of
                tokens for clips; see `encode`.
            loudness: for recordings in one array, and codecs that normalise loudness: the root mean
                square of each recording; None for 0.1.

        Raises:
            ValueError: there are no tokens, the shape is wrong, a code is not in the codebook, a
                latent is not finite, or a length does not match the tokens.
        """
        if is_waveform_tokens(self.task, tokens):
            found = self._waveforms.decode(tokens, length, chunk, loudness)
            return self._in_form(found, standardized)
        if loudness is not None or (chunk is not None and not self._is_of_clips):
            raise ValueError(
                "chunk and loudness need the tokens of sounds as one array [b, l, q]; leave them "
                "out"
            )
        if self.task.modality.lengths:
            return self._decode_ragged(tokens, standardized, length)
        tokens = self._checked_tokens(tokens)
        if chunk is not None:
            found = np.concatenate(list(self._chunks.decode([tokens], chunk)), axis=1)
            return self._in_form(found, standardized)
        return self._decoder(standardized)(self.params, self.stats, tokens)

    def _in_form(self, x: Array | np.ndarray, standardized: bool | None) -> Array | np.ndarray:
        """Returns standardised data, or their stored form; see `decode`."""
        standardized = self.standardized if standardized is None else standardized
        return x if standardized else self.task.modality.restore(jnp.asarray(x))

    def _checked_tokens(self, tokens: Any) -> np.ndarray:
        tokens = np.asarray(tokens)
        require_examples(tokens, "decode")
        tokens = self._task_of(tokens).checked(with_all_codebooks(tokens, self.task.codebook_sizes))
        if tokens.dtype == np.float32:
            require_finite(tokens, "decode")
        return tokens

    def _decoder(self, standardized: bool | None) -> Any:
        standardized = self.standardized if standardized is None else standardized
        return self._decode_standardized if standardized else self._decode

    def _decode_ragged(self, tokens: Any, standardized: bool | None, length: Any) -> np.ndarray:
        task = self.task
        items = (with_all_codebooks(np.asarray(item), task.codebook_sizes) for item in tokens)
        column = ragged(task.checked(item[None])[0] for item in items)
        if not len(column):
            raise ValueError("decode needs at least one example, got an empty list")
        for item in column:
            if item.dtype == np.float32:
                require_finite(item, "decode")
        whole = np.asarray(task.stored_lengths(lengths(column)))
        length = whole if length is None else np.asarray(length, np.int32)
        if not np.array_equal(task.token_lengths(length), lengths(column)):
            raise ValueError(
                f"decode needs lengths that correspond to {lengths(column).tolist()} tokens, got "
                f"{length.tolist()}"
            )
        most = _bucket(task, int(whole.max()))
        values, _ = padded(column, int(task.token_lengths(most)))
        mask = np.arange(most) < length[:, None]
        found = self._decoder(standardized)(self.params, self.stats, values, mask)
        return cut(found, length)

    def _task_of(self, tokens: np.ndarray) -> AutoencoderTask:
        """Returns the task for images or clips of the size to which this grid of tokens decodes."""
        grid, modality = tokens.shape[1:-1], self.task.modality
        is_other = isinstance(modality, Image | Video) and len(grid) == len(modality.grid)
        if not is_other or min(grid) < 1:
            return self.task
        size = self.model.size(grid)
        if isinstance(modality, Video):
            modality = dataclasses.replace(modality, frames=size[0], size=size[1:])
            return dataclasses.replace(self.task, modality=modality)
        return dataclasses.replace(self.task, modality=dataclasses.replace(modality, size=size))


def in_bucket(
    task: AutoencoderTask, column: np.ndarray
) -> tuple[np.ndarray, Bool[np.ndarray, "b n"]]:
    """Pads a ragged column to one of a few lengths; returns the examples and their mask."""
    return padded(column, _bucket(task, int(lengths(column).max())))


def _bucket(task: AutoencoderTask, length: int) -> int:
    """Returns the smallest sufficient length among 1, 2, 4, ... tokens and the largest length."""
    longest, most = (task.modality.lengths or (0, length))[1], task.model.downsampling
    while most < length:
        most *= 2
    return min(most, longest)
