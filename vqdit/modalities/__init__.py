"""Modalities: the only files that know what their data are."""

from vqdit.modalities.base import Modality
from vqdit.modalities.image import Image
from vqdit.modalities.label import Label

__all__ = ["Image", "Label", "Modality"]
