"""Modalities: the only modules that know the kind of their data."""

from vqdit.modalities.audio import Audio
from vqdit.modalities.base import Modality
from vqdit.modalities.image import Image
from vqdit.modalities.label import Label
from vqdit.modalities.text import Text

__all__ = ["Audio", "Image", "Label", "Modality", "Text"]
