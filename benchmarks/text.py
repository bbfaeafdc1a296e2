"""Measures baselines of text models: bits per byte of n-gram models and of xz on held-out text.

    python -m benchmarks.text --train=train.txt --test=test.txt
    python -m benchmarks.text --kjv
    python -m benchmarks.text --workdir=runs/kjv_mdlm_cpu

The last one takes the training and held-out texts of a run, and adds the bits per byte of its
model. A file is one document, and a folder has one document per file; every document ends with one
end code (byte 0), which counts as a byte. The n-gram models are over bytes, with interpolated
modified Kneser-Ney smoothing: Chen and Goodman, "An Empirical Study of Smoothing Techniques for
Language Modeling", Harvard TR-10-98, 1998, section 3. `xz -9e` gets the training text as a prefix:
its size of the held-out text is size(train + test) - size(train).
"""

import argparse
import lzma
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from vqdit.cli.given import load_generator
from vqdit.cli.report.text_metrics import Countdown
from vqdit.data import KJV
from vqdit.evaluation.evaluate import HELD_OUT
from vqdit.evaluation.intervals import Estimate
from vqdit.evaluation.recognizers import complete_source
from vqdit.evaluation.text_data import corpus
from vqdit.evaluation.text_measurement import Settings
from vqdit.evaluation.text_metrics import measure_text
from vqdit.runs import workdir
from vqdit.typing import Float, Int, Shaped, UInt8

BYTES = 256
ORDERS = range(1, 8)
"""Orders of the n-gram models; a key of 64 bits holds at most eight bytes."""
FALLBACK = (0.5, 1.0, 1.5)
"""Discounts of an order whose counts of counts do not determine them, as in KenLM."""
DICTIONARY = 64 * 2**20
"""Bytes that xz -9 looks back; more if the text is longer."""

Keys = Shaped[np.ndarray, " n"]
"""n-grams of at most eight bytes as uint64, the last byte in the lowest bits."""


class Level(NamedTuple):
    """The statistics of n-grams of one length.

    Attributes:
        grams: distinct n-grams, sorted.
        discounted: count of each n-gram, less its discount.
        contexts: distinct first n - 1 bytes of them, sorted.
        totals: sum of the counts of the n-grams that begin with a context.
        removed: sum of the discounts of these n-grams.
    """

    grams: Keys
    discounted: Float[np.ndarray, " n"]
    contexts: Keys
    totals: Float[np.ndarray, " m"]
    removed: Float[np.ndarray, " m"]

    def interpolate(self, grams: Keys, lower: Float[np.ndarray, " b"]) -> Float[np.ndarray, " b"]:
        """Returns p(last byte | first n - 1 bytes) of some n-grams.

            p(w | h) = (c(h w) - D(c(h w)) + sum over v of D(c(h v)) p(w | h')) / c(h),

        where h' is h without its first byte. It is p(w | h') if h does not occur.

        Args:
            grams: n-grams of the same length.
            lower: p(w | h') of each.
        """
        numerator = _values(self.grams, self.discounted, grams)
        context = grams >> np.uint64(8)
        total, removed = (
            _values(self.contexts, values, context) for values in (self.totals, self.removed)
        )
        return np.where(total > 0, (numerator + removed * lower) / np.maximum(total, 1.0), lower)


class NGrams(NamedTuple):
    """Models of all orders, of one training text.

    Attributes:
        raw: levels with the counts of n-grams; the highest level of a model.
        continued: levels with the numbers of different bytes before n-grams; its lower levels.
    """

    raw: list[Level]
    continued: list[Level]

    def probabilities(self, text: UInt8[np.ndarray, " b"]) -> Float[np.ndarray, "n b"]:
        """Returns the probability of every byte given those before it, for models of each order.

        Bytes at the beginning, with fewer bytes before them than a model takes, have the
        probability that a model of a lower order gives them.
        """
        lower, rows = np.full(len(text), 1.0 / BYTES), []
        for order, (raw, continued) in enumerate(zip(self.raw, self.continued, strict=True), 1):
            first = min(order - 1, len(text))
            found, grams = lower.copy(), keys(text, order)
            if rows:
                found[:first] = rows[-1][:first]
            found[first:] = raw.interpolate(grams, lower[first:])
            lower[first:] = continued.interpolate(grams, lower[first:])
            rows.append(found)
        return np.stack(rows)


def fit(text: UInt8[np.ndarray, " b"], orders: Iterable[int] = ORDERS) -> NGrams:
    """Returns the n-gram models of a text.

    Raises:
        ValueError: the text is shorter than the longest n-gram.
    """
    highest = max(orders)
    if len(text) <= highest:
        raise ValueError(f"an n-gram model of order {highest} needs more than {len(text)} bytes")
    raw, continued = [], []
    for order in range(1, highest + 1):
        raw.append(_level(*np.unique(keys(text, order), return_counts=True)))
        longer = np.unique(keys(text, order + 1))
        tail = np.uint64(2 ** (8 * order) - 1)
        continued.append(_level(*np.unique(longer & tail, return_counts=True)))
    return NGrams(raw, continued)


def keys(text: UInt8[np.ndarray, " b"], order: int) -> Keys:
    """Returns all n-grams of `order` bytes of a text, in their order there."""
    count = max(len(text) - order + 1, 0)
    found = np.zeros(count, np.uint64)
    for start in range(order):
        found = (found << np.uint64(8)) | text[start : start + count]
    return found


def discounts(counts: Int[np.ndarray, " n"]) -> tuple[float, float, float]:
    """Returns the discounts of n-grams that occur once, twice, and three times or more.

    With n_c the number of n-grams that occur c times and Y = n_1 / (n_1 + 2 n_2), it is
    D_c = c - (c + 1) Y n_(c+1) / n_c (equation 17 of Chen and Goodman).
    """
    n = [int(np.sum(counts == c)) for c in range(5)]
    if not all(n[1:4]):
        return FALLBACK
    y = n[1] / (n[1] + 2 * n[2])
    one, two, three = (c - (c + 1) * y * n[c + 1] / n[c] for c in (1, 2, 3))
    return (one, two, three) if min(one, two, three) >= 0 else FALLBACK


def _level(grams: Keys, counts: Int[np.ndarray, " n"]) -> Level:
    discount = np.asarray((0.0, *discounts(counts)))[np.minimum(counts, 3)]
    contexts, where = np.unique(grams >> np.uint64(8), return_inverse=True)
    totals, removed = (np.bincount(where, values) for values in (counts, discount))
    return Level(grams, counts - discount, contexts, totals, removed)


def _values(known: Keys, values: Float[np.ndarray, " n"], wanted: Keys) -> Float[np.ndarray, " b"]:
    """Returns the value of each wanted key; 0 if it is not known."""
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[at] == wanted, values[at], 0.0)


def bits_per_byte(train: bytes, test: bytes) -> dict[str, float]:
    """Returns the bits per byte of the n-gram models and of xz on a held-out text, by name.

    Raises:
        ValueError: a text is too short.
    """
    if not test:
        raise ValueError("the held-out text is empty")
    models = fit(np.frombuffer(train, np.uint8))
    p = models.probabilities(np.frombuffer(test, np.uint8))
    found = {f"{n}-gram": float(-np.mean(np.log2(row))) for n, row in zip(ORDERS, p, strict=True)}
    return found | {"xz -9e": 8.0 * (_xz_size(train + test) - _xz_size(train)) / len(test)}


def _xz_size(data: bytes) -> int:
    """Returns the bytes that `xz -9e` makes of the data, which it can look back to entirely."""
    preset = 9 | lzma.PRESET_EXTREME
    size = max(DICTIONARY, len(data))
    filters = [{"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": size}]
    return len(lzma.compress(data, filters=filters))


def stream(documents: Iterable[bytes]) -> bytes:
    """Returns documents in a row, each with its end code."""
    return b"".join(document + b"\0" for document in documents)


def read(path: Path) -> list[bytes]:
    """Returns the documents of a file or folder."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [file.read_bytes() for file in files if file.is_file()]


def king_james(splits: Sequence[str]) -> tuple[bytes, bytes]:
    """Returns the training chapters of `vqdit.data.KJV`, and those of the held-out splits."""
    streams = KJV().streams()
    parts = {split: [one for one in streams[split] if isinstance(one, bytes)] for split in streams}
    return stream(parts["train"]), b"".join(stream(parts[split]) for split in splits)


def of_run(folder: Path, splits: Sequence[str], rounds: int) -> None:
    """Prints the table of every text that the model of a run predicts."""
    model, run = load_generator(str(folder)), workdir.find_run(folder)
    source = complete_source(workdir.read_experiment(run).data.source)
    settings = Settings(rounds=rounds)
    with Countdown() as countdown:
        report = countdown.update
        found = measure_text(model, source, splits, ["bits_per_byte"], settings, report=report)
    for name, bound in found["bits_per_byte"].items():
        modality = model.modality(name)
        train = corpus(source, "train", name, modality)
        test = b"".join(corpus(source, split, name, modality) for split in splits)
        print(f"{name}: ", end="")
        show(train, test, {f"{run}, step {model.step}": Estimate(*list(bound.values())[:4])})


def show(train: bytes, test: bytes, others: Mapping[str, Estimate] = MappingProxyType({})) -> None:
    """Prints the table of a text, with what else was measured on it."""
    print(f"{len(train):,} bytes of training text, {len(test):,} of held-out text\n")
    print("| model | bits per byte |\n|---|---|")
    for name, value in bits_per_byte(train, test).items():
        print(f"| {name} | {value:.3f} |")
    for name, bound in others.items():
        limits = f"95 % interval {bound.low:.3f} to {bound.high:.3f}"
        print(f"| {name} | {bound.value:.3f} ({limits}, {bound.count:,} texts) |")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="n-gram models and xz on held-out text")
    parser.add_argument("--train", type=Path, help="file or folder")
    parser.add_argument("--test", type=Path, help="file or folder of held-out text")
    parser.add_argument("--kjv", action="store_true", help="take the King James Bible")
    parser.add_argument("--workdir", type=Path, help="take the texts of a run, and its model")
    parser.add_argument("--split", choices=HELD_OUT, help="held-out text; default: both")
    parser.add_argument("--rounds", type=int, default=32, help="network evaluations per text")
    args = parser.parse_args()
    splits = (args.split,) if args.split else HELD_OUT
    if args.workdir:
        of_run(args.workdir, splits, args.rounds)
    elif args.kjv:
        show(*king_james(splits))
    elif args.train and args.test:
        show(stream(read(args.train)), stream(read(args.test)))
    else:
        parser.error("give --train and --test, --kjv, or --workdir")


if __name__ == "__main__":
    main()
