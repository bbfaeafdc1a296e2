"""Augmentations against the same change written out for every pixel."""

import numpy as np
import pytest

from vqdit.data import Affine, HorizontalFlip


def generator(seed=0):
    return np.random.Generator(np.random.Philox(seed))


def noise(height=9, width=7, channels=3):
    shape = (height, width, channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


class Fixed(np.random.Generator):
    """A generator whose every draw is where it is told to be between the limits."""

    def __init__(self, *places):
        super().__init__(np.random.Philox(0))
        self._places = list(places)

    def uniform(self, low, high, size=None):
        place = self._places.pop(0)
        return low + (high - low) * (np.full(size, place) if size else place)


def test_a_flip_mirrors_left_and_right():
    image = noise()
    flipped = HorizontalFlip(probability=1.0).apply(image, generator())
    for x in range(7):
        np.testing.assert_array_equal(flipped[:, x], image[:, 6 - x])
    np.testing.assert_array_equal(HorizontalFlip(probability=0.0).apply(image, generator()), image)


def test_a_flip_happens_in_its_share_of_the_examples():
    image, flip, source = noise(), HorizontalFlip(probability=0.25), generator()
    flips = [not np.array_equal(flip.apply(image, source), image) for _ in range(4000)]
    assert abs(np.mean(flips) - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4000)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_affine_change_of_nothing_is_the_identity(channels):
    image = noise(channels=channels)
    affine = Affine(rotate=0.0, scale=0.0, shift=0.0)
    np.testing.assert_array_equal(affine.apply(image, generator()), image)


@pytest.mark.parametrize("shape", [(9, 7, 3), (8, 8, 1), (1, 1, 1)])
def test_shape_and_type_stay(shape):
    image = noise(*shape)
    for augmentation in (HorizontalFlip(probability=1.0), Affine(rotate=90.0, scale=1.0)):
        changed = augmentation.apply(image, generator())
        assert changed.shape == shape and changed.dtype == np.uint8


def test_a_quarter_turn_is_that_of_numpy():
    image = noise(9, 9)
    clockwise = Affine(rotate=90.0, scale=0.0, shift=0.0).apply(image, Fixed(1.0, 0.5, 0.5))
    np.testing.assert_array_equal(clockwise, np.rot90(image, -1))
    back = Affine(rotate=90.0, scale=0.0, shift=0.0).apply(image, Fixed(0.0, 0.5, 0.5))
    np.testing.assert_array_equal(back, np.rot90(image))


def test_a_shift_moves_the_content_and_leaves_black():
    image = noise(10, 20)
    moved = Affine(rotate=0.0, scale=0.0, shift=0.1).apply(image, Fixed(0.5, 0.5, 1.0))
    np.testing.assert_array_equal(moved[1:, 2:], image[:-1, :-2])
    assert not moved[0].any() and not moved[:, :2].any()


@pytest.mark.parametrize(("place", "size"), [(1.0, 2.0), (0.0, 0.5), (0.75, 2**0.5)])
def test_scale_is_the_size_of_the_content(place, size):
    """A cone keeps its tip and gets as much wider as the scale says."""
    y, x = np.mgrid[-20:21, -20:21]
    distance = np.hypot(y, x)
    image = np.clip(200 - 10 * distance, 0, 255).round().astype(np.uint8)[..., None]
    changed = Affine(rotate=0.0, scale=1.0, shift=0.0).apply(image, Fixed(0.5, place, 0.5))
    inside = (distance / size < 18) & (np.maximum(abs(y), abs(x)) / size <= 19)
    expected = 200 - 10 * distance / size
    # interpolation cuts at most the curvature of the cone off its tip
    far = inside & (distance / size > 3)
    assert np.abs(changed[..., 0] - expected)[far].max() <= 1.5
    assert changed[20, 20, 0] == 200


def bilinear(image, y, x):
    """The value at a place between pixels; black outside."""
    value = np.zeros(image.shape[-1])
    for row in (int(np.floor(y)), int(np.floor(y)) + 1):
        for column in (int(np.floor(x)), int(np.floor(x)) + 1):
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                weight = (1 - abs(y - row)) * (1 - abs(x - column))
                value += weight * image[row, column]
    return value


@pytest.mark.parametrize("seed", range(4))
def test_every_pixel_is_where_the_turn_scale_and_shift_take_it(seed):
    """Content at p goes to centre + shift + scale * rotation (p - centre)."""
    image, affine = noise(12, 10), Affine(rotate=40.0, scale=0.4, shift=0.1)
    draws = generator(seed)
    angle = np.deg2rad(draws.uniform(-40.0, 40.0))
    scale = np.exp(draws.uniform(-1, 1) * np.log(1.4))
    shift = draws.uniform(-0.1, 0.1, 2) * (12, 10)
    centre = np.asarray([5.5, 4.5])
    forward = scale * np.asarray([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    changed = affine.apply(image, generator(seed)).astype(float)
    inside = 0
    for row in range(12):
        for column in range(10):
            y, x = np.linalg.solve(forward, np.asarray([row, column]) - centre - shift) + centre
            if 0 <= y <= 11 and 0 <= x <= 9:
                np.testing.assert_allclose(changed[row, column], bilinear(image, y, x), atol=0.51)
                inside += 1
            elif not (-1 < y < 12 and -1 < x < 10):
                assert not changed[row, column].any()
    assert inside > 40


def test_the_same_generator_gives_the_same_change():
    image, affine = noise(), Affine()
    np.testing.assert_array_equal(
        affine.apply(image, generator(1)), affine.apply(image, generator(1))
    )
    assert (affine.apply(image, generator(1)) != affine.apply(image, generator(2))).any()


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (HorizontalFlip, {"probability": 50.0}),
        (HorizontalFlip, {"probability": -0.1}),
        (Affine, {"rotate": -5.0}),
        (Affine, {"scale": -0.1}),
        (Affine, {"shift": -0.1}),
    ],
)
def test_bad_fields_are_refused_by_value(kind, fields):
    (value,) = fields.values()
    with pytest.raises(ValueError, match=f"{kind.__name__} needs .*{value}"):
        kind(**fields)
