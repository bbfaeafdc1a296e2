"""Augmentation of training sounds: random windows, loudness, and mixtures."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vqdit.data.augment import Augmentation
from vqdit.data.sources import PRESENT, Arrays, Feature, Split, take
from vqdit.typing import Named

Sound = np.ndarray
LOUDEST = 32767


class SoundAugmentation(Augmentation):
    """Base class of random changes to one stored sound, int16 [n] or [n, c].

    Columns without sounds do not change.
    """

    def change(
        self, sound: Sound, generator: np.random.Generator, another: Callable[[int], Sound]
    ) -> Sound:
        """Returns the changed sound; all randomness comes from `generator`.

        Args:
            sound: the sound.
            generator: source of the randomness.
            another: returns another sound of the training data, given an integer of 63 bits.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'change'")

    @property
    def most(self) -> int | None:
        """Largest length of the result in samples; None if the result is as long as the sound."""
        return None


class Crop(SoundAugmentation):
    """Takes a random window of each sound, so that a tokenizer trains on parts of whole recordings.

    The data must have sounds of different lengths. Evaluation uses the whole recordings.

    Attributes:
        samples: length of the window; shorter sounds stay as they are.
    """

    samples: int = 8192

    def __post_init__(self) -> None:
        self.require("samples >= 1", self.samples >= 1)

    def change(
        self, sound: Sound, generator: np.random.Generator, another: Callable[[int], Sound]
    ) -> Sound:
        start = int(generator.integers(max(0, len(sound) - self.samples) + 1))
        return sound[start : start + self.samples]

    @property
    def most(self) -> int | None:
        return self.samples


class Gain(SoundAugmentation):
    """Makes each sound louder or softer by a random number of decibels, but does not clip it.

    Attributes:
        low: smallest gain in dB.
        high: largest gain in dB.
    """

    low: float = -12.0
    high: float = 6.0

    def __post_init__(self) -> None:
        self.require("low <= high", self.low <= self.high)

    def change(
        self, sound: Sound, generator: np.random.Generator, another: Callable[[int], Sound]
    ) -> Sound:
        gain = 10.0 ** (generator.uniform(self.low, self.high) / 20.0)
        return _whole(gain * sound)


class Mixing(SoundAugmentation):
    """Adds another training sound at random, so that a codec learns mixtures of sounds.

    Labels and texts stay those of the first sound. Sums that would clip are scaled down.

    Attributes:
        probability: probability that a sound is mixed.
        softest: smallest gain of the added sound, in dB.
        loudest: largest gain of the added sound, in dB.
    """

    probability: float = 0.25
    softest: float = -20.0
    loudest: float = 0.0

    def __post_init__(self) -> None:
        self.require("probability in [0, 1]", 0.0 <= self.probability <= 1.0)
        self.require("softest <= loudest", self.softest <= self.loudest)

    def change(
        self, sound: Sound, generator: np.random.Generator, another: Callable[[int], Sound]
    ) -> Sound:
        is_mixed = generator.random() < self.probability
        gain = 10.0 ** (generator.uniform(self.softest, self.loudest) / 20.0)
        if not is_mixed or not len(sound):
            return sound
        other = another(int(generator.integers(2**63)))
        start = int(generator.integers(max(0, len(other) - len(sound)) + 1))
        other = other[start : start + len(sound)]
        total = sound.astype(np.float64)
        total[: len(other)] += gain * other
        return _whole(total)


def check_sounds(
    augment: Sequence[Augmentation], given: Sequence[Augmentation], features: Named[Feature]
) -> None:
    """Raises ValueError unless the augmentations of sounds can be applied to the data."""
    sounds = {name: feature for name, feature in features.items() if feature.is_sound}
    fixed = [name for name, feature in sounds.items() if not feature.ragged]
    for one in (*augment, *given):
        kind = type(one).__name__
        if not isinstance(one, SoundAugmentation):
            continue
        if one in given:
            raise ValueError(f"augment_given augments only pictures; move {kind} to augment")
        if not sounds:
            raise ValueError(
                f"{kind} changes sounds, but the data have no sounds; remove this augmentation"
            )
        if one.most is not None and fixed:
            raise ValueError(
                f"{kind} makes sounds shorter, but all sounds of {fixed[0]!r} have one "
                "length; give the Audio of the data two different bounds in `seconds`"
            )


def change_sounds(
    split: Split,
    features: Named[Feature],
    arrays: Arrays,
    augmentations: Sequence[SoundAugmentation],
    draws: tuple[int, int, np.ndarray],
    lengths: Mapping[str, int] | None,
) -> tuple[Arrays, dict[str, int] | None]:
    """Returns columns with changed sounds, and the lengths to which ragged columns are padded.

    Args:
        split: the training data, from which other sounds are drawn.
        features: feature of every column.
        arrays: columns of a batch, from `take`.
        augmentations: augmentations of sounds, which are applied one after the other.
        draws: seed, step, and the number of each row within the global batch.
        lengths: padded length of each ragged column; None if there is none.
    """
    limits = [one.most for one in augmentations if one.most is not None]
    lengths, arrays = None if lengths is None else dict(lengths), {**arrays}
    for name, feature in features.items():
        if not feature.is_sound:
            continue

        def another(number: int, name: str = name) -> Sound:
            return take(split, np.asarray([number % len(split)]), features)[name][0]

        column, present = arrays[name].copy(), arrays[PRESENT + name]
        for place in range(len(column)):
            if not present[place]:
                column[place] = feature.blank(1)[0]
                continue
            seed, step, rows = draws
            generator = np.random.Generator(np.random.Philox([seed, step, int(rows[place]), 1]))
            for augmentation in augmentations:
                column[place] = augmentation.change(column[place], generator, another)
        arrays[name] = column
        if lengths is not None and name in lengths:
            lengths[name] = min([lengths[name], *limits])
    return arrays, lengths


def _whole(values: np.ndarray) -> Sound:
    """Returns values as int16, scaled down if they would clip."""
    scale = min(1.0, LOUDEST / max(float(np.abs(values).max(initial=0.0)), 1.0))
    return np.round(scale * values).astype(np.int16)
