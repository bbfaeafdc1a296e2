"""Measures a tokenizer of sounds at several bit rates, beside the originals and beside Opus.

    python -m benchmarks.bitrates --workdir=runs/speech8k_rvq --codebooks 3 6 12 --opus

Prints a Markdown table of a split of the tokenizer's data, with a row for each number of codebooks:

* kbit/s of the codes, log2 K bits each; and as an ideal entropy coder would store them, which knows
  the histogram of each codebook. For Opus: the size of its packets, without the file format.
* SI-SDR in dB, and the distances of mel and STFT spectrograms, as `vqdit reconstruct` has them;
  means over the recordings.
* tones: how far constant tones at multiples of rate / stride rise above those between them
* phrases: the share of recordings in which an independent recogniser of speech (PocketSphinx, the
  extra `speech`) finds the spoken phrase, with its 95 % interval. It chooses among the phrases of
  the split. Data without texts do not have this column.

--opus needs Debian's package opus-tools. opusenc takes 6 kbit/s and more, so lower rates are
compared with its lowest. The delay of Opus is estimated and compensated.
"""

import argparse
import math
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import soundfile
import soxr

import vqdit
from vqdit.data.sources import PRESENT
from vqdit.evaluation.intervals import rate as rate_of
from vqdit.evaluation.phrases import PhraseRecognizer
from vqdit.evaluation.reconstructions import CodeRate, SoundDistances, round_trip
from vqdit.inference.tokenizer import Tokenizer
from vqdit.metrics.audio import stride_tones
from vqdit.runs import workdir

Sounds = list[np.ndarray]
"""Recordings, int16 [n] or [n, c]."""
LOWEST = 6.0
"""Lowest bit rate of opusenc in kbit/s."""
OPUS_RATE = 48_000
"""Sampling rate at which Opus decodes, in Hz."""
DELAY = 0.02
"""Largest delay that is looked for, in seconds."""


class Measures:
    """Measures reconstructions of the same recordings.

    Args:
        sounds: the recordings.
        texts: what is spoken in each; empty if that is not known.
        tokenizer: the tokenizer of sounds, which has their form.
    """

    def __init__(self, sounds: Sounds, texts: Sequence[str], tokenizer: Tokenizer) -> None:
        self._modality: Any = tokenizer.task.modality
        self._stride, self._x = tokenizer.model.downsampling, [self._of(one) for one in sounds]
        self._distances = SoundDistances(tokenizer.rate)
        self._recognizer, self._wanted = None, np.zeros(0, int)
        if texts:
            self._recognizer = PhraseRecognizer(list(dict.fromkeys(texts)), tokenizer.rate)
            self._wanted = np.asarray([self._recognizer.class_of(text) for text in texts])

    def _of(self, sound: np.ndarray) -> np.ndarray:
        return np.asarray(self._modality.standardize(jnp.asarray(sound)[None])[0])

    @property
    def names(self) -> list[str]:
        """Headings of the columns."""
        return ["SI-SDR", "mel", "STFT", "tones"] + ["phrases"] * (self._recognizer is not None)

    def __call__(self, others: Sounds, is_original: bool = False) -> list[str]:
        """Returns the columns of one row."""
        cells = ["", "", ""]
        if not is_original:
            pairs = zip(self._x, map(self._of, others), strict=True)
            found = [list(self._distances(x, y).values()) for x, y in pairs]
            ratio, mel, stft = np.mean(found, axis=0)
            cells = [f"{ratio:.2f}", f"{mel:.3f}", f"{stft:.3f}"]
        long = [sound for sound in others if len(sound) >= 32 * self._stride]
        tones = [stride_tones(sound, self._stride) for sound in long]
        cells.append(f"{np.mean(tones):.1f}" if tones else "")
        if self._recognizer is not None:
            kept = np.flatnonzero(self._wanted >= 0)
            heard = self._recognizer.predict([others[row] for row in kept])
            share = rate_of(heard == self._wanted[kept])
            cells.append(f"{share.value:.3f} ({share.low:.2f} to {share.high:.2f})")
        return cells


def reconstructed(
    tokenizer: Tokenizer, sounds: Sounds, codebooks: int
) -> tuple[Sounds, dict[str, float]]:
    """Returns sounds after encoding and decoding with the first codebooks, and `CodeRate`."""
    modality: Any = tokenizer.task.modality
    found, bits = [], CodeRate(tokenizer.task.codebook_sizes[:codebooks])
    for sound in sounds:
        x = np.asarray(modality.standardize(jnp.asarray(sound)[None])[0])
        codes, y = round_trip(tokenizer, x, codebooks)
        bits.add(codes, len(x) / tokenizer.rate)
        found.append(np.asarray(modality.restore(jnp.asarray(y)[None])[0]))
    return found, bits.compute()


def through_opus(sounds: Sounds, rate: int, kbit: float) -> tuple[Sounds, float]:
    """Returns sounds after Opus at a bit rate, without its delay, and the kbit/s of its packets."""
    decoded, size = [], 0
    with tempfile.TemporaryDirectory() as folder:
        wav, coded, back = (Path(folder) / name for name in ("in.wav", "a.opus", "out.wav"))
        for sound in sounds:
            soundfile.write(wav, sound, rate)
            options = ["--quiet", "--speech", "--framesize=60", "--discard-comments", "--padding=0"]
            _run("opusenc", *options, f"--bitrate={kbit}", wav, coded)
            _run("opusdec", "--quiet", f"--rate={OPUS_RATE}", "--no-dither", coded, back)
            size += packet_bytes(coded)
            decoded.append(soundfile.read(back)[0])
    scaled = [soxr.resample(sound / 32768.0, rate, OPUS_RATE) for sound in sounds]
    pairs = list(zip(scaled, decoded, strict=True))
    late = round(np.median([delay(x, y, round(DELAY * OPUS_RATE)) for x, y in pairs]))
    found = []
    for sound, other in zip(sounds, decoded, strict=True):
        shifted = soxr.resample(np.roll(other, -late, axis=0), OPUS_RATE, rate)[: len(sound)]
        missing = ((0, len(sound) - len(shifted)), *((0, 0),) * (sound.ndim - 1))
        stored = np.clip(np.round(32768.0 * shifted), -32768, 32767).astype(np.int16)
        found.append(np.pad(stored, missing))
    return found, 8e-3 * size * rate / sum(map(len, sounds))


def delay(x: np.ndarray, y: np.ndarray, most: int) -> int:
    """Returns the samples, from -most to most, by which y is later than x: [n] or [n, c]."""
    x, y = (part.reshape(len(part), -1).mean(axis=1) for part in (x, y))
    size = 1 << (max(len(x), len(y)) + most).bit_length()
    product = np.fft.irfft(np.conj(np.fft.rfft(x, size)) * np.fft.rfft(y, size), size)
    lags = np.arange(-most, most + 1)
    return int(lags[np.argmax(product[lags])])


def packet_bytes(file: Path) -> int:
    """Returns the size of the packets of sound in an Ogg file, without its two headers."""

    def pages() -> Iterator[int]:
        data, place = file.read_bytes(), 0
        while place < len(data):
            count = data[place + 26]
            size = sum(data[place + 27 : place + 27 + count])
            yield size
            place += 27 + count + size

    return sum(list(pages())[2:])


def _run(program: str, *options: Any) -> None:
    try:
        subprocess.run([program, *map(str, options)], check=True, capture_output=True)
    except FileNotFoundError:
        raise SystemExit(f"error: no program {program}; install opus-tools") from None


def table(
    tokenizer: Tokenizer, sounds: Sounds, texts: Sequence[str], codebooks: Sequence[int], opus: bool
) -> Iterator[str]:
    """Yields the lines of the table."""
    rate, measures = tokenizer.rate, Measures(sounds, texts, tokenizer)
    heading = ["", "kbit/s", "entropy-coded", *measures.names]
    yield _line(heading)
    yield _line(["---"] * len(heading))
    channels = tokenizer.task.channels
    yield _line(["original", f"{16e-3 * rate * channels:g}", "", *measures(sounds, True)])
    wanted: dict[float, Callable[[], tuple[Sounds, float]]] = {}
    for count in codebooks:
        others, bits = reconstructed(tokenizer, sounds, count)
        kbit = sum(map(math.log2, tokenizer.task.codebook_sizes[:count]))
        kbit *= 1e-3 * rate / tokenizer.model.downsampling
        entropy = bits.get("kbit_per_s_entropy", math.nan)
        yield _line([f"{count} codebooks", f"{kbit:.2f}", f"{entropy:.2f}", *measures(others)])
        nearest = max(LOWEST * channels, kbit)
        wanted.setdefault(nearest, lambda kbit=nearest: through_opus(sounds, rate, kbit))
    for make in wanted.values() if opus else ():
        others, kbit = make()
        yield _line(["Opus", f"{kbit:.2f}", "", *measures(others)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def examples(folder: Path, name: str, split: str, num: int | None) -> tuple[Sounds, list[str]]:
    """Returns the recordings of a split of a run's data, and their texts if there are any."""
    source = workdir.read_experiment(workdir.find_run(folder)).data.source.split(split)
    found = source.take(np.arange(min(num or len(source), len(source))))
    present = np.flatnonzero(found.get(PRESENT + name, np.ones(len(found[name]), bool)))
    texts = []
    if "text" in found and found["text"][0].dtype == np.uint8:
        texts = [bytes(found["text"][row]).rstrip(b"\0").decode() for row in present]
    return [found[name][row] for row in present], texts


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--codebooks", type=int, nargs="+", help="default: all")
    parser.add_argument("--num", type=int, help="default: all recordings")
    parser.add_argument("--opus", action="store_true")
    args = parser.parse_args()
    tokenizer = vqdit.load(args.workdir)
    if not isinstance(tokenizer, Tokenizer) or not tokenizer.task.codebook_sizes:
        raise SystemExit(f"error: {args.workdir} is not a tokenizer with codes")
    most = len(tokenizer.task.codebook_sizes)
    codebooks = args.codebooks or [most]
    if not 1 <= min(codebooks) <= max(codebooks) <= most:
        raise SystemExit(f"error: --codebooks must be from 1 to {most}, got {codebooks}")
    sounds, texts = examples(Path(args.workdir), tokenizer.task.name, args.split, args.num)
    seconds = sum(map(len, sounds)) / tokenizer.rate
    print(f"{len(sounds)} recordings of the {args.split} split, {seconds:.0f} s\n")
    for line in table(tokenizer, sounds, texts, codebooks, args.opus):
        print(line, flush=True)


if __name__ == "__main__":
    main()
