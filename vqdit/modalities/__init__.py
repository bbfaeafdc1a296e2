"""Modalities: the only files that know what their data are."""

from vqdit.modalities.audio import Audio
from vqdit.modalities.base import Modality
from vqdit.modalities.image import Image
from vqdit.modalities.label import Label
from vqdit.modalities.text import Text

__all__ = ["Audio", "Image", "Label", "Modality", "Text"]
