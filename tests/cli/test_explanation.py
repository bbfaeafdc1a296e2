"""`sample --explain`: what is drawn, at which size, and what the page says about it."""

import html
import json

import numpy as np
import pytest
from PIL import Image

from tests import joint
from tests.cli import trained as helper
from vqdit.cli.main import main
from vqdit.cli.report import charts
from vqdit.cli.report.explanation import write_explanation
from vqdit.cli.report.explanation_pictures import (
    draw_attention,
    draw_attribution,
    draw_looked,
    draw_order,
    scale_of,
    signed,
)
from vqdit.inference.attribution import Attribution
from vqdit.inference.explanation import explain
from vqdit.modalities import Audio, Text
from vqdit.samplers import Unmasking
from vqdit.tasks import CodeTarget, DiffusionTask
from vqdit.typing import Named


@pytest.fixture(scope="module")
def letters():
    return joint.generator(joint.symbols())


@pytest.fixture(scope="module")
def pictures(trained):
    return joint.pictured(trained / "runs" / "tokenizer")


def is_drawn(picture):
    """Whether there is more on a picture than its white ground, and something in colour."""
    pixels = np.asarray(picture).astype(int)
    return (pixels == 255).all(-1).any() and (np.ptp(pixels, axis=-1) > 30).sum() > 20


def colour_at(picture, x, y):
    return np.asarray(picture.getpixel((x, y)))


def test_all_of_it_for_a_joint_model(tmp_path_factory, tmp_path):
    """Given a name: audio by flow matching, pictures with patches, a label that only conditions."""
    workdir = helper.joint(tmp_path_factory)
    args = [f"--workdir={workdir}", "--given=text=seven", "--num=9", "--batch-size=4"]
    assert main(["sample", *args, "--explain", f"--out={tmp_path}"]) == 0
    assert {path.name for path in (tmp_path / "explanation").iterdir()} == {
        "attention.png",
        "order.png",
        "because_of_text.png",
        "because_of_label.png",
        *(f"looked_{number:04d}.png" for number in range(8)),
    }
    for path in (tmp_path / "explanation").iterdir():
        assert is_drawn(Image.open(path)), path
    page = (tmp_path / "index.html").read_text()
    assert "Of the first 8 of 9 samples." in page
    assert page.count("data:image/png") == 12 + 9  # and the nine pictures
    assert "No order of audio: a continuous process moves all tokens at once" in page
    assert "label acts on every layer and has no tokens" in page
    assert "For image in nats, a difference of bounds on the log-likelihood" in page
    assert "For audio the change of the squared error of denoising, which is no likelihood" in page
    assert json.loads((tmp_path / "samples.json").read_text())["num"] == 9

    plain = tmp_path / "plain"
    assert main(["sample", *args, f"--out={plain}"]) == 0
    assert not (plain / "explanation").exists()
    with np.load(plain / "samples.npz") as a, np.load(tmp_path / "samples.npz") as b:
        assert set(a) == set(b) == {"audio", "image", "label", "text"}
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_without_anything_given_there_is_no_attribution(letters, tmp_path):
    parts = write_explanation(letters, 2, {"seed": 1}, tmp_path)
    assert parts[-1] == "<p>Nothing was given, so nothing that was given can be the cause.</p>"
    assert {path.name for path in (tmp_path / "explanation").iterdir()} == {
        "attention.png",
        "order.png",
        "looked_0000.png",
        "looked_0001.png",
    }
    assert "Of all 2 samples." in parts[0]


def test_the_attention_has_a_cell_per_pair_and_step(letters):
    why = explain(letters, 2, rounds=1)
    # Make it known: the label looks at the text and at nothing else, the text at both alike.
    known = np.zeros_like(why.attention["label"]) + [0.0, 1.0]
    even = np.zeros_like(why.attention["text"]) + 0.5
    why = why._replace(attention={"label": known, "text": even})
    picture = draw_attention(why)
    width = max(map(charts.width_of, ("label looks at itself", "label looks at text"))) + 8
    assert picture.width == 2 * 10 + width + 44 + 6 + joint.STEPS * 40
    # text first, then label: title, two rows of cells; axis and legend, with gaps of 10
    assert picture.height == 2 * 10 + 2 * (18 + 2 * 26) + 18 + 18 + 2 * 10 + 10
    left, top = 10 + width + 44 + 6, 10 + 18
    dark, white = charts.colours(np.asarray([1.0, 0.0]), charts.SHARES)
    below = top + 2 * 26 + 10 + 18
    for step in range(joint.STEPS):
        corner = left + step * 40 + 5
        np.testing.assert_array_equal(colour_at(picture, corner, below + 5), white)
        np.testing.assert_array_equal(colour_at(picture, corner, below + 26 + 5), dark)
    first = left + 3 * 40  # the label is generated in steps 4 to 6
    np.testing.assert_array_equal(colour_at(picture, first, below + 13), charts.FRAME)
    assert (colour_at(picture, left, below + 13) != charts.FRAME).any()


def test_the_order_is_drawn_over_the_grid(pictures):
    why = explain(pictures, 2, rounds=1)
    step = np.arange(16).reshape(1, 16, 1).repeat(2, axis=0) % joint.STEPS
    why = why._replace(revealed={**why.revealed, "image": step})
    picture = np.asarray(draw_order(pictures, why))
    colours = charts.colours(np.arange(joint.STEPS) / (joint.STEPS - 1), charts.STEPS)
    left, top = 10 + 80 + 20, 10 + charts.LINE  # behind "sample 0", below "image"
    for number in range(16):
        row, column = divmod(number, 4)
        cell = picture[top + 26 * row :, left + 26 * column :][:26, :26]
        np.testing.assert_array_equal(cell[0, 0], colours[number % joint.STEPS])
        np.testing.assert_array_equal(cell[-1, -1], colours[number % joint.STEPS])


def test_the_matrix_is_divided_between_modalities(letters, pictures):
    for model, tokens in ((letters, 5), (pictures, 17)):
        why = explain(model, 1, rounds=1)
        picture = np.asarray(draw_looked(model, why, 0))
        is_line = (picture == charts.FRAME).all(-1)
        columns, rows = is_line.sum(axis=0), is_line.sum(axis=1)
        # One line each way, as long as the matrix of square cells; the other way crosses it.
        assert columns.max() == rows.max() == 16 * tokens
        assert (columns == 16 * tokens).sum() == (rows == 16 * tokens).sum() == 1


def test_long_sequences_are_drawn_small_enough():
    text = CodeTarget(modality=Text(length=1200), sampler=Unmasking(steps=2))
    label = CodeTarget(sampler=Unmasking(steps=2))
    task = DiffusionTask(targets=Named(text=text, label=label), model=joint.SMALL)
    model = joint.generator(task)
    why = explain(model, 1, rounds=1)
    for picture in (draw_looked(model, why, 0), draw_order(model, why)):
        assert is_drawn(picture)
        assert picture.width < 3000 and picture.height < 1000


def attribution(why, source, regions, belongs, change, name):
    change = np.asarray(change, np.float32)
    return Attribution(
        0, source, regions, belongs, {name: change}, {name: change}, {name: float(change.sum())}
    )


def test_red_supports_and_blue_speaks_against_over_an_image(pictures):
    given = np.full((1, 8, 8, 1), 255, np.uint8)
    why = explain(pictures, 1, given={"image": given}, rounds=1)
    change = np.zeros(16)
    change[[0, 15]] = 2.0, -2.0
    names = tuple(map(str, range(16)))
    one = attribution(why, "image", names, np.eye(16, dtype=bool), change, "label")
    one = one._replace(whole={"label": 0.0})
    picture = draw_attribution(pictures, why._replace(attributions=[one]), [one])
    pixels = np.asarray(picture)[:-40].astype(int)  # without the scale of colours
    for colour, (y, x) in ((charts.SIGNED[-1], (0, 0)), (charts.SIGNED[0], (3, 3))):
        found = np.argwhere((pixels == colour).all(-1))
        assert 1000 < len(found) < 2 * 36 * 36  # two views, less the numbers
        assert np.ptp(found[:, 0]) == 35
        assert x * y == 0 or found[:, 0].min() > 100
    assert is_drawn(picture)


def test_a_text_is_coloured_letter_by_letter(letters, tmp_path):
    settings = {"given": {"text": ["<b>", "é b"]}, "want": ["label"]}
    parts = write_explanation(letters, 2, settings, tmp_path)
    spans = [part for part in parts[-1].split("<span ")[1:]]
    texts = [span.split(">", 1)[1].split("</span>")[0] for span in spans]
    assert texts == ["&lt;", "b", "&gt;"] * 2 + ["é ", "b"] * 2
    assert all('title="' in span and " nats" in span for span in spans)
    assert "<th>for the label, without it</th><th>for the label, it alone</th>" in parts[-1]
    found = explain(letters, 2, **settings).attributions
    values = [
        (abs(value), value, region, one.sample)
        for one in found
        for region, value in zip(one.regions, one.change["label"], strict=True)
    ]
    _, value, region, number = max(values)
    shown = f"{region!r} {signed(value, scale_of(found, 'label'))} (sample {number})"
    assert f"Most for the label: without it {html.escape(shown)}, it alone " in parts[-2]
    assert "Each part of the given text was hidden from the model" in parts[-2]


def test_numbers_have_the_digits_that_their_scale_needs():
    assert [signed(v, 20.0) for v in (12.34, -0.01, 0.0)] == ["+12.3", "0.0", "0.0"]
    assert [signed(v, 0.05) for v in (0.0321, -0.0004)] == ["+0.032", "0.000"]


def test_names_of_audio_fit_in_their_boxes():
    names = [name for name, _ in Audio(samples=800).regions(np.zeros(800, np.int16), (5,))]
    values = (["+1.0"] * 5, np.full((5, 3), 200, np.uint8))
    wide = charts.boxes(names, [("without it", *values)], 2000)
    narrow = charts.boxes(names, [("without it", *values)], 250)
    assert wide.height == 2 * charts.LINE and narrow.height > 2 * wide.height
    assert narrow.width <= 250
