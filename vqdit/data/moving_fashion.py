"""Fashion-MNIST garments that move, turn and bounce, with captions and a tone per direction."""

import colorsys
import math
from typing import Any, NamedTuple

import numpy as np

from vqdit.data.fashion_mnist import GARMENTS, FashionMNIST
from vqdit.data.row_source import feature_of, form
from vqdit.data.sources import SPLITS, Arrays, Feature, Source, Split, check_split
from vqdit.data.spoken_fashion import NOUNS
from vqdit.modalities import Audio, Text, Video
from vqdit.typing import Named, resumable

DIRECTIONS = ("right", "up right", "up", "up left", "left", "down left", "down", "down right")
"""Names of the directions, counterclockwise."""
COLUMNS = ("video", "text", "audio", "label", "direction")
LOWEST = 300.0
"""Frequency in Hz of the tone of the first direction; tones of all directions are two octaves."""
FADE = 0.02
"""Duration in seconds in which a tone begins, and in which it ends."""
VERSION = 1
"""Number of the way in which clips are made; it changes if any clip changes."""


class MovingFashion(Source):
    """Clips of moving garments: `video`, `text`, `audio`, `label` and `direction`.

    Each image of `FashionMNIST` is a garment that moves over a black background; the splits are
    those of `FashionMNIST`. Clip i is a function of `seed` and i. The garment begins near one
    border and moves away from it, so that it keeps its direction for at least half of the clip; it
    bounces at the opposite border. It also turns by at most 90 degrees. `label` is the garment (0
    to 9), `direction` the first direction, `text` a caption such as "a sneaker moves left", and
    `audio` a tone whose pitch tells the direction, as long as the clip.

    Attributes:
        path: folder of the four IDX files, as in `FashionMNIST`.
        columns: names of the columns of the data: any of video, text, audio, label and direction.
        video: format of the clips; the task must have the same `Video`. If it is in colour, each
            garment has a random colour.
        audio: format of the tones; the task must have the same `Audio`.
        text: format of the captions, which have at most 34 bytes; the task must have the same
            `Text`.
        directions: number of directions: 4 (right, up, left and down), or 8 (also the diagonals).
        scale: edge of a garment as a fraction of the smaller edge of the frame.
        held_out: largest number of clips for validation, and of clips for test.
        seed: seed of directions, positions, speeds and colours.
    """

    path: str = resumable("")
    columns: tuple[str, ...] = COLUMNS
    video: Video = Video(channels=1)
    audio: Audio = Audio(samples=16384, rate=8000)
    text: Text = Text(length=40)
    directions: int = 8
    scale: float = 0.5
    held_out: int = resumable(512)
    seed: int = 0

    def __post_init__(self) -> None:
        is_known = {*self.columns} <= {*COLUMNS} and len({*self.columns}) == len(self.columns)
        rule = f"columns of {', '.join(COLUMNS)}, each at most once"
        self.require(rule, bool(self.columns) and is_known)
        self.require("directions 4 or 8", self.directions in (4, 8))
        self.require("scale from 0.1 to 1", 0.1 <= self.scale <= 1.0)
        self.require("held_out >= 1", self.held_out >= 1)
        self.require("seed >= 0", self.seed >= 0)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the directions."""
        return DIRECTIONS[:: 8 // self.directions]

    def features(self) -> Named[Feature]:
        features = {
            "video": feature_of(self.video),
            "text": feature_of(self.text),
            "audio": feature_of(self.audio),
            "label": Feature((), len(GARMENTS), GARMENTS),
            "direction": Feature((), self.directions, self.names),
        }
        return Named({name: features[name] for name in self.columns})

    def split(self, name: str) -> Split:
        check_split(name)
        return _Moving(self, FashionMNIST(path=self.path).split(name), SPLITS.index(name))

    def fingerprint(self) -> dict[str, Any]:
        forms = [form(getattr(self, name)) for name in ("video", "audio", "text")]
        how = [sorted(self.columns), forms, self.directions, self.scale, self.seed, VERSION]
        return {"garments": FashionMNIST(path=self.path).fingerprint(), "how": how}


class Motion(NamedTuple):
    """How a garment moves.

    Positions are fractions of the free range of an axis, which is the size of the frame minus the
    size of the garment.

    Attributes:
        direction: index of the first direction in `MovingFashion.names`.
        start: first position along y and x, from the border that the garment leaves; on an axis
            without movement, from the upper or left border.
        way: distance that the garment moves along each axis of its direction; if it is more than
            1 - start, the garment bounces.
        turn: angle by which the garment turns during the clip, in radians, counterclockwise.
        hue: hue of the garment, from 0 to 1.
        phase: phase of the tone in radians.
    """

    direction: int
    start: tuple[float, float]
    way: float
    turn: float
    hue: float
    phase: float

    @classmethod
    def draw(cls, directions: int, generator: np.random.Generator) -> "Motion":
        """Draws a random motion in one of 4 or 8 directions."""
        direction = int(generator.integers(directions))
        heading = _heading(direction, directions)
        start = [generator.uniform(0.0, 0.4 if sign else 1.0) for sign in heading]
        way, turn = generator.uniform(0.6, 1.2), generator.uniform(-0.5, 0.5) * math.pi
        hue, phase = generator.uniform(), generator.uniform(0.0, 2.0 * math.pi)
        return cls(direction, (start[0], start[1]), way, turn, hue, phase)

    def positions(self, directions: int, frames: int) -> np.ndarray:
        """Returns the position along y and x in every frame, from the upper left: float [f, 2]."""
        time = np.linspace(0.0, 1.0, frames) if frames > 1 else np.zeros(1)
        found = []
        for sign, start in zip(_heading(self.direction, directions), self.start, strict=True):
            gone = start + self.way * time * abs(sign)
            gone = 1.0 - np.abs(1.0 - gone % 2.0)  # bounces at 1
            found.append(1.0 - gone if sign < 0 else gone)
        return np.stack(found, axis=1)


def _heading(direction: int, directions: int) -> tuple[int, int]:
    """Returns the signs of the movement along y (downwards) and x."""
    angle = 2.0 * math.pi * direction / directions
    return -round(1.4 * math.sin(angle)), round(1.4 * math.cos(angle))


def render(garment: np.ndarray, motion: Motion, source: MovingFashion) -> np.ndarray:
    """Returns the clip of a garment uint8 [28, 28]: uint8 [f, h, w, c]."""
    from PIL import Image
    from scipy.ndimage import map_coordinates

    video, (height, width) = source.video, source.video.size
    edge = max(1, round(source.scale * min(height, width)))
    small = np.asarray(Image.fromarray(garment).resize((edge, edge), Image.Resampling.BOX))
    free = np.asarray([height - edge, width - edge])
    corner = motion.positions(source.directions, video.frames) * free
    centre = corner[:, :, None, None] + (edge - 1) / 2.0  # f 2 1 1
    y, x = np.mgrid[:height, :width][:, None] - centre.transpose(1, 0, 2, 3)  # each f h w
    angle = np.linspace(0.0, motion.turn, video.frames)[:, None, None]
    cosine, sine = np.cos(angle), np.sin(angle)
    places = np.stack([cosine * y + sine * x, cosine * x - sine * y]) + (edge - 1) / 2.0
    shade = map_coordinates(small.astype(np.float32), places, order=1)[..., None]
    colour = np.ones(1) if video.channels == 1 else _colour(motion.hue)
    return np.round(shade * colour).astype(np.uint8)


def _colour(hue: float) -> np.ndarray:
    return np.asarray(colorsys.hsv_to_rgb(hue, 0.6, 1.0))


def tone(motion: Motion, source: MovingFashion) -> np.ndarray:
    """Returns the tone of a direction as stored samples; it is at most as long as the clip."""
    audio = source.audio
    count = min(audio.shape[0], round(source.video.frames / source.video.fps * audio.rate))
    seconds = np.arange(count) / audio.rate
    frequency = LOWEST * 2.0 ** (motion.direction * 2.0 / source.directions)
    wave = np.sin(2.0 * math.pi * frequency * seconds + motion.phase)
    edges = np.minimum(seconds, seconds[::-1]) / FADE
    sound = np.round(16383.0 * np.minimum(edges, 1.0) * wave).astype(np.int16)
    least = audio.lengths[0] if audio.lengths else audio.shape[0]
    sound = np.pad(sound, (0, max(0, least - count)))
    return sound if audio.channels == 1 else np.stack([sound, sound], axis=1)


def caption(label: int, direction: str) -> str:
    """Returns the caption of a clip, such as "a sneaker moves up and left"."""
    noun = NOUNS[label]
    verb = "moves" if noun.startswith("a") else "move"
    return f"{noun} {verb} {direction.replace(' ', ' and ')}"


class _Moving:
    def __init__(self, source: MovingFashion, garments: Split, number: int) -> None:
        self._source, self._garments, self._number = source, garments, number

    def __len__(self) -> int:
        most = self._source.held_out if self._number else len(self._garments)
        return min(most, len(self._garments))

    def take(self, rows: np.ndarray) -> Arrays:
        source, garments = self._source, self._garments.take(rows)
        motions = [self._motion(row) for row in rows.tolist()]
        labels = garments["label"].astype(np.int32)
        directions = np.asarray([motion.direction for motion in motions], np.int32)
        found: Arrays = {"label": labels, "direction": directions}
        if "video" in source.columns:
            pairs = zip(garments["image"][..., 0], motions, strict=True)
            found["video"] = np.stack([render(image, motion, source) for image, motion in pairs])
        if "audio" in source.columns:
            found["audio"] = source.audio.pack([tone(motion, source) for motion in motions])
        if "text" in source.columns:
            pairs = zip(labels.tolist(), directions.tolist(), strict=True)
            texts = [caption(label, source.names[number]) for label, number in pairs]
            found["text"] = source.text.pack(texts)
        return {name: found[name] for name in source.columns}

    def _motion(self, row: int) -> Motion:
        key = [self._source.seed, self._number, row]
        return Motion.draw(self._source.directions, np.random.Generator(np.random.Philox(key)))
