"""Data: sources of examples, augmentation, and the pipeline that makes batches."""

from vqdit.data.asterisk_speech import AsteriskSpeech
from vqdit.data.audio_folder import AudioFolder
from vqdit.data.augment import Affine, Augmentation, HorizontalFlip
from vqdit.data.augment_sounds import Crop, Gain, Mixing
from vqdit.data.batch import Batch
from vqdit.data.chorales import Chorales
from vqdit.data.dialogues import Dialogues
from vqdit.data.digits import Digits
from vqdit.data.encoded import Encoded
from vqdit.data.fashion_mnist import FashionMNIST
from vqdit.data.image_folder import ImageFolder
from vqdit.data.kjv import KJV
from vqdit.data.missing import Missing
from vqdit.data.mixture import Mixture
from vqdit.data.moving_fashion import MovingFashion
from vqdit.data.pipeline import Data
from vqdit.data.sources import Feature, Source
from vqdit.data.spoken_fashion import SpokenFashion
from vqdit.data.spoken_words import SpokenWords
from vqdit.data.stock import TFDS
from vqdit.data.table import Table
from vqdit.data.text_files import TextFiles
from vqdit.data.video_folder import VideoFolder

__all__ = [
    "KJV",
    "TFDS",
    "Affine",
    "AsteriskSpeech",
    "AudioFolder",
    "Augmentation",
    "Batch",
    "Chorales",
    "Crop",
    "Data",
    "Dialogues",
    "Digits",
    "Encoded",
    "FashionMNIST",
    "Feature",
    "Gain",
    "HorizontalFlip",
    "ImageFolder",
    "Missing",
    "Mixing",
    "Mixture",
    "MovingFashion",
    "Source",
    "SpokenFashion",
    "SpokenWords",
    "Table",
    "TextFiles",
    "VideoFolder",
]
