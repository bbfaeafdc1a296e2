"""Every modality keeps the contract. A new one is one entry in TABLE."""

import re
from html.parser import HTMLParser
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.modalities import Audio, Image, Label, Modality, Text, Video
from vqdit.modalities.texts import to_bytes

LETTERS = ("seven", "", "né <b>&\"'", "漢字", "a b c", "exactly10b")


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, (5, *shape), dtype=np.uint8)


def sounds(samples):
    stored = np.random.default_rng(0).integers(-(2**15), 2**15, (4, samples)).astype(np.int16)
    stored[0, :3] = -(2**15), 2**15 - 1, 0
    return stored


TABLE = {
    "Image": (Image(size=(4, 6), channels=3), pixels(4, 6, 3)),
    "Image-grey": (Image(size=(8, 8), channels=1), pixels(8, 8, 1)),
    "Video": (Video(frames=3, size=(4, 6)), pixels(3, 4, 6, 3)),
    "Video-grey": (Video(frames=1, size=(8, 8), channels=1), pixels(1, 8, 8, 1)),
    "Audio": (Audio(samples=400, rate=8000), sounds(400)),
    "Audio-44.1kHz": (Audio(samples=30, rate=44_100), sounds(30)),
    "Text": (Text(length=10), np.stack([to_bytes(text, 10) for text in LETTERS])),
    "Label": (Label(classes=4), np.asarray([3, 0, 2, 1], np.int32)),
    "Label-named": (Label(classes=3, names=("cat", "T-shirt", "é")), np.asarray([2, 0], np.int32)),
}
every = pytest.mark.parametrize(
    ("modality", "stored"), [pytest.param(*row, id=name) for name, row in TABLE.items()]
)


@pytest.mark.parametrize("kind", [Audio, Image, Label, Text, Video])
def test_it_is_complete_by_default(kind):
    modality = kind()
    blank = np.zeros((2, *modality.shape), modality.dtype)
    x = jax.eval_shape(modality.standardize, blank)
    assert x.shape == (2, *modality.grid, modality.channels)
    restored = jax.eval_shape(modality.restore, x)
    assert (restored.shape, restored.dtype) == (blank.shape, blank.dtype)


@every
@pytest.mark.parametrize("jit", [False, True])
def test_every_stored_example_survives_the_way_there_and_back(modality, stored, jit):
    standardize, restore = modality.standardize, modality.restore
    if jit:
        standardize, restore = jax.jit(standardize), jax.jit(restore)
    x = standardize(jnp.asarray(stored))
    assert x.shape == (len(stored), *modality.grid, modality.channels)
    if modality.vocabulary:
        assert x.dtype == jnp.int32 and x.min() >= 0 and x.max() < modality.vocabulary
    else:
        assert x.dtype == jnp.float32 and x.min() >= -1.0 and x.max() <= 1.0
    restored = restore(x)
    assert restored.dtype == modality.dtype == stored.dtype
    np.testing.assert_array_equal(restored, stored)


@every
def test_values_are_packed_and_unpacked_without_loss(modality, stored):
    values = modality.unpack(stored)
    assert len(values) == len(stored)
    packed = modality.pack(values)
    assert packed.dtype == modality.dtype and packed.shape == (len(stored), *modality.shape)
    np.testing.assert_array_equal(packed, stored)
    for value, one in zip(values, stored, strict=True):
        np.testing.assert_array_equal(modality.pack(value), one[None])  # one is a stack of one
    np.testing.assert_array_equal(modality.pack(list(values)), stored)
    np.testing.assert_array_equal(modality.pack(stored), stored)  # what is packed stays as it is


@every
def test_what_is_written_is_read_again(modality, stored, tmp_path):
    values = modality.unpack(stored)
    modality.write(values, tmp_path)
    if isinstance(modality, Label):  # given as names or numbers, not as a file
        (file,) = tmp_path.iterdir()
        found = modality.read(",".join(file.read_text(encoding="utf-8").split()))
    elif isinstance(modality, Text):
        (file,) = tmp_path.iterdir()
        found = modality.read(str(file))
    else:
        assert len(list(tmp_path.iterdir())) == len(stored)
        found = modality.read(str(tmp_path))
        first, *_ = sorted(tmp_path.iterdir())
        if isinstance(modality, Video):  # H.264 has losses
            assert np.abs(np.stack(found).astype(int) - stored).mean() < 4.0
            return
        np.testing.assert_array_equal(modality.read(str(first)), found[:1])
    assert len(found) == len(stored)
    np.testing.assert_array_equal(modality.pack(np.stack(found)), stored)


@every
def test_files_have_the_name_of_their_column(modality, stored, tmp_path):
    for name in ("before", "after"):
        modality.write(modality.unpack(stored), tmp_path, name)
    files = sorted(file.name for file in tmp_path.iterdir())
    if isinstance(modality, Text | Label):
        assert files == ["afters.txt", "befores.txt"]
    else:
        ending = {Image: ".png", Audio: ".wav", Video: ".mp4"}[type(modality)]
        numbers = range(len(stored))
        names = ("after", "before")
        assert files == [f"{name}_{number:04}{ending}" for name in names for number in numbers]


@every
def test_it_is_drawn_as_one_picture_each(modality, stored):
    drawn = modality.draw(stored)
    assert drawn.dtype == np.uint8
    assert drawn.ndim == 4 and len(drawn) == len(stored) and drawn.shape[-1] in (1, 3)
    np.testing.assert_array_equal(modality.draw(stored[-1:]), drawn[-1:])  # each by itself
    assert len({picture.tobytes() for picture in drawn}) == len(stored)  # and no two alike


class Elements(HTMLParser):
    """Everything that a piece of HTML holds; an unknown or unclosed element is an error."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.sources, self.text, self.open = [], [], "", []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert tag in ("audio", "img", "q", "video")
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@every
def test_its_html_loads_nothing_from_elsewhere(modality, stored):
    for example in stored:
        html = modality.html(example)
        found = Elements(html)
        assert "http" not in html
        assert all(source.startswith("data:") for source in found.sources)
        if isinstance(modality, Image | Audio | Video):
            assert len(found.sources) == 1 and not found.text
        else:
            assert not found.sources


def test_text_is_shown_as_it_is_never_as_html():
    text = "<img src=x> & \"'"
    html = Text(length=20).html(to_bytes(text, 20))
    assert Elements(html).text == text
    assert Elements(html).tags == ["q"]
    label = Label(classes=1, names=("<b>",))
    assert Elements(label.html(np.int32(0))).text == "<b>"
    assert Elements(label.html(np.int32(-1))).text == "none"


@every
def test_its_regions_divide_what_is_not_padding(modality, stored):
    for example in stored:
        regions = modality.regions(example, modality.grid)
        count = int(np.prod(modality.grid))
        masks = np.asarray([belongs for _, belongs in regions]).reshape(-1, count)
        assert masks.dtype == bool or not len(masks)
        content = np.ones(count, bool)
        if isinstance(modality, Text):
            content = np.arange(count) < len(bytes(example).rstrip(b"\0"))
        np.testing.assert_array_equal(masks.sum(axis=0), content)  # each token belongs to one
        assert masks.any(axis=1).all()  # and no region is empty


def test_the_regions_of_a_grid_are_its_cells_by_their_place():
    regions = Image(size=(8, 8)).regions(np.zeros((8, 8, 3), np.uint8), (2, 3))
    assert [name for name, _ in regions] == ["0,0", "0,1", "0,2", "1,0", "1,1", "1,2"]
    np.testing.assert_array_equal([belongs for _, belongs in regions], np.eye(6, dtype=bool))


@pytest.mark.parametrize(
    ("modality", "values", "message"),
    [
        ("Image", np.zeros((4, 4, 3), np.uint8), "[4, 6, 3] or [n, 4, 6, 3], got [4, 4, 3]"),
        ("Image", np.zeros((2, 4, 6), np.uint8), "[4, 6, 3] or [n, 4, 6, 3], got [2, 4, 6]"),
        ("Image", np.zeros((0, 4, 6, 3), np.uint8), "[n, 4, 6, 3], got [0, 4, 6, 3]"),
        ("Image", np.zeros((4, 6, 3)), "values must be uint8, got float64"),
        ("Image", np.zeros((1, 4, 6, 3), np.int16), "values must be uint8, got int16"),
        ("Audio", np.zeros(399, np.int16), "[400] or [n, 400], got [399]"),
        ("Audio", np.zeros((2, 400, 1), np.int16), "[400] or [n, 400], got [2, 400, 1]"),
        ("Audio", np.zeros(400, np.float32), "values must be int16, got float32"),
        ("Audio", np.zeros((3, 400), np.int32), "values must be int16, got int32"),
        ("Text", np.zeros(9, np.uint8), "values must have the shape [10] or [n, 10], got [9]"),
        ("Text", np.zeros((1, 2, 10), np.uint8), "[10] or [n, 10], got [1, 2, 10]"),
        ("Text", 7, "the value must be a text or a list of texts, got 7"),
        ("Text", [], "the value must be a text or a list of texts, got []"),
        ("Text", [["a"], ["b"]], "the value must be a text or a list of texts, got [['a'], ['b']]"),
        ("Text", b"seven", "the value must be a text or a list of texts, got b'seven'"),
        (
            "Text",
            np.zeros(10, np.int32),
            "the value must be a text or a list of texts, got array([0, 0, 0",
        ),
        (
            "Text",
            ["ok", "elevenbytes"],
            "the text 'elevenbytes' has 11 bytes, more than the limit of 10; shorten it, or set a "
            "larger length",
        ),
        ("Text", "漢字漢字", "the text '漢字漢字' has 12 bytes, more than the limit of 10"),
        ("Text", "a\0b", "the text 'a\\x00b' has a byte 0, which is reserved for padding"),
        ("Label", 4, "label 4 is out of range; use 0 to 3, or -1 for no label"),
        ("Label", [0, -2, 9], "label -2 is out of range; use 0 to 3, or -1 for no label"),
        ("Label", 1.0, "labels must be integers, got float64"),
        ("Label", "three", "unknown label 'three'; give a number from 0 to 3"),
        ("Label", [[1, 2]], "values must have the shape [] or [n], got [1, 2]"),
        ("Label", np.zeros((0,), np.int32), "values must have the shape [] or [n], got [0]"),
        ("Label", [], "values must have the shape [] or [n], got [0]"),
    ],
)
def test_what_are_no_values_of_it_is_refused(modality, values, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        TABLE[modality][0].pack(values)


@pytest.mark.parametrize("labels", [3, np.int64(3), [3], np.asarray([3], np.uint8), [-1]])
def test_labels_are_integers_of_any_kind(labels):
    packed = Label(classes=4).pack(labels)
    assert packed.dtype == np.int32 and packed.shape == (1,)
    assert packed[0] == np.asarray(labels).ravel()[0]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Audio(samples=0), "Audio needs samples and rate >= 1, got samples=0, rate=8000"),
        (lambda: Audio(rate=-1), "Audio needs samples and rate >= 1, got samples=8000, rate=-1"),
        (lambda: Text(length=0), "Text needs length >= 1, got 0"),
        (lambda: Image(size=(0, 4)), "Image needs a positive size, got (0, 4)"),
        (lambda: Label(classes=0), "Label needs classes >= 1, got 0"),
    ],
)
def test_bad_fields_are_refused_by_value(build, message):
    with pytest.raises(ValueError) as error:
        build()
    assert str(error.value) == message


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.shape,
        lambda m: m.grid,
        lambda m: m.standardize(jnp.zeros(1)),
        lambda m: m.restore(jnp.zeros(1)),
        lambda m: m.read("x"),
        lambda m: m.write(np.zeros(1), Path()),
        lambda m: m.draw(np.zeros(1)),
        lambda m: m.html(np.zeros(1)),
    ],
)
def test_a_modality_must_define_everything(call):
    with pytest.raises(TypeError, match="Modality must define "):
        call(Modality())
