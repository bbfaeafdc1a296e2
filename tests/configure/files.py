"""Pictures and sounds of noise."""

import numpy as np
import soundfile
from PIL import Image

WORDS = ("red", "green", "blue", "grey")


def picture(file, height, width, seed=0, colour=True):
    file.parent.mkdir(parents=True, exist_ok=True)
    shape = (height, width, 3) if colour else (height, width)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(file)


def sound(file, samples=400, rate=4000, seed=0):
    file.parent.mkdir(parents=True, exist_ok=True)
    wave = np.random.default_rng(seed).integers(-9000, 9000, samples).astype(np.int16)
    soundfile.write(file, wave, rate)
