"""Reading pictures: what is cropped, resized, turned and laid over white, against NumPy."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vqdit.modalities.pictures import find_pictures, fit, read_picture


def noise(height, width, channels=3, seed=0):
    shape = (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path, pixels, **options):
    pixels = np.asarray(pixels)
    grey = pixels.ndim == 3 and pixels.shape[-1] == 1
    Image.fromarray(pixels[..., 0] if grey else pixels).save(path, **options)
    return path


def lanczos(size, start, stop, count):
    """Weights [count, size] of an antialiased Lanczos filter that resizes start..stop."""
    scale = (stop - start) / count
    width = max(scale, 1.0)
    centre = start + (np.arange(count)[:, None] + 0.5) * scale
    x = (np.arange(size) + 0.5 - centre) / width
    weights = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def resized(pixels, size):
    """The centre of uint8 [h, w, c] at another size; Pillow rounds after each axis."""
    height, width = pixels.shape[:2]
    scale = min(height / size[0], width / size[1])
    top, left = (height - scale * size[0]) / 2, (width - scale * size[1]) / 2
    across = lanczos(width, left, left + scale * size[1], size[1])
    down = lanczos(height, top, top + scale * size[0], size[0])
    pixels = np.clip(np.round(np.einsum("wx,hxc->hwc", across, pixels.astype(float))), 0, 255)
    return np.clip(np.round(np.einsum("hy,ywc->hwc", down, pixels)), 0, 255)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((40, 40), (8, 8)),
        ((30, 70), (16, 16)),
        ((71, 33), (9, 9)),
        ((7, 5), (12, 12)),
        ((50, 60), (10, 20)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_centre_is_resized_with_an_antialiased_filter(tmp_path, shape, size, channels):
    pixels = noise(*shape, channels)
    found = read_picture(save(tmp_path / "x.png", pixels), size, channels)
    assert found.shape == (*size, channels) and found.dtype == np.uint8
    assert np.abs(found - resized(pixels, size)).max() <= 1  # fixed-point weights


def test_a_padded_picture_is_whole_between_black_bars():
    pixels = noise(12, 30)
    found = fit(pixels, (10, 10), "pad")
    np.testing.assert_array_equal(found[3:7], fit(pixels, (4, 10)))
    assert not found[:3].any() and not found[7:].any()
    upright = fit(pixels.transpose(1, 0, 2), (10, 10), "pad")
    np.testing.assert_array_equal(upright[:, 3:7], fit(pixels.transpose(1, 0, 2), (10, 4)))


def test_a_stretched_picture_has_all_of_both_axes():
    pixels = noise(12, 30)
    across, down = lanczos(30, 0, 30, 10), lanczos(12, 0, 12, 16)
    wide = np.clip(np.round(np.einsum("wx,hxc->hwc", across, pixels.astype(float))), 0, 255)
    wanted = np.clip(np.round(np.einsum("hy,ywc->hwc", down, wide)), 0, 255)
    found = fit(pixels, (16, 10), "stretch")
    assert np.abs(found - wanted).max() <= 1


@pytest.mark.parametrize("ending", [".jpg", ".tif"])
def test_the_colours_of_printing_become_those_of_a_screen(tmp_path, ending):
    inks = np.zeros((8, 8, 4), np.uint8)
    inks[:, :, 0], inks[:, :, 3] = 255, 51  # cyan with a fifth of black
    Image.fromarray(inks, "CMYK").save(tmp_path / f"x{ending}")
    found = read_picture(tmp_path / f"x{ending}", (8, 8), 3)
    assert np.abs(found.astype(int) - [0, 204, 204]).max() <= 3


def test_fine_stripes_become_grey():
    stripes = np.zeros((256, 256, 1), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(fit(stripes, (16, 16))[:, 1:-1].astype(int) - 127.5).max() <= 2


def test_what_is_cropped_away_is_at_both_ends():
    pixels = np.repeat(np.arange(10, dtype=np.uint8)[None, :, None], 4, axis=0)
    np.testing.assert_array_equal(fit(pixels, (4, 4))[0, :, 0], [3, 4, 5, 6])


@pytest.mark.parametrize("size", [(6, 6), (4, 9)])
def test_a_picture_of_the_right_size_keeps_every_bit(tmp_path, size):
    pixels = noise(*size)
    np.testing.assert_array_equal(read_picture(save(tmp_path / "x.png", pixels), size, 3), pixels)
    webp = save(tmp_path / "x.webp", pixels, lossless=True)
    np.testing.assert_array_equal(read_picture(webp, size, 3), pixels)


def test_a_jpeg_is_what_was_saved_but_for_its_losses(tmp_path):
    pixels = fit(noise(4, 4), (32, 32))
    found = read_picture(save(tmp_path / "x.jpg", pixels, quality=95, subsampling=0), (32, 32), 3)
    assert np.abs(found.astype(int) - pixels).mean() < 3


TURNS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_pictures_are_turned_as_their_exif_says(tmp_path, orientation):
    pixels = noise(6, 6)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = save(tmp_path / "x.png", pixels, exif=exif)
    np.testing.assert_array_equal(read_picture(file, (6, 6), 3), TURNS[orientation](pixels))


def test_a_picture_is_turned_before_it_is_cropped(tmp_path):
    pixels = noise(4, 10)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = save(tmp_path / "x.png", pixels, exif=exif)
    np.testing.assert_array_equal(read_picture(file, (4, 4), 3), np.rot90(pixels, -1)[3:7])


def test_transparency_is_laid_over_white(tmp_path):
    pixels = noise(5, 5, 4)
    alpha = pixels[..., 3:] / 255.0
    expected = pixels[..., :3] * alpha + 255.0 * (1.0 - alpha)
    found = read_picture(save(tmp_path / "x.png", pixels), (5, 5), 3)
    assert np.abs(found - expected).max() <= 1
    pixels[..., 3] = 0
    assert (read_picture(save(tmp_path / "y.png", pixels), (5, 5), 3) == 255).all()
    assert (read_picture(save(tmp_path / "z.webp", pixels, lossless=True), (5, 5), 1) == 255).all()


def test_a_palette_gives_its_colours_and_its_transparency(tmp_path):
    colours = np.asarray([[250, 10, 20], [30, 240, 50], [60, 70, 230]], np.uint8)
    picks = np.random.default_rng(0).integers(0, 3, (5, 5)).astype(np.uint8)
    image = Image.frombytes("P", (5, 5), picks.tobytes())
    image.putpalette(colours.tobytes())
    image.save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "x.png", (5, 5), 3), colours[picks])
    image.save(tmp_path / "y.png", transparency=1)
    expected = np.where((picks == 1)[..., None], 255, colours[picks])
    np.testing.assert_array_equal(read_picture(tmp_path / "y.png", (5, 5), 3), expected)


def test_grey_becomes_colour_and_colour_grey(tmp_path):
    grey, colour = noise(5, 5, 1), noise(5, 5, 3, seed=1)
    found = read_picture(save(tmp_path / "grey.png", grey), (5, 5), 3)
    np.testing.assert_array_equal(found, np.repeat(grey, 3, axis=-1))
    found = read_picture(save(tmp_path / "colour.png", colour), (5, 5), 1)
    luma = colour @ [0.299, 0.587, 0.114]
    assert np.abs(found[..., 0] - luma).max() <= 0.51  # rounded to the nearest, in fixed point


def chunk(name, data):
    checked = name + data
    return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))


def png(values, bits, transparent=None, exif=b""):
    """The bytes of a PNG of grey or colour, with any number of bits."""
    height, width = values.shape[:2]
    kind = 2 if values.ndim == 3 else 0
    rows = values.reshape(height, -1).astype(">u2" if bits == 16 else np.uint8).view(np.uint8)
    if bits < 8:
        axes = rows[..., None]
        rows = np.packbits(np.unpackbits(axes, axis=-1)[..., -bits:].reshape(height, -1), axis=1)
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    chunks = [(b"IHDR", header)] + ([(b"eXIf", exif)] if exif else [])
    if transparent is not None:
        chunks.append((b"tRNS", np.asarray(transparent, ">u2").tobytes()))
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks += [(b"IDAT", packed), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*parts) for parts in chunks)


@pytest.mark.parametrize("transparent", [None, 3120])
def test_16_bit_grey_keeps_its_tones(tmp_path, transparent):
    values = np.linspace(0, 65535, 64).astype(int).reshape(8, 8)
    (tmp_path / "x.png").write_bytes(png(values, 16, transparent))
    expected = np.where(values == transparent, 255, np.round(values / 257.0))[..., None]
    assert (expected[0, 3] == 255) == (transparent is not None)
    np.testing.assert_array_equal(read_picture(tmp_path / "x.png", (8, 8), 1), expected)
    np.testing.assert_array_equal(
        read_picture(tmp_path / "x.png", (8, 8), 3), expected.repeat(3, -1)
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_transparent_tone_of_few_bits_becomes_white(tmp_path, bits):
    values = np.arange(64).reshape(8, 8) % 2**bits
    (tmp_path / "x.png").write_bytes(png(values, bits, transparent=1))
    expected = np.where(values == 1, 255, values * (255 // (2**bits - 1)))[..., None]
    np.testing.assert_array_equal(read_picture(tmp_path / "x.png", (8, 8), 1), expected)


def test_a_transparent_colour_of_16_bits_becomes_white(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (8, 8, 3))
    (tmp_path / "x.png").write_bytes(png(values, 16, transparent=values[2, 3]))
    expected = values >> 8
    expected[2, 3] = 255
    np.testing.assert_array_equal(read_picture(tmp_path / "x.png", (8, 8), 3), expected)


def test_exif_that_cannot_be_read_does_not_refuse_the_pixels(tmp_path):
    values = np.arange(64).reshape(8, 8)
    (tmp_path / "x.png").write_bytes(png(values, 8, exif=b"no TIFF at all"))
    np.testing.assert_array_equal(read_picture(tmp_path / "x.png", (8, 8), 1)[..., 0], values)


@pytest.mark.parametrize("ending", ["gif", "bmp", "tif", "tiff"])
def test_other_kinds_of_pictures_keep_every_bit(tmp_path, ending):
    pixels = noise(8, 8, 1)
    found = read_picture(save(tmp_path / f"x.{ending}", pixels), (8, 8), 1)
    np.testing.assert_array_equal(found, pixels)
    assert find_pictures(tmp_path).pictures == [tmp_path / f"x.{ending}"]


def test_no_decoder_but_those_named_is_used(tmp_path):
    save(tmp_path / "x.eps", noise(8, 8))
    file = (tmp_path / "x.eps").rename(tmp_path / "x.png")
    with pytest.raises(ValueError, match=f"cannot decode the picture {file}: cannot identify"):
        read_picture(file, (8, 8), 3)
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "y.tif")
    with pytest.raises(ValueError, match="y.tif: the pixels have more than 16 bits; replace or"):
        read_picture(tmp_path / "y.tif", (4, 4), 1)


@pytest.mark.parametrize("size", [(60_000, 60_000), (10_000, 10_000), (2**31 - 1, 1)])
def test_pictures_of_too_many_pixels_are_refused_by_their_header(tmp_path, size, recwarn):
    content = png(np.zeros((1, 1)), 8)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 6, 0, 0, 0))
    file = tmp_path / "x.png"
    file.write_bytes(content[:8] + header + content[33:])
    count = size[0] * size[1]
    match = rf"{file}: Image size .{count} pixels. is not allowed; it must be from 1 to 67,108,864"
    with pytest.raises(ValueError, match=match):
        read_picture(file, (8, 8), 3)
    assert not recwarn.list


def test_black_and_white_become_0_and_255(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2, (8, 8)).astype(bool)
    Image.fromarray(bits).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "x.png", (8, 8), 1)[..., 0], 255 * bits)


DAMAGE = {
    "truncated": lambda x: x[: len(x) // 2],
    "a short header": lambda x: x[:8] + chunk(b"IHDR", b"\0\0\0\x08") + x[33:],
    "a broken chunk": lambda x: x[:33] + b"\0" * 8 + x[41:],
    "a web page": lambda x: b"<html>",
    "empty": lambda x: b"",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_picture_that_cannot_be_decoded_is_named(tmp_path, damage):
    file = save(tmp_path / "x.png", noise(64, 64))
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    with pytest.raises(ValueError, match=f"cannot decode the picture {file}: "):
        read_picture(file, (8, 8), 3)


def test_a_picture_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no picture {tmp_path}/x.png"):
        read_picture(tmp_path / "x.png", (8, 8), 3)


def test_pictures_are_found_in_order_through_links_but_not_hidden_ones(tmp_path):
    top, elsewhere = tmp_path / "top", tmp_path / "elsewhere"
    names = ["b/2.JPG", "b/1.png", "a/deep/er/3.WebP", "a.jpeg", "B.png"]
    others = ["._a.png", ".DS_Store", "b/.hidden.png", ".trash/x.png", "a/notes.txt", "a/x.HEIC"]
    others += ["a/Thumbs.db", "__MACOSX/x.png", "@eaDir/a.png/SYNO.png", "b/lost+found/x.png"]
    for name in names + others:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).touch()
    elsewhere.mkdir()
    (elsewhere / "4.png").touch()
    (top / "linked").symlink_to(elsewhere)
    (top / "again").symlink_to(elsewhere)
    (top / "a" / "loop").symlink_to(top)
    (top / "folder.png").mkdir()
    expected = sorted(top / name for name in [*names, "linked/4.png", "again/4.png"])
    (top / "gone.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(top / "pipe.png")
    found = find_pictures(top)
    assert found.pictures == expected
    assert found.left_out == {".txt": 1, ".heic": 1}
    assert sorted(found.unreadable) == [top / "gone.png", top / "pipe.png"]


def test_folders_that_link_to_one_another_come_to_an_end(tmp_path):
    names = [f"{number:02d}" for number in range(12)]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").touch()
        for other in names:
            (tmp_path / name / f"to{other}").symlink_to(tmp_path / other)
    found = find_pictures(tmp_path).pictures
    assert {tmp_path / name / "1.png" for name in names} < set(found) and len(found) < 2000


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "1.png").touch()
    monkeypatch.setattr(os, "access", lambda place, mode: place.name != "closed")
    found = find_pictures(tmp_path)
    assert (found.pictures, found.unreadable) == ([], [tmp_path / "closed"])
