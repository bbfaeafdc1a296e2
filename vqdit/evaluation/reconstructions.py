"""Reconstructions of recordings of any length: made by a tokenizer of sounds, and measured."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.inference.tokenizer import Tokenizer
from vqdit.losses import STFT, Mel
from vqdit.losses.mel import spectral_distances
from vqdit.metrics import COUNTABLE, BitRate, si_sdr
from vqdit.models.codec import Codec
from vqdit.models.seanet import LOUDNESS, SEANet, loudness
from vqdit.typing import Float, Int

PIECE = 10.0
"""Duration in seconds of the pieces that a codec processes and that distances compare."""
SMALLEST = 1024
"""Recordings are padded to 1, 2, 4, ... times this number of samples, which compile once each."""


def round_trip(
    tokenizer: Tokenizer, x: Float[np.ndarray, "n c"], codebooks: int | None = None
) -> tuple[Int[np.ndarray, "l q"] | Float[np.ndarray, "l d"], Float[np.ndarray, "n c"]]:
    """Returns the tokens and the standardised reconstruction of one recording of any length.

    Codecs that support it process recordings of more than `PIECE` seconds piece by piece, with the
    same result as for the whole recording. Other recordings are padded, so that few lengths are
    compiled.

    Args:
        tokenizer: a tokenizer of sounds.
        x: the recording, float32 in [-1, 1] at the tokenizer's rate.
        codebooks: number of codes per token; the first codebooks are used, None uses all.
    """
    model, bounds = tokenizer.model, tokenizer.task.modality.lengths
    in_pieces = isinstance(model, Codec) and not model.whole_only
    if in_pieces and len(x) > PIECE * tokenizer.rate:
        tokens: Any = tokenizer.encode(x[None], codebooks=codebooks, chunk=PIECE)
        y: Any = tokenizer.decode(tokens, length=len(x), chunk=PIECE, standardized=True)
    elif bounds and len(x) <= bounds[1]:
        tokens = tokenizer.encode([x], codebooks=codebooks)
        y = tokenizer.decode(tokens, length=[len(x)], standardized=True)
    else:
        tokens = tokenizer.encode(x[None], codebooks=codebooks)
        y = tokenizer.decode(tokens, length=len(x), standardized=True)
    y = np.asarray(y[0])
    if isinstance(model, SEANet) and model.normalize:
        y = y * np.asarray(loudness(jnp.asarray(x[None])) / LOUDNESS)
    return np.asarray(tokens[0]), y


class SoundDistances:
    """Measures SI-SDR in dB, and `mel_distance` and `stft_distance` with windows of about 32 ms.

    If a recording is longer than `PIECE` seconds, its distances of spectrograms are means over
    pieces of this length.

    Args:
        rate: samples per second, in Hz.
    """

    def __init__(self, rate: int) -> None:
        losses: dict[str, Mel | STFT] = spectral_distances(rate)
        self._size = round(PIECE * rate)
        self._ratio = jax.jit(si_sdr)
        self._spectral = jax.jit(
            lambda x, y, mask: {
                name: loss.distance({}, x, y, mask) for name, loss in losses.items()
            }
        )

    def __call__(
        self, x: Float[np.ndarray, "n c"], y: Float[np.ndarray, "n c"]
    ) -> dict[str, float]:
        """Returns the distances of a reconstruction y from its original x, both in [-1, 1]."""
        found = {"si_sdr": float(self._ratio(*_padded(x, y))[0])}
        for start in range(0, len(x), self._size):
            parts = [part[start : start + self._size] for part in (x, y)]
            for name, value in self._spectral(*_padded(*parts)).items():
                found[name] = found.get(name, 0.0) + float(value[0]) * len(parts[0]) / len(x)
        return found


class CodeRate:
    """Measures the bit rate of codes, as stored and after ideal entropy coding; see `BitRate`.

    Args:
        sizes: sizes of the codebooks.
    """

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self._sizes, self._seconds = sizes, 0.0
        is_counted = bool(sizes) and max(sizes) <= COUNTABLE
        self._counts = np.zeros((len(sizes), max(sizes))) if is_counted else None

    def add(self, codes: Int[np.ndarray, "l q"], seconds: float) -> None:
        """Counts the codes of a recording of this duration."""
        self._seconds += seconds
        if self._counts is not None:
            for counts, column in zip(self._counts, codes.T, strict=True):
                counts += np.bincount(column, minlength=len(counts))

    def compute(self) -> dict[str, float]:
        """Returns kbit_per_s and kbit_per_s_entropy of all recordings; {} without codes."""
        if self._counts is None:
            return {}
        stored = np.sum(self._counts.sum(axis=1) * np.log2(self._sizes))
        arrays: Any = (self._counts, stored, self._seconds)
        return BitRate(*arrays).compute("kbit_per_s")


def _padded(
    x: Float[np.ndarray, "n c"], y: Float[np.ndarray, "n c"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns both sounds padded with silence, as batches of one example, and their mask."""
    size = max(SMALLEST, 1 << (len(x) - 1).bit_length())
    pads = ((0, size - len(x)), (0, 0))
    mask = np.arange(size)[None] < len(x)
    return np.pad(x, pads)[None], np.pad(y, pads)[None], mask
