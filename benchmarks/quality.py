"""Measures the pictures of a labelled run: class accuracy, variety, and reconstruction.

    python -m benchmarks.quality --workdir=runs/fashion_dit

A support vector machine with RBF kernel is fitted on real training pictures. It classifies real
held-out pictures, their reconstructions, and samples conditioned on a class. Variety is the
coverage of Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models",
arXiv:2002.09797, of the held-out pictures in raw pixels, beside that of real training pictures.
"""

import argparse
import json
from pathlib import Path

import jax
import numpy as np

import vqdit
from vqdit.data import Source
from vqdit.evaluation.image_scores import coverage, pixels
from vqdit.evaluation.recognizers import ImageRecognizer
from vqdit.inference.generator import Generator
from vqdit.runs import workdir

JUDGED = 10_000
"""Maximal number of training pictures of the classifier, whose cost grows with their square."""
HELD_OUT = 1000


def real(source: Source, splits: tuple[str, ...], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns at most `count` pictures of some splits, drawn at random, and their labels."""
    parts = [source.split(name) for name in splits]
    arrays = [part.take(np.arange(len(part))) for part in parts]
    images, labels = (np.concatenate([a[name] for a in arrays]) for name in ("image", "label"))
    order = np.random.default_rng(0).permutation(len(labels))[:count]
    return images[order], labels[order]


def score(recognizer: ImageRecognizer, images: np.ndarray, labels: np.ndarray) -> float:
    """Returns the share of pictures whose predicted class is that of their label."""
    return float(np.mean(recognizer.predict(images) == labels))


def measure(folder: Path, num: int, guidance: float | None = None) -> dict[str, float]:
    """Measures a generator of labelled pictures, and its tokenizer.

    Args:
        folder: workdir of the generator, or of a config whose last experiment it is.
        num: samples; also the number of training pictures that coverage is compared with.
        guidance: scale; None takes the config's.
    """
    model = vqdit.load(folder)
    if not isinstance(model, Generator):
        raise SystemExit(f"{folder} holds no generator")
    source = workdir.read_experiment(workdir.find_run(folder)).data.source
    train, train_labels = real(source, ("train",), JUDGED)
    test, test_labels = real(source, ("validation", "test"), HELD_OUT)
    recognizer = ImageRecognizer(train, train_labels)

    held, tokenizer = model.frozen["image"], model.task.tokenizers["image"]
    codes = jax.jit(tokenizer.encode)(held["params"], held["stats"], test)
    again = np.asarray(jax.jit(tokenizer.decode)(held["params"], held["stats"], codes))
    error = np.mean((pixels(test) - pixels(again)) ** 2, axis=1)

    samples = model.sample(num, guidance=guidance)
    images, labels = samples["image"], samples["label"]
    return {
        "judge on held-out pictures": score(recognizer, test, test_labels),
        "judge on their reconstructions": score(recognizer, again, test_labels),
        "PSNR of reconstructions, dB": float(np.mean(-10 * np.log10(np.maximum(error, 1e-10)))),
        "samples judged as the asked class": score(recognizer, images, labels),
        "coverage by samples": coverage(pixels(test), pixels(images)),
        "coverage by training pictures": coverage(pixels(test), pixels(train[:num])),
    }


def main() -> None:
    """Prints the numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--num", type=int, default=500)
    parser.add_argument("--guidance", type=float)
    args = parser.parse_args()
    print(json.dumps(measure(args.workdir, args.num, args.guidance), indent=2))


if __name__ == "__main__":
    main()
