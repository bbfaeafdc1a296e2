"""Measures tokenizers of sounds: quality at several bit rates, tones of upsampling, and speed.

    python -m benchmarks.codec --workdir=runs/speech8k_rvq
    python -m benchmarks.codec --workdir=runs/speech8k_rvq --codebooks=3,6,12 --phrases --opus

For each number of codebooks, over a split: kbit/s, SI-SDR, the distance of log mel spectrograms,
the tones at multiples of rate / stride, and with --phrases the share of recordings whose phrase an
independent recogniser of speech finds (PocketSphinx, the extra `speech`). --opus adds Opus at the
nearest bit rates, by the program opusenc. Then the time to encode and to decode, as seconds of
sound per second.
"""

import argparse
import math
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

import vqdit
from vqdit.data.sources import PRESENT
from vqdit.evaluation.phrases import PhraseRecognizer
from vqdit.inference.tokenizer import Tokenizer
from vqdit.losses import Mel
from vqdit.metrics import si_sdr
from vqdit.metrics.audio import stride_tones
from vqdit.modalities.sounds import read_recording
from vqdit.runs import workdir

Sounds = list[np.ndarray]


def quality(originals: Sounds, others: Sounds, rate: int, stride: int) -> dict[str, float]:
    """Returns means over sounds, int16 [n] or [n, c]: SI-SDR in dB, mel distance, tones in dB."""
    found: dict[str, list[float]] = {"si_sdr": [], "mel": [], "tones": []}
    mel = Mel(rate=rate, windows=(max(32, 2 ** round(math.log2(0.032 * rate))),))
    for original, other in zip(originals, others, strict=True):
        pair = [
            jnp.asarray(sound.reshape(1, len(sound), -1) / 32768.0, jnp.float32)
            for sound in (original, other)
        ]
        found["si_sdr"].append(float(si_sdr(*pair)[0]))
        found["mel"].append(float(mel.distance({}, *pair)[0]))
        if len(other) >= 32 * stride:
            found["tones"].append(stride_tones(other, stride))
    return {name: float(np.mean(values)) if values else math.nan for name, values in found.items()}


def recognised(sounds: Sounds, texts: Sequence[str], recognizer: PhraseRecognizer) -> float:
    """Returns the share of sounds in which the recogniser finds their text."""
    wanted = np.asarray([recognizer.class_of(text) for text in texts])
    kept = np.flatnonzero(wanted >= 0)
    return float(np.mean(recognizer.predict([sounds[row] for row in kept]) == wanted[kept]))


def reconstructed(tokenizer: Tokenizer, sounds: Sounds, codebooks: int) -> Sounds:
    """Returns sounds after encoding and decoding with the first codebooks alone."""
    found = []
    for sound in sounds:
        tokens = tokenizer.encode([sound] if tokenizer.task.modality.lengths else sound[None])
        tokens = np.array(tokens[0])
        tokens[:, codebooks:] = -1
        given: dict[str, Any] = {}
        if tokenizer.task.modality.lengths:
            given = {"length": np.asarray([len(sound)])}
        found.append(np.asarray(tokenizer.decode([tokens], **given)[0]))
    return found


def opus(sounds: Sounds, rate: int, kbit: float) -> tuple[Sounds, float]:
    """Returns sounds after opusenc at a bit rate, and the rate of the files' packets in kbit/s."""
    import soundfile

    found, size, seconds = [], 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        wav, coded = Path(folder) / "in.wav", Path(folder) / "out.opus"
        for sound in sounds:
            soundfile.write(wav, sound, rate)
            options = ["--quiet", f"--bitrate={kbit}", "--speech", "--framesize=60"]
            subprocess.run(["opusenc", *options, str(wav), str(coded)], check=True)
            read = read_recording(coded, rate, 1 if sound.ndim == 1 else 2).samples[: len(sound)]
            missing = ((0, len(sound) - len(read)), *((0, 0),) * (sound.ndim - 1))
            found.append(np.pad(read, missing))
            size, seconds = size + coded.stat().st_size, seconds + len(sound) / rate
    return found, 8e-3 * size / seconds


def speed(tokenizer: Tokenizer, sound: np.ndarray, rate: int, rounds: int = 5) -> dict[str, float]:
    """Returns seconds of sound per second of encoding, of decoding, and of both; best of rounds."""
    given: Any = [sound] if tokenizer.task.modality.lengths else sound[None]
    tokens, times = tokenizer.encode(given), {"encode": math.inf, "decode": math.inf}
    np.asarray(tokenizer.decode(tokens)[0])
    for _ in range(rounds):
        start = time.perf_counter()
        np.asarray(tokenizer.encode(given)[0])
        middle = time.perf_counter()
        np.asarray(tokenizer.decode(tokens)[0])
        end = time.perf_counter()
        times["encode"] = min(times["encode"], middle - start)
        times["decode"] = min(times["decode"], end - middle)
    seconds = len(sound) / rate
    both = seconds / sum(times.values())
    return {**{name: seconds / value for name, value in times.items()}, "both": both}


def main() -> None:
    """Prints one line for each number of codebooks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--codebooks", default="", help="numbers, such as 3,6,12; default: all")
    parser.add_argument("--num", type=int, default=100)
    parser.add_argument("--phrases", action="store_true")
    parser.add_argument("--opus", action="store_true")
    args = parser.parse_args()
    tokenizer = vqdit.load(args.workdir)
    if not isinstance(tokenizer, Tokenizer) or not hasattr(tokenizer.task.modality, "rate"):
        raise SystemExit(f"error: {args.workdir} is no tokenizer of sounds")
    task: Any = tokenizer.task
    rate, stride = task.modality.rate, task.model.downsampling
    data = workdir.read_experiment(workdir.find_run(Path(args.workdir))).data
    split = data.source.split(args.split)
    taken = split.take(np.arange(min(args.num, len(split))))
    present = np.flatnonzero(taken.get(PRESENT + task.name, np.ones(len(taken[task.name]), bool)))
    sounds, texts = [taken[task.name][row] for row in present], []
    recognizer = None
    if args.phrases:
        texts = [bytes(taken["text"][row]).rstrip(b"\0").decode() for row in present]
        every = [data.source.split(name) for name in ("train", "validation", "test")]
        known = [part.take(np.arange(len(part)))["text"] for part in every]
        phrases = dict.fromkeys(bytes(t).rstrip(b"\0").decode() for part in known for t in part)
        recognizer = PhraseRecognizer(list(phrases), rate)

    def show(name: str, kbit: float, others: Sounds) -> None:
        found = quality(sounds, others, rate, stride)
        heard = f"{recognised(others, texts, recognizer):8.3f}" if recognizer else ""
        print(
            f"{name:22} {kbit:8.2f} {found['si_sdr']:8.2f} {found['mel']:8.4f} "
            f"{found['tones']:8.1f} {heard}",
            flush=True,
        )

    heading = f"{'recognised' if recognizer else ''}"
    print(f"{'':22} {'kbit/s':>8} {'SI-SDR':>8} {'mel':>8} {'tones':>8} {heading}")
    show("originals", 16e-3 * rate, sounds)
    sizes = task.codebook_sizes
    counts = [int(word) for word in args.codebooks.split(",")] if args.codebooks else [len(sizes)]
    for count in counts:
        kbit = sum(math.log2(size) for size in sizes[:count]) * rate / stride / 1000
        show(f"{count} codebooks", kbit, reconstructed(tokenizer, sounds, count))
        if args.opus and shutil.which("opusenc"):
            coded, size = opus(sounds, rate, max(kbit, 6.0))
            show("Opus", size, coded)
    longest = max(sounds, key=len)
    found = speed(tokenizer, longest, rate)
    print(
        f"\n{len(longest) / rate:.1f} s of sound: "
        + ", ".join(f"{name} {value:.1f} x real time" for name, value in found.items())
    )


if __name__ == "__main__":
    main()
