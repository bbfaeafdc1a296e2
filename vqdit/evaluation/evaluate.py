"""Evaluation of a generator with recognisers: agreement of modalities, image quality, scoring."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from vqdit import rules
from vqdit.data import Source
from vqdit.evaluation.agreement import agreement, coherence, recognised
from vqdit.evaluation.image_scores import ImageFeatures, coverage, frechet, pixels
from vqdit.evaluation.recognizers import Recognizer, Values, classes_of

log = logging.getLogger(__name__)

HELD_OUT = ("validation", "test")
MAX_CANDIDATES = 64
"""Largest number of distinct texts or labels that scoring compares."""
OTHERS = 2
"""Rank of modalities that are neither labels nor texts; see `_order`."""


def draw(source: Source, splits: tuple[str, ...], count: int) -> Values:
    """Returns at most `count` stored examples of some splits, the same in repeated calls."""
    random = np.random.default_rng(0)
    parts = [source.split(name) for name in splits]
    ends = np.cumsum([0, *map(len, parts)])
    chosen = np.sort(random.permutation(ends[-1])[:count])
    taken = [
        part.take(chosen[(chosen >= start) & (chosen < end)] - start)
        for part, start, end in zip(parts, ends[:-1], ends[1:], strict=True)
    ]
    order = random.permutation(len(chosen))
    return {name: np.concatenate([part[name] for part in taken])[order] for name in taken[0]}


def measure_agreement(
    generator: Any,
    recognizers: Mapping[str, Recognizer],
    train: Values,
    held_out: Values,
    *,
    num: int,
    guidance: float | None = None,
    seed: int = 0,
    batch_size: int = 64,
) -> dict[str, Any]:
    """Measures how well a generator's modalities agree, and the quality of its images.

    The confidence intervals are over samples. If there are more samples than held-out examples,
    each example is given several times, and the intervals hold for this set of examples only.

    Args:
        generator: has `sample` and `task` as `vqdit.inference.generator.Generator` does.
        recognizers: a recogniser for each modality of the model.
        train: real training values by modality, in random order, with the column `label`. If the
            values of `label` are not class numbers, the column `CLASSES` has the class numbers.
        held_out: held-out values and labels; the samples cycle through them as given values.
        num: number of samples for each pair of modalities, and of unconditional samples.
        guidance: scale of classifier-free guidance; None uses the model's.
        seed: seed of the noise.
        batch_size: number of samples in a batch.

    Raises:
        ValueError: a number is out of range.
    """
    rules.check(rules.SEVERAL, num=num)
    rules.check(rules.BATCH, batch_size=batch_size)
    sampling = _Sampling(generator, held_out, num, guidance, seed, batch_size)
    pairs, conditional = _pairs(sampling, recognizers)
    joint, samples = _joint(sampling, recognizers)
    real = {
        name: coherence(recognizer.predict(held_out[name]), classes_of(held_out))._asdict()
        for name, recognizer in recognizers.items()
    }
    record = {"recognisers": real, "pairs": pairs, "joint": joint}
    if picture := first_picture(sampling.targets, held_out):
        record["images"] = _images(picture, conditional, samples[picture], train, held_out)
    return record


def first_picture(names: Iterable[str], values: Values) -> str | None:
    """Returns the first of the modalities whose values are pictures of one size, if any is."""
    found = (n for n in names if values[n].dtype == np.uint8 and values[n].ndim == 4)
    return next(found, None)


class _Sampling(NamedTuple):
    """Draws samples in batches of a fixed shape; fields are arguments of `measure_agreement`."""

    generator: Any
    held_out: Values
    num: int
    guidance: float | None
    seed: int
    batch_size: int

    @property
    def targets(self) -> list[str]:
        """Names of the modalities that the model generates."""
        return list(self.generator.task.targets)

    @property
    def conditions(self) -> list[str]:
        """Names of the labels that are conditions, not targets."""
        return list(self.generator.task.conditions)

    def draw(self, given: str | None, want: list[str]) -> Values:
        """Generates from one given modality, or unconditionally."""
        size = min(self.batch_size, self.num)
        total = -(-self.num // size) * size
        known: Values = {name: np.asarray([-1], np.int32) for name in self.conditions}
        if given:
            known[given] = self.held_out[given]  # sample i takes item i mod n
        samples = self.generator.sample(
            total,
            given=known,
            want=want,
            guidance=self.guidance if given else 1.0,
            seed=self.seed,
            batch_size=size,
        )
        return {name: samples[name][: self.num] for name in want}


def _pairs(
    sampling: _Sampling, recognizers: Mapping[str, Recognizer]
) -> tuple[dict[str, Any], Values]:
    """Returns the coherence of every pair of modalities, and the generated pictures.

    The pictures are those of `first_picture`, by the name of the modality that was given.
    """
    pairs, images = {}, {}
    picture = first_picture(sampling.targets, sampling.held_out)
    for given in [*sampling.targets, *sampling.conditions]:
        for want in sampling.targets:
            if given == want:
                continue
            values = sampling.draw(given, [want])[want]
            classes = recognizers[want].predict(values)
            coherent = coherence(classes, np.resize(classes_of(sampling.held_out), sampling.num))
            pairs[f"{given}>{want}"] = {
                "coherent": coherent._asdict(),
                "recognised": recognised(classes)._asdict(),
            }
            log.info("%s>%s: %.3f", given, want, coherent.value)
            if want == picture:
                images[given] = values
    return pairs, images


def _joint(
    sampling: _Sampling, recognizers: Mapping[str, Recognizer]
) -> tuple[dict[str, Any], Values]:
    """Returns the joint agreement of unconditional samples, and these samples."""
    samples = sampling.draw(None, sampling.targets)
    classes = {name: recognizers[name].predict(values) for name, values in samples.items()}
    rates: dict[str, Any] = {
        "recognised": {name: recognised(found)._asdict() for name, found in classes.items()}
    }
    if len(classes) > 1:
        rates["agree"] = agreement(classes)._asdict()
    return rates, samples


def _images(
    name: str, conditional: Values, joint: np.ndarray, train: Values, held_out: Values
) -> dict[str, Any]:
    """Measures coverage and Frechet distance of images.

    Args:
        name: name of the pictures.
        conditional: images generated from one other modality, by its name.
        joint: images of unconditional samples, generated together with all other modalities.
        train: real training values.
        held_out: real values that the model has not seen.
    """
    count = min(len(joint), len(train[name]))
    record: dict[str, Any] = {"name": name, "count": count}
    if conditional:
        given = min(conditional, key=lambda other: _order(held_out[other]))
        real = pixels(held_out[name])
        record["coverage"] = {
            "of": f"{given}>{name}",
            "samples": coverage(real, pixels(conditional[given][:count])),
            "training": coverage(real, pixels(train[name][:count])),
        }
    features = ImageFeatures(train[name], classes_of(train))
    real = features(held_out[name])
    record["frechet"] = {
        "samples": frechet(features(joint[:count]), real),
        "training": frechet(features(train[name][:count]), real),
    }
    return record


def _order(values: np.ndarray) -> int:
    """Returns the rank of a modality by its values: 0 for labels, 1 for texts, else `OTHERS`."""
    if values.ndim > 1 or not len(values):
        return OTHERS
    return 0 if values.dtype.kind in "iu" else 1 if isinstance(values[0], str) else OTHERS


def score_images(
    generator: Any,
    recognizers: Mapping[str, Recognizer],
    train: Values,
    held_out: Values,
    *,
    rounds: int = 32,
    seed: int = 0,
    batch_size: int = 64,
) -> dict[str, Any]:
    """Classifies held-out images by the candidate with the highest likelihood.

    Args:
        generator: has `score` and `task` as `vqdit.inference.generator.Generator` does.
        recognizers: a recogniser for each modality of the model.
        train: real training values; the distinct values of texts and labels are the candidates.
        held_out: real values of images that the model has not seen.
        rounds: network evaluations per score.
        seed: seed of the noise.
        batch_size: number of scores in a batch.

    Returns:
        Accuracy, keyed by modality of the candidates.
    """
    found = {}
    picture = first_picture(held_out, held_out)
    if picture is None:
        return found
    for name in generator.task.targets:
        if _order(train[name]) == OTHERS:
            continue
        candidates = np.unique(train[name])
        if len(candidates) > MAX_CANDIDATES:
            log.info("scoring skips %s, which has too many candidates: %d", name, len(candidates))
            continue
        scores = generator.score(
            {picture: held_out[picture]},
            {name: candidates},
            rounds=rounds,
            seed=seed,
            batch_size=batch_size,
        )
        best = recognizers[name].predict(candidates[scores.argmax(axis=1)])
        found[name] = coherence(best, classes_of(held_out))._asdict()
        log.info("%s>%s by score: %.3f", picture, name, found[name]["value"])
    return found
