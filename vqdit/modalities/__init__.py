"""Modalities: kinds of data. Only these modules depend on the kind of data."""

from vqdit.modalities.audio import Audio
from vqdit.modalities.base import Modality
from vqdit.modalities.image import Image
from vqdit.modalities.label import Label
from vqdit.modalities.text import Text
from vqdit.modalities.units import BPE, Bytes, Units
from vqdit.modalities.video import Video

__all__ = ["BPE", "Audio", "Bytes", "Image", "Label", "Modality", "Text", "Units", "Video"]
