"""Images: exact through networks' numbers and back, read from and written to files."""

import base64
import io
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as Pillow

from vqdit.modalities import Image, pictures
from vqdit.modalities.drawing import picture_html, tile
from vqdit.modalities.pictures import read_picture


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path)
    return path


@pytest.mark.parametrize("jit", [False, True])
def test_every_value_survives_the_way_there_and_back(jit):
    image = Image(size=(16, 16), channels=1)
    raw = jnp.arange(256, dtype=jnp.uint8).reshape(1, 16, 16, 1)
    standardize, restore = image.standardize, image.restore
    if jit:
        standardize, restore = jax.jit(standardize), jax.jit(restore)
    x = standardize(raw)
    assert x.dtype == jnp.float32 and x.min() == -1.0 and x.max() == 1.0
    np.testing.assert_allclose(x.ravel(), np.arange(256) / 127.5 - 1, atol=1e-7)
    restored = restore(x)
    assert restored.dtype == jnp.uint8
    np.testing.assert_array_equal(restored, raw)


def test_restoring_rounds_to_the_nearest_and_clips():
    x = np.asarray([-9.0, -1.001, -1 + 0.49 / 127.5, -1 + 0.51 / 127.5, 0.99999, 1.001, 9.0])
    x = jnp.asarray(x, jnp.float32).reshape(1, 1, 7, 1)
    restored = Image(size=(1, 7), channels=1).restore(x)
    assert restored.ravel().tolist() == [0, 0, 0, 1, 255, 255, 255]


def test_shape_is_height_width_channels():
    assert Image(size=(4, 6), channels=3).shape == (4, 6, 3)


def test_a_file_is_read_in_the_channels_of_the_modality(tmp_path):
    pixels = noise(4, 6, 3)
    file = str(save(tmp_path / "x.png", pixels))
    (found,) = Image(size=(4, 6), channels=3).read(file)
    np.testing.assert_array_equal(found, pixels)
    (grey,) = Image(size=(4, 6), channels=1).read(file)
    assert grey.shape == (4, 6, 1) and grey.dtype == np.uint8
    assert np.abs(grey[..., 0] - pixels @ [0.299, 0.587, 0.114]).max() <= 1.0


def test_a_file_of_another_size_is_fitted_as_training_data_are_and_said(tmp_path, caplog):
    caplog.set_level("INFO")
    file = save(tmp_path / "x.png", noise(9, 6, 3))
    (found,) = Image(size=(6, 4), channels=3).read(str(file))
    np.testing.assert_array_equal(found, read_picture(file, (6, 4), 3))
    (said,) = caplog.messages
    assert (
        said
        == f"converted to the form of the training data (cropped and resized to 6x4 pixels): {file}"
    )


@pytest.mark.parametrize(
    ("shape", "fit", "changes"),
    [
        ((12, 18), "crop", ()),
        ((4, 6), "pad", ()),
        ((2, 3), "crop", ("enlarged",)),
        ((13, 18), "crop", ()),  # a third of a pixel of the result
        ((18, 18), "crop", ("cropped",)),
        ((18, 18), "pad", ("padded",)),
        ((18, 18), "stretch", ("stretched",)),
        ((3, 9), "pad", ("padded", "enlarged")),
    ],
)
def test_a_cell_says_what_was_done_to_its_picture(tmp_path, shape, fit, changes):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    Pillow.fromarray(pixels).save(tmp_path / "x.png")
    image = Image(size=(4, 6), fit=fit)
    cell = image.read_cell(tmp_path / "x.png")
    assert cell.changes == changes
    np.testing.assert_array_equal(cell.stored, pictures.fit(pixels, (4, 6), fit))
    np.testing.assert_array_equal(image.read(str(tmp_path / "x.png")), [cell.stored])
    np.testing.assert_array_equal(
        image.read_cell((tmp_path / "x.png").read_bytes()).stored, cell.stored
    )


def test_a_folder_is_read_in_order_without_what_is_no_picture(tmp_path):
    names = ["b.png", "a.PNG", "10.png", "9.png"]
    pixels = {name: noise(4, 4, 1, seed=seed) for seed, name in enumerate(names)}
    for name, values in pixels.items():
        save(tmp_path / name, values)
    for other in ("notes.txt", "._a.png", ".DS_Store"):
        (tmp_path / other).write_bytes(b"no picture")
    save(tmp_path / "deeper" / "c.png", noise(4, 4, 1))
    found = Image(size=(4, 4), channels=1).read(str(tmp_path))
    expected = [pixels[name] for name in ("10.png", "9.png", "a.PNG", "b.png")]
    np.testing.assert_array_equal(found, expected)


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    pixels = noise(4, 4, 1)
    save(tmp_path / "x.png", pixels)
    np.testing.assert_array_equal(Image(size=(4, 4), channels=1).read("~/x.png"), [pixels])


def test_what_cannot_be_read_is_named(tmp_path):
    image = Image(size=(4, 4))
    with pytest.raises(FileNotFoundError, match=f"no picture {tmp_path}/x.png"):
        image.read(str(tmp_path / "x.png"))
    (tmp_path / "x.png").write_bytes(b"<html>")
    with pytest.raises(ValueError, match=f"cannot decode the picture {tmp_path}/x.png"):
        image.read(str(tmp_path / "x.png"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=f"no picture in the folder {tmp_path}/empty; .*.webp"):
        image.read(str(tmp_path / "empty"))


@pytest.mark.parametrize("channels", [1, 3])
def test_every_sample_is_written_pixel_for_pixel(tmp_path, channels):
    samples = noise(5, 4, 6, channels)
    Image(size=(4, 6), channels=channels).write(samples, tmp_path)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [f"image_{n:04d}.png" for n in range(5)]
    for file, sample in zip(files, samples, strict=True):
        pixels = np.asarray(Pillow.open(file))
        np.testing.assert_array_equal(pixels.reshape(sample.shape), sample)


def test_a_picture_is_shown_in_html_enlarged_by_a_whole_factor():
    pixels = noise(8, 4, 1)
    html = picture_html(pixels)
    start = '<img src="data:image/png;base64,'
    assert html.startswith(start)
    data, rest = html.removeprefix(start).split('"', 1)
    assert rest == ' width="48" height="96">'
    shown = np.asarray(Pillow.open(io.BytesIO(base64.b64decode(data))))
    np.testing.assert_array_equal(shown, pixels[..., 0])
    assert 'width="300" height="200"' in picture_html(noise(200, 300, 3))  # never made smaller


def test_a_grid_has_the_images_row_by_row_on_grey():
    images = noise(5, 4, 6, 3)
    canvas = tile(images, edge=1)
    assert canvas.shape == (2 * (4 + 2) + 2, 3 * (6 + 2) + 2, 3)
    rest = np.ones(canvas.shape, bool)
    for number, image in enumerate(images):
        top, left = 2 + 6 * (number // 3), 2 + 8 * (number % 3)
        np.testing.assert_array_equal(canvas[top : top + 4, left : left + 6], image)
        rest[top : top + 4, left : left + 6] = False
    assert (canvas[rest] == 127).all()


def test_small_images_are_enlarged_by_a_whole_factor():
    images = noise(4, 8, 8, 1)
    canvas = tile(images)  # 512 // (2 * 10) is 25
    assert canvas.shape == (2 * (200 + 25) + 25, 2 * (200 + 25) + 25, 1)
    for number, image in enumerate(images):
        top, left = 25 + 225 * (number // 2), 25 + 225 * (number % 2)
        shown = canvas[top : top + 200, left : left + 200]
        np.testing.assert_array_equal(shown, image.repeat(25, axis=0).repeat(25, axis=1))


def test_a_grid_may_be_given_its_columns():
    canvas = tile(noise(6, 4, 4, 1), columns=6, edge=1)
    assert canvas.shape == (4 + 4, 6 * 6 + 2, 1)


@pytest.mark.parametrize("fields", [{"size": (0, 4)}, {"size": (4, -1)}, {"channels": 4}])
def test_bad_fields_are_refused_by_value(fields):
    (value,) = fields.values()
    with pytest.raises(ValueError, match=f"Image needs .*got {re.escape(str(value))}"):
        Image(**fields)
