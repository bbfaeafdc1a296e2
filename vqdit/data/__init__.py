"""Data: sources of examples, augmentation, and the pipeline that makes batches."""

from vqdit.data.augment import Affine, Augmentation, HorizontalFlip
from vqdit.data.batch import Batch
from vqdit.data.dialogues import Dialogues
from vqdit.data.digits import Digits
from vqdit.data.encoded import Encoded
from vqdit.data.fashion_mnist import FashionMNIST
from vqdit.data.image_folder import ImageFolder
from vqdit.data.kjv import KJV
from vqdit.data.missing import Missing
from vqdit.data.mixture import Mixture
from vqdit.data.pipeline import Data
from vqdit.data.sources import Feature, Source
from vqdit.data.spoken_fashion import SpokenFashion
from vqdit.data.stock import TFDS
from vqdit.data.table import Table
from vqdit.data.text_files import TextFiles

__all__ = [
    "KJV",
    "TFDS",
    "Affine",
    "Augmentation",
    "Batch",
    "Data",
    "Dialogues",
    "Digits",
    "Encoded",
    "FashionMNIST",
    "Feature",
    "HorizontalFlip",
    "ImageFolder",
    "Missing",
    "Mixture",
    "Source",
    "SpokenFashion",
    "Table",
    "TextFiles",
]
