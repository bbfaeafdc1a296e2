"""Chooses size and tokenizers of pictures and sounds, with reasons."""

import math
from collections import Counter

import numpy as np

from vqdit.configure.columns import SMALLEST, Column, Found, Pictures, Sounds
from vqdit.configure.machine import Machine
from vqdit.configure.parts import SAME_LENGTH, Part, mean_fill
from vqdit.losses import Mel
from vqdit.modalities import Audio, Image
from vqdit.models import ConvAutoencoder

SMALLER = 20
"""Largest percentage of the pictures that may be smaller than their size in the model."""
SQUARE = 0.15
"""Absolute logarithm of the aspect ratio below which pictures are made square."""
ALIKE = 0.8
"""Smallest fraction of pictures with one aspect ratio for pictures that are not square."""
FASTEST = {True: 8000, False: 24_000}
"""Highest sampling rate in Hz, by whether the machine is a CPU."""
MOST_SECONDS = 2.0
"""Length in seconds that is never too long."""
LONGEST_SOUND = {True: 5.0, False: 15.0}
"""Largest length of sounds in seconds, by whether the machine is a CPU."""
LEAST_SECONDS = 0.1
"""Shortest sounds in seconds; the spectra of the loss need about as much."""
MOST_CODES = {True: 256, False: 1024}
"""Largest number of codes of a sound, by whether the machine is a CPU."""


def of_pictures(
    column: Column, facts: Pictures, found: Found, machine: Machine, minutes: float, wanted: bool
) -> Part:
    """Chooses one size for all pictures: that of most pictures, or less if training takes long."""
    edges = facts.sizes.min(axis=1)
    limit, why = _limit(machine, minutes)
    edge = min(limit, max(SMALLEST, int(np.percentile(edges, SMALLER))))
    edge -= edge % (8 if edge >= 32 else 4)
    if edge < limit - limit % 8:
        is_one = facts.sizes.min() == facts.sizes.max()
        why = "as large as the pictures" if is_one else "most pictures are as large"
    factor = _factor(edge, machine)
    size = (edge, edge)
    if found.form in ("table", "files"):  # ImageFolder reads only squares
        size = _rectangle(edge, factor, facts.sizes)
    grid = tuple(axis // factor for axis in size)
    tokens, shown = grid[0] * grid[1], " x ".join(map(str, size))
    codes_shown = f"{grid[0]} x {grid[1]} codes"
    vectors = found.train * column.given // max(1, found.rows) * tokens
    codes = _codes(vectors, machine)
    colours = "All examined pictures are grey" if facts.is_grey else "Some pictures have colours"
    comments = {
        "modality": f"{shown}: {why}; the smallest edge is {edges.min()}. {colours}.",
        "task.model": f"Each edge is divided by {factor}: {codes_shown} per picture.",
        "task.quantizer": _why_codes(codes, vectors),
    }
    kind = "grey" if facts.is_grey else "colour"
    return Part(
        column,
        Image(size=size, channels=1 if facts.is_grey else 3),
        wanted,
        tokens,
        f"{shown} pixels, {kind}, as {codes_shown} of {codes}",
        tuple(_image_models(factor, machine)),
        codes,
        (),
        "l2" if facts.is_grey else "l1",
        comments=tuple(comments.items()),
    )


def _rectangle(edge: int, factor: int, sizes: np.ndarray) -> tuple[int, int]:
    """Returns height and width with the usual aspect ratio and an area of at most edge^2."""
    shapes = np.log(sizes[:, 1] / sizes[:, 0])
    usual = float(np.median(shapes))
    if abs(usual) < SQUARE or np.mean(np.abs(shapes - usual) < 0.05) < ALIKE:
        return edge, edge
    axis = range(factor, 2 * edge + 1, factor)
    fitting = [(h, w) for h in axis for w in axis if 0.6 * edge**2 <= h * w <= edge**2]
    return min(fitting, key=lambda s: (round(abs(math.log(s[1] / s[0]) - usual), 2), -s[0] * s[1]))


def _limit(machine: Machine, minutes: float) -> tuple[int, str]:
    """Returns the largest edge of pictures that the machine can learn in the time, and why."""
    if machine.is_cpu:
        if minutes < 120:
            return 32, "as much as a CPU can learn in less than two hours"
        return 64, "as much as a CPU can learn in a few hours"
    hours = machine.chips * minutes / 60
    for edge, needed in ((256, 48), (128, 6)):
        if hours >= needed:
            return edge, f"as much as {hours:.3g} chip-hours allow"
    return 64, f"as much as {hours:.2g} chip-hours allow"


def _factor(edge: int, machine: Machine) -> int:
    """Returns the factor by which the tokenizer downsamples an edge."""
    if edge < 16:
        return 2
    if machine.is_cpu:
        return 8 if edge >= 64 else 4
    return 4 if edge < 128 else 8 if edge < 256 else 16


def _image_models(factor: int, machine: Machine) -> list[ConvAutoencoder]:
    if not machine.is_cpu:
        levels = int(math.log2(factor))
        return [
            ConvAutoencoder(
                channels=tuple(min(width * 2**level, 4 * width) for level in range(levels + 1)),
                blocks=2,
                dtype="bfloat16",
            )
            for width in (128, 64, 32)
        ]
    if factor == 2:
        return [ConvAutoencoder(channels=(w // 2, w), blocks=1) for w in (64, 32)]
    return [
        ConvAutoencoder(channels=(width, width), patch=factor // 2, blocks=1)
        for width in (96, 64, 48, 32)
    ]


def _codes(vectors: int, machine: Machine) -> int:
    """Returns the size of a codebook, small enough that each code occurs often in the data."""
    most = 512 if machine.is_cpu else 4096 if vectors > 20_000_000 else 1024
    return 2 ** int(np.clip(math.log2(max(1, vectors) / 50), 5, math.log2(most)))


def _why_codes(codes: int, vectors: int) -> str:
    return f"{codes} codes: each occurs about {vectors // codes:,} times in the training data."


def of_sounds(column: Column, facts: Sounds, found: Found, machine: Machine, wanted: bool) -> Part:
    """Chooses rate and length of sounds, or the range of their lengths if these differ."""
    rates, seconds, longest = Counter(facts.rates.tolist()), facts.seconds, None
    fill = 1.0
    rate = min(rates.most_common(1)[0][0], FASTEST[machine.is_cpu])
    if len(set(facts.samples.tolist())) == len(rates) == 1 and rate == facts.rates[0]:
        samples, why = int(facts.samples[0]), "the length of all sounds"
        patch = math.gcd(samples, _patch(samples, rate, machine))
        modality = Audio(samples=samples, rate=rate)
        shown = f"{samples / rate:.3g} s at {rate:,} Hz"
    else:
        most = float(np.percentile(seconds, 95)) if seconds.max() > MOST_SECONDS else seconds.max()
        most = min(float(most), LONGEST_SOUND[machine.is_cpu])
        patch = _patch(round(most * rate), rate, machine)
        samples = -(-round(most * rate) // patch) * patch
        kept = seconds[seconds * rate <= samples]
        longer = len(seconds) - len(kept)
        longest = samples / rate if longer else None
        why = f"{longer} of {len(seconds)} sounds are longer and are left out"
        why = why if longer else "the longest"
        shown = f"up to {samples / rate:.3g} s at {rate:,} Hz"
        least = max(LEAST_SECONDS, math.floor(100 * kept.min()) / 100)
        if least >= SAME_LENGTH * samples / rate:
            least = samples / rate
            why = f"{why}; shorter ones are padded with silence"
        else:
            why = f"{why}; the shortest has {kept.min():.2g} s"
            shown = f"{least:.2g} to {samples / rate:.3g} s at {rate:,} Hz"
            fill = mean_fill(kept * rate / samples)
        modality = Audio(rate=rate, seconds=(least, samples / rate), outside="cut")
    steps = samples // patch
    vectors = int(found.train * column.given // max(1, found.rows) * steps * fill)
    codes = _codes(vectors, machine)
    if machine.is_cpu:
        models = [ConvAutoencoder(channels=(w,), patch=patch, blocks=2) for w in (192, 128, 64)]
    else:
        models = [
            ConvAutoencoder(
                channels=(w, 2 * w, 2 * w), patch=patch // 4, blocks=2, dtype="bfloat16"
            )
            for w in (192, 128, 64)
        ]
    shortest = modality.lengths[0] if modality.lengths else samples
    windows = tuple(w for w in (64, 128, 256, 512, 1024) if w <= shortest)
    comments = {
        "modality": f"{samples / rate:.3g} s: {why}. {rate:,} Hz: {_why_rate(rates, rate)}.",
        "task.model": f"{patch} samples become a code: {steps} codes for {samples / rate:.3g} s.",
        "task.quantizer": _why_codes(codes, vectors),
        "task.perceptual": (
            "With the error of the waveform alone, the decoder would tend to silence."
        ),
    }
    return Part(
        column,
        modality,
        wanted,
        steps,
        f"{shown}, as {steps} codes of {codes}",
        tuple(models),
        codes,
        (Mel(rate=rate, windows=windows),) if windows else (),
        "l2",
        longest,
        fill=fill,
        comments=tuple(comments.items()),
    )


def _patch(samples: int, rate: int, machine: Machine) -> int:
    """Returns the number of samples per code: about 1/64 s, more if there were too many codes."""
    codes = min(MOST_CODES[machine.is_cpu], max(32, 64 * samples // rate))
    return 2 ** int(np.clip(round(math.log2(max(1, samples / codes))), 4, 10))


def _why_rate(rates: Counter[int], rate: int) -> str:
    if rate not in rates:
        return "the highest for the machine; all sounds are resampled"
    return (
        "the rate of all sounds"
        if len(rates) == 1
        else ("the most frequent; other sounds are resampled")
    )
