"""Do modalities agree? Scores of the classes that recognisers see in generated samples.

One example is one class in several forms: a picture, a tone, a word. *Coherence* of text>image is
the share of the pictures generated from texts in which the recogniser sees the class of the text.
*Joint agreement* is the share of samples, generated from nothing, in which all recognisers see the
same class (Shi et al., "Variational Mixture-of-Experts Autoencoders for Multi-Modal Deep Generative
Models", arXiv:1911.03393, section 4).
"""

from collections.abc import Mapping

import numpy as np

from vqdit.evaluation.intervals import Estimate, rate
from vqdit.evaluation.recognizers import UNKNOWN
from vqdit.typing import Int


def coherence(classes: Int[np.ndarray, " b"], wanted: Int[np.ndarray, " b"]) -> Estimate:
    """Returns the share of samples whose recognised class is the wanted one."""
    return rate((classes == wanted) & (classes != UNKNOWN))


def recognised(classes: Int[np.ndarray, " b"]) -> Estimate:
    """Returns the share of samples whose class was recognised; for texts, of valid words."""
    return rate(classes != UNKNOWN)


def agreement(classes: Mapping[str, Int[np.ndarray, " b"]]) -> Estimate:
    """Returns the share of samples in which all modalities have a class, and the same one.

    Args:
        classes: the class recognised in each sample, by modality; at least two modalities.
    """
    if len(classes) < 2:
        raise ValueError(f"agreement needs at least two modalities, got {', '.join(classes)!r}")
    first, *others = classes.values()
    return rate((first != UNKNOWN) & np.all([first == other for other in others], axis=0))
