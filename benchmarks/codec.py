"""Measures the speed of codecs of sounds: SEANet beside EncodecModel of transformers.

    python -m benchmarks.codec
    python -m benchmarks.codec --rate 24000 --channels 32 --strides 2 4 5 8 --codebooks 8
    python -m benchmarks.codec --workdir=runs/speech8k_rvq
    python -m benchmarks.codec --seconds 600 --chunk 10

Both networks have the same shape and the same random weights, which are imported as those of a
public codec are, so they must find the same codes. They encode and decode the same recording in one
process, in turns; times are medians over the rounds. On a machine that does other work, run it on
one core (taskset -c 1), since torch's threads wait for each other. The package transformers, with
torch, is needed. --workdir measures a trained tokenizer instead, beside nothing. --chunk encodes
and decodes one recording piece by piece, and prints the largest memory of the process. The quality
of tokenizers is measured by `benchmarks.bitrates`.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import vqdit
from vqdit import pretrained
from vqdit.inference.tokenizer import Tokenizer

Steps = tuple[Callable[[], Any], Callable[[Any], Any]]
"""Functions that encode, and that decode what was encoded."""


def published(args: argparse.Namespace) -> Any:
    """Returns an EncodecModel of transformers with random weights."""
    from transformers import EncodecConfig, EncodecModel

    per_second = -(-args.rate // int(np.prod(args.strides)))
    return EncodecModel(
        EncodecConfig(
            sampling_rate=args.rate,
            num_filters=args.channels,
            upsampling_ratios=args.strides[::-1],
            num_lstm_layers=args.layers,
            target_bandwidths=[10 * per_second * args.codebooks / 1000.0],
        )
    ).eval()


def ours(tokenizer: Tokenizer, x: np.ndarray) -> Steps:
    """Returns the steps of a tokenizer; x is float32 [1, n, c]."""

    def encode() -> Any:
        return np.asarray(tokenizer.encode(x))

    return encode, lambda codes: np.asarray(tokenizer.decode(codes, standardized=True))


def theirs(model: Any, x: np.ndarray) -> Steps:
    """Returns the steps of an EncodecModel."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    sound, scales = torch.from_numpy(x.transpose(0, 2, 1).copy()), [None]

    def encode() -> Any:
        with torch.inference_mode():
            return model.encode(sound, bandwidth=model.config.target_bandwidths[-1]).audio_codes

    def decode(codes: Any) -> Any:
        with torch.inference_mode():
            return model.decode(codes, scales).audio_values.numpy()

    return encode, decode


def piecewise(tokenizer: Tokenizer, x: np.ndarray, chunk: float) -> float:
    """Encodes and decodes in pieces of `chunk` seconds; returns the process's peak in MiB."""
    codes = tokenizer.encode(x, chunk=chunk)
    y = tokenizer.decode(codes, chunk=chunk, length=x.shape[1], standardized=True)
    assert np.shape(y) == x.shape
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def times(models: dict[str, Steps], rounds: int) -> dict[str, np.ndarray]:
    """Returns medians [2] of the seconds to encode and to decode, of models that take turns."""
    found: dict[str, list[Any]] = {name: [] for name in models}
    for number in range(rounds + 1):
        for name, (encode, decode) in models.items():
            start = time.perf_counter()
            codes = encode()
            middle = time.perf_counter()
            decode(codes)
            if number:  # the first round compiles
                found[name].append((middle - start, time.perf_counter() - middle))
    return {name: np.median(each, axis=0) for name, each in found.items()}


def main() -> None:
    """Prints seconds of sound per second, and the ratio of the times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workdir", help="a trained tokenizer")
    parser.add_argument("--rate", type=int, default=8000)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--strides", type=int, nargs="+", default=[2, 4, 4, 4])
    parser.add_argument("--layers", type=int, default=2, help="of the LSTM")
    parser.add_argument("--codebooks", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--chunk", type=float, help="seconds of a piece")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    draw = np.random.default_rng(0)
    models: dict[str, Steps] = {}
    if args.workdir:
        tokenizer: Any = vqdit.load(args.workdir)
        rate, channels = tokenizer.rate, tokenizer.task.channels
        x = draw.uniform(-0.5, 0.5, (1, round(args.seconds * rate), channels)).astype(np.float32)
    else:
        model = published(args)
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            tokenizer = pretrained.load(Path(folder))
        x = draw.uniform(-0.5, 0.5, (1, round(args.seconds * args.rate), 1)).astype(np.float32)
        models["transformers"] = theirs(model, x)
    if args.chunk:
        start, peak = time.perf_counter(), piecewise(tokenizer, x, args.chunk)
        real = args.seconds / (time.perf_counter() - start)
        print(f"{args.seconds:g} s in pieces of {args.chunk:g} s: at most {peak:.0f} MiB", end="")
        print(f", {real:.1f} x real time with compilation")
        return
    models["vqdit"] = ours(tokenizer, x)
    if len(models) > 1:
        pair = models["vqdit"][0](), models["transformers"][0]()[0].numpy().transpose(0, 2, 1)
        print(f"equal codes: {100 * np.mean(pair[0] == pair[1]):.2f} %")
    found = times(models, args.rounds)
    print(f"{args.seconds:g} s of sound on {len(os.sched_getaffinity(0))} cores, x real time:")
    for name, each in found.items():
        encode, decode = args.seconds / each
        both = args.seconds / each.sum()
        print(f"  {name:12}  encode {encode:6.1f}  decode {decode:6.1f}  both {both:6.1f}")
    if len(found) > 1:
        ratio = found["vqdit"] / found["transformers"]
        both = found["vqdit"].sum() / found["transformers"].sum()
        print(f"  time of vqdit / transformers: {ratio[0]:.2f}, {ratio[1]:.2f}, both {both:.2f}")


if __name__ == "__main__":
    main()
