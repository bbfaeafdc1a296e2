"""Recognisers for any labelled data: one for each kind of modality, fitted on the user's examples.

They are small, and not adapted to any data set. Their accuracy on held-out examples is reported
beside the results for samples.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from vqdit.data import Source
from vqdit.data.sources import PRESENT, Feature
from vqdit.evaluation.image_scores import MAX_FITTED
from vqdit.evaluation.recognizers import (
    CLASSES,
    UNKNOWN,
    ImageRecognizer,
    LabelRecognizer,
    Recognizer,
    Values,
    cepstra,
    classes_of,
    recognizers_for,
)
from vqdit.modalities import Audio, Image, Label, Modality, Text
from vqdit.typing import Float, Int

PARTS = 16
"""Number of parts of equal length in which a sound is described."""
FRAME = 0.025
"""Shortest sound that is described, in seconds; silence is appended to shorter ones."""


class Fitting(NamedTuple):
    """How to fit the recognisers of a model's modalities.

    Attributes:
        fit: by modality, a function from training values and their classes to a recogniser.
        column: the column of the data that holds the classes.
    """

    fit: dict[str, Callable[[Values], Recognizer]]
    column: str = "label"


class SoundRecognizer(Recognizer):
    """An RBF support vector machine on mean cepstra of parts of sounds; silence has no class.

    Sounds may have any lengths. Each is divided into `PARTS` parts of equal length, so a word that
    is spoken slowly resembles the same word spoken fast.

    Args:
        sounds: real training recordings in random order, int16 [n] or [n, c] each.
        labels: their classes.
        rate: samples per second, in Hz.
    """

    def __init__(self, sounds: Iterable[Any], labels: Int[np.ndarray, " b"], rate: int) -> None:
        from sklearn.svm import SVC

        self.rate = rate
        found = np.stack([self._described(sound) for sound in sounds][:MAX_FITTED])
        self._mean, self._scale = found.mean(axis=(0, 1)), found.std(axis=(0, 1)) + 1e-6
        self._model = SVC(C=10.0, gamma="scale").fit(self._features(found), labels[:MAX_FITTED])

    def predict(self, values: Iterable[Any]) -> Int[np.ndarray, " b"]:
        sounds = list(values)
        found = np.stack([self._described(sound) for sound in sounds])
        classes = self._model.predict(self._features(found))
        return np.where([sound.any() for sound in sounds], classes, UNKNOWN).astype(np.int64)

    def _described(self, sound: Int[np.ndarray, "t *_"]) -> Float[np.ndarray, "p c"]:
        """Returns the mean cepstra of each part of a sound; parts of short sounds repeat frames."""
        mono = sound if sound.ndim == 1 else sound.mean(axis=1).astype(sound.dtype)
        missing = round(FRAME * self.rate) - len(mono)
        if missing > 0:
            mono = np.pad(mono, (0, missing))
        frames = cepstra(mono[None], self.rate)[0]
        ends = np.linspace(0, len(frames), PARTS + 1)
        pairs = zip(ends[:-1].astype(int), np.ceil(ends[1:]).astype(int), strict=True)
        return np.stack([frames[start:end].mean(axis=0) for start, end in pairs])

    def _features(self, found: Float[np.ndarray, "b p c"]) -> Float[np.ndarray, "b d"]:
        return ((found - self._mean) / self._scale).reshape(len(found), -1)


class TextRecognizer(Recognizer):
    """A linear support vector machine on counts of character n-grams; a blank text has no class.

    n is 1 to 4, and counts are weighted by the inverse frequency of documents (tf-idf).

    Args:
        texts: real training texts in random order.
        labels: their classes.
    """

    def __init__(self, texts: Iterable[Any], labels: Int[np.ndarray, " b"]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_pipeline
        from sklearn.svm import LinearSVC

        # A text is a str, or bytes if its coding is not valid.
        counts = TfidfVectorizer(
            analyzer="char", ngram_range=(1, 4), sublinear_tf=True, decode_error="replace"
        )
        self._model = make_pipeline(counts, LinearSVC(random_state=0))
        self._model.fit(list(texts)[:MAX_FITTED], labels[:MAX_FITTED])

    def predict(self, values: Iterable[Any]) -> Int[np.ndarray, " b"]:
        texts = list(values)
        is_blank = [not text.strip() for text in texts]
        return np.where(is_blank, UNKNOWN, self._model.predict(texts)).astype(np.int64)


class NamedLabelRecognizer(LabelRecognizer):
    """Recogniser of labels whose values may be names of classes.

    Args:
        label: the modality.
    """

    def __init__(self, label: Label) -> None:
        self._label = label

    def predict(self, values: Any) -> Int[np.ndarray, " b"]:
        return self._label.pack(values).astype(np.int64)


def fitting(model: Any, source: Source) -> Fitting:
    """Returns how to fit recognisers of all modalities of a model on its data.

    If the data set has its own recognisers, these are used.

    Args:
        model: a `vqdit.inference.generator.Generator`.
        source: the data, without `Missing`.

    Raises:
        ValueError: the data have no classes, or a modality cannot be recognised.
    """
    names = [*model.task.targets, *model.task.conditions]
    own = recognizers_for(source)
    if own:
        for name in names:
            if name not in own:
                raise ValueError(
                    f"{type(source).__name__} has no recogniser for {name!r}, only for "
                    f"{', '.join(own)}; use other data"
                )
        return Fitting({name: own[name] for name in names})
    features = source.features()
    column = class_column(features, names)
    return Fitting(
        {name: _of_kind(name, model.modality(name), features, column) for name in names}, column
    )


def class_column(features: Mapping[str, Feature], names: Iterable[str]) -> str:
    """Returns the column of classes: `label`, or else the only column with classes.

    Raises:
        ValueError: there is no such column, or there are several.
    """
    found = [name for name, feature in features.items() if feature.classes and not feature.shape]
    found = [name for name in found if name == "label" or "label" not in found]
    found = [name for name in found if name in set(names)] or found
    if len(found) != 1:
        said = f"they have several: {', '.join(found)}" if found else "they have none"
        raise ValueError(
            f"coherence needs exactly one column of classes in the data, but {said}; the "
            f"columns are {', '.join(features)}"
        )
    return found[0]


def labelled(stored: Values, fitting: Fitting, model: Any) -> Values:
    """Returns the examples that have a class and lack no value, in their order in the data."""
    is_whole = stored[fitting.column] >= 0
    for name in (*fitting.fit, fitting.column):
        is_whole = is_whole & stored.get(PRESENT + name, True)
    classes = stored[fitting.column][is_whole]
    values = {name: model.modality(name).unpack(stored[name][is_whole]) for name in fitting.fit}
    return {"label": classes, **values, CLASSES: classes}


def _of_kind(
    name: str, modality: Modality, features: Mapping[str, Feature], column: str
) -> Callable[[Values], Recognizer]:
    """Returns the function that fits the recogniser of one modality."""
    if name not in features or features[name].encoded:
        raise ValueError(
            f"coherence needs values of {name!r}, but the data have only its tokens, or no "
            "such column; evaluate a run on data that are not encoded"
        )
    match modality:
        case Label() if name == column:
            return lambda train: NamedLabelRecognizer(modality)
        case Image():
            return lambda train: ImageRecognizer(train[name], classes_of(train))
        case Audio():
            return lambda train: SoundRecognizer(train[name], classes_of(train), modality.rate)
        case Text():
            return lambda train: TextRecognizer(train[name], classes_of(train))
    raise ValueError(
        f"no recogniser for {name!r}, a {type(modality).__name__}; coherence can be measured "
        f"only for pictures, sounds, texts and the label {column!r}"
    )
