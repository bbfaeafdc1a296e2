"""Agreement of modalities, measured by the classes that recognisers assign to samples.

All modalities of an example, such as a picture, a tone and a word, have the same class. *Coherence*
of text>image is the fraction of pictures, generated from texts, in which the class of the text is
recognised. *Joint agreement* is the fraction of unconditional samples in which all recognisers
return the same class (Shi et al., "Variational Mixture-of-Experts Autoencoders for Multi-Modal Deep
Generative Models", arXiv:1911.03393, section 4).
"""

from collections.abc import Mapping

import numpy as np

from vqdit.evaluation.intervals import Estimate, rate
from vqdit.evaluation.recognizers import UNKNOWN
from vqdit.typing import Int


def coherence(classes: Int[np.ndarray, " b"], wanted: Int[np.ndarray, " b"]) -> Estimate:
    """Returns the fraction of samples whose recognised class is the wanted one."""
    return rate((classes == wanted) & (classes != UNKNOWN))


def recognised(classes: Int[np.ndarray, " b"]) -> Estimate:
    """Returns the fraction of samples in which any class was recognised, not `UNKNOWN`."""
    return rate(classes != UNKNOWN)


def agreement(classes: Mapping[str, Int[np.ndarray, " b"]]) -> Estimate:
    """Returns the fraction of samples in which all modalities have the same recognised class.

    Args:
        classes: the class recognised in each sample, keyed by modality; at least two modalities.
    """
    if len(classes) < 2:
        raise ValueError(f"agreement needs at least two modalities, got {', '.join(classes)!r}")
    first, *others = classes.values()
    return rate((first != UNKNOWN) & np.all([first == other for other in others], axis=0))
