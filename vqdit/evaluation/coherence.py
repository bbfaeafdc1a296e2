"""How well what a model generates agrees, judged by recognisers fitted on real training data."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from vqdit.data import Digits, FashionMNIST, Missing, Source, SpokenFashion, digits, spoken_fashion
from vqdit.evaluation.recognizers import (
    CaptionJudge,
    Judge,
    LabelJudge,
    PictureFeatures,
    PictureJudge,
    SpeechJudge,
    ToneJudge,
    WordJudge,
    agreement,
    coherence,
    coverage,
    frechet,
    pixels,
    recognised,
)

log = logging.getLogger(__name__)

Values = dict[str, np.ndarray]
HELD_OUT = ("validation", "test")
CANDIDATES = 64
"""More different texts than this are not compared in scoring."""


def whole(source: Source) -> Source:
    """Returns the data set of which a source takes something away: recognisers see all of it."""
    return whole(source.source) if isinstance(source, Missing) else source


def recognisers(source: Source) -> dict[str, Callable[[Values], Judge]]:
    """Returns, by name of the modality, what fits a data set's recognisers on training data.

    Raises:
        ValueError: the data set has none.
    """

    def picture(train: Values) -> Judge:
        return PictureJudge(train["image"], train["label"])

    def caption(train: Values) -> Judge:
        return CaptionJudge(train["text"], train["label"])

    def speech(train: Values) -> Judge:
        return SpeechJudge(train["audio"], train["label"], spoken_fashion.RATE)

    every = {"image": picture, "label": lambda train: LabelJudge()}
    found = {
        Digits: {
            **every,
            "audio": lambda train: ToneJudge(digits.TONES, digits.RATE),
            "text": lambda train: WordJudge(digits.WORDS),
        },
        FashionMNIST: every,
        SpokenFashion: {**every, "audio": speech, "text": caption},
    }
    if type(source) not in found:
        known = ", ".join(cls.__name__ for cls in found)
        raise ValueError(
            f"no recognisers for the data of {type(source).__name__}; coherence can be measured "
            f"on {known}"
        )
    return found[type(source)]


def draw(source: Source, splits: tuple[str, ...], count: int) -> Values:
    """Returns at most `count` examples of some splits, stored, the same each time."""
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


def measure(
    generator: Any,
    judges: Mapping[str, Judge],
    train: Values,
    held_out: Values,
    *,
    num: int,
    guidance: float | None = None,
    seed: int = 0,
    batch_size: int = 64,
) -> dict[str, Any]:
    """Measures how a generator's modalities agree, and its images if it makes any.

    The intervals are over samples; with more of them than held-out examples, which then are given
    again, they say how precisely this set of examples was measured.

    Args:
        generator: has `sample` and `task` as `vqdit.inference.generator.Generator` does.
        judges: a recogniser for each of its modalities.
        train: real training values by modality, and `label`; in random order.
        held_out: the same of held-out ones; they are given in turn.
        num: samples for each pair, and given nothing.
        guidance: scale of classifier-free guidance; None takes the model's own.
        seed: of the noise.
        batch_size: samples at a time.
    """
    ask = _Questions(generator, held_out, num, guidance, seed, batch_size)
    pairs, conditional = _pairs(ask, judges)
    joint, samples = _joint(ask, judges)
    real = {
        name: coherence(judge.predict(held_out[name]), held_out["label"])._asdict()
        for name, judge in judges.items()
    }
    record = {"recognisers": real, "pairs": pairs, "joint": joint}
    if "image" in samples:
        record["images"] = _images(conditional, samples["image"], train, held_out)
    return record


class _Questions(NamedTuple):
    """What a generator is asked, always in batches of one shape; the fields are `measure`'s."""

    generator: Any
    held_out: Values
    num: int
    guidance: float | None
    seed: int
    batch_size: int

    @property
    def targets(self) -> list[str]:
        """Names of what it generates."""
        return list(self.generator.task.targets)

    @property
    def conditions(self) -> list[str]:
        """Names of labels that can only be given."""
        return list(self.generator.task.conditions)

    def asked(self, name: str, count: int) -> np.ndarray:
        """Returns the held-out values that `count` samples are given, in turn."""
        values = self.held_out[name]
        return values.take([row % len(values) for row in range(count)], axis=0)

    def draw(self, given: str | None, want: list[str]) -> Values:
        """Generates from one modality alone (a label of -1 is none), or from nothing."""
        size = min(self.batch_size, self.num)
        total = -(-self.num // size) * size
        known = {name: np.full(total, -1, np.int32) for name in self.conditions}
        if given:
            known[given] = self.asked(given, total)
        samples = self.generator.sample(
            total,
            given=known,
            want=want,
            guidance=self.guidance if given else 1.0,  # towards what is given, if anything is
            seed=self.seed,
            batch_size=size,
        )
        return {name: samples[name][: self.num] for name in want}


def _pairs(ask: _Questions, judges: Mapping[str, Judge]) -> tuple[dict[str, Any], Values]:
    """Returns the rates of every modality from every other, and the images by what was given."""
    pairs, images = {}, {}
    for given in [*ask.targets, *ask.conditions]:
        for want in ask.targets:
            if given == want:
                continue
            values = ask.draw(given, [want])[want]
            classes = judges[want].predict(values)
            coherent = coherence(classes, ask.asked("label", ask.num))
            pairs[f"{given}>{want}"] = {
                "coherent": coherent._asdict(),
                "recognised": recognised(classes)._asdict(),
            }
            log.info("%s>%s: %.3f", given, want, coherent.value)
            if want == "image":
                images[given] = values
    return pairs, images


def _joint(ask: _Questions, judges: Mapping[str, Judge]) -> tuple[dict[str, Any], Values]:
    """Returns the rates of all modalities from nothing, and the samples."""
    samples = ask.draw(None, ask.targets)
    classes = {name: judges[name].predict(values) for name, values in samples.items()}
    rates: dict[str, Any] = {
        "recognised": {name: recognised(found)._asdict() for name, found in classes.items()}
    }
    if len(classes) > 1:
        rates["agree"] = agreement(classes)._asdict()
    return rates, samples


def _images(
    conditional: Values, joint: np.ndarray, train: Values, held_out: Values
) -> dict[str, Any]:
    """Measures how varied and how lifelike images are.

    Args:
        conditional: those that were generated from one other modality, by its name.
        joint: those that were generated with everything else, from nothing.
        train: real training values.
        held_out: real ones that the model has not seen.
    """
    count = min(len(joint), len(train["image"]))
    record: dict[str, Any] = {"count": count}
    given = next((name for name in ("label", "text", *conditional) if name in conditional), None)
    if given:
        real = pixels(held_out["image"])
        record["coverage"] = {
            "of": f"{given}>image",
            "samples": coverage(real, pixels(conditional[given][:count])),
            "training": coverage(real, pixels(train["image"][:count])),
        }
    features = PictureFeatures(train["image"], train["label"])
    real = features(held_out["image"])
    record["frechet"] = {
        "samples": frechet(features(joint[:count]), real),
        "training": frechet(features(train["image"][:count]), real),
    }
    return record


def score_images(
    generator: Any,
    judges: Mapping[str, Judge],
    train: Values,
    held_out: Values,
    *,
    rounds: int = 32,
    seed: int = 0,
    batch_size: int = 64,
) -> dict[str, Any]:
    """Classifies held-out images by what fits them best: no classifier, only likelihood.

    Args:
        generator: has `score` and `task` as `vqdit.inference.generator.Generator` does.
        judges: a recogniser for each of its modalities.
        train: real training values; its different texts and labels are the candidates.
        held_out: real values of images that the model has not seen.
        rounds: network evaluations per score.
        seed: of the noise.
        batch_size: scores at a time.

    Returns:
        By name of the candidates' modality, the rate of right answers.
    """
    found = {}
    for name in ("label", "text"):
        if name not in generator.task.targets or "image" not in held_out:
            continue
        candidates = np.unique(train[name])
        if len(candidates) > CANDIDATES:
            log.info("scoring is left out for %s: %d candidates", name, len(candidates))
            continue
        scores = generator.score(
            {"image": held_out["image"]},
            {name: candidates},
            rounds=rounds,
            seed=seed,
            batch_size=batch_size,
        )
        best = judges[name].predict(candidates[scores.argmax(axis=1)])
        found[name] = coherence(best, held_out["label"])._asdict()
        log.info("image>%s by score: %.3f", name, found[name]["value"])
    return found
