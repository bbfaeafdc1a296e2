"""`sample --explain`: what is drawn, at which size, and what the page says about it."""

import io
import json

import numpy as np
import pytest
from markupsafe import Markup
from PIL import Image

from tests import joint
from vqdit.cli.main import main
from vqdit.cli.report.explanation import write_explanation
from vqdit.cli.report.explanation_pictures import (
    draw_attention,
    draw_attribution,
    draw_looked,
    draw_order,
    scale_of,
)
from vqdit.cli.report.figures import png, signed
from vqdit.cli.report.page import Cards, Heading, Paragraph, Picture, write_page
from vqdit.inference.attribution import Attribution
from vqdit.inference.explanation import explain
from vqdit.modalities import Text
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


@pytest.fixture(scope="module")
def explained(joint, tmp_path_factory):
    """The options of a sampling given a name, and the folder of its explained samples."""
    options = [f"--workdir={joint}", "--given=text=seven", "--num=9", "--batch-size=4"]
    out = tmp_path_factory.mktemp("explained")
    assert main(["sample", *options, "--explain", f"--out={out}"]) == 0
    return options, out


def test_all_of_it_for_a_joint_model(explained):
    _, out = explained
    assert {path.name for path in (out / "explanation").iterdir()} == {
        "attention.png",
        "order.png",
        *(f"because_of_{a}_for_{b}.png" for a in ("text", "label") for b in ("audio", "image")),
        *(f"looked_{number:04d}.png" for number in range(8)),
    }
    for path in (out / "explanation").iterdir():
        assert is_drawn(Image.open(path)), path
    page = (out / "index.html").read_text()
    assert "Of the first 8 of 9 samples." in page
    assert page.count("data:image/png") == 14 + 9  # and the nine pictures
    assert "audio has no order: a continuous process changes all tokens a little" in page
    assert "label modulates every layer and has no tokens" in page
    assert "For image in nats: a difference of two bounds on the log-likelihood" in page
    assert "For audio: the change of the squared denoising error, which is not a likelihood" in page
    assert json.loads((out / "samples.json").read_text())["num"] == 9


def test_samples_are_the_same_without_an_explanation(explained, tmp_path):
    options, out = explained
    assert main(["sample", *options, f"--out={tmp_path}"]) == 0
    assert not (tmp_path / "explanation").exists()
    with np.load(tmp_path / "samples.npz") as a, np.load(out / "samples.npz") as b:
        assert set(a) == set(b) == {"audio", "image", "label", "text"}
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_without_anything_given_there_is_no_attribution(letters, tmp_path):
    parts = write_explanation(letters, 2, {"seed": 1}, tmp_path)
    assert parts[-1] == Paragraph("No values were given, so there is no influence of given values.")
    assert {path.name for path in (tmp_path / "explanation").iterdir()} == {
        "attention.png",
        "order.png",
        "looked_0000.png",
        "looked_0001.png",
    }
    assert parts[1] == Paragraph("Of all 2 samples.")


def test_the_attention_has_a_cell_per_pair_and_step(letters):
    why = explain(letters, 2, rounds=1)
    # Make it known: the label looks at the text and at nothing else, the text at both alike.
    known = np.zeros_like(why.attention["label"]) + [0.0, 1.0]
    even = np.zeros_like(why.attention["text"]) + 0.5
    why = why._replace(attention={"label": known, "text": even})
    figure = draw_attention(why)
    uniform, first, _, second = figure.axes[:4]  # the text is generated first
    np.testing.assert_allclose(first.images[0].get_array(), 50.0)
    expected = np.repeat([[0.0], [100.0]], joint.STEPS, axis=1)
    np.testing.assert_allclose(second.images[0].get_array(), expected)
    assert [text.get_text() for text in uniform.get_yticklabels()] == ["label", "text"]
    assert uniform.images[0].get_array().sum() == pytest.approx(100.0)
    (frame,) = second.patches  # the label is generated in steps 4 to 6
    assert (frame.get_x(), frame.get_width()) == (2.5, 3.0)
    assert second.get_title() == "label: generated in steps 4 to 6"


def test_the_order_is_drawn_over_the_grid(pictures):
    why = explain(pictures, 2, rounds=1)
    step = np.arange(16).reshape(1, 16, 1).repeat(2, axis=0) % joint.STEPS
    figure = draw_order(pictures, why._replace(revealed={**why.revealed, "image": step}))
    (axes,) = (a for a in figure.axes if a.get_title() == "image, sample 1")
    np.testing.assert_array_equal(axes.images[0].get_array(), 1 + step[1].reshape(4, 4))
    assert [text.get_text() for text in axes.texts] == [str(1 + n) for n in step[1, :, 0]]


def test_the_matrix_is_divided_between_modalities(letters, pictures):
    for model, tokens in ((letters, 5), (pictures, 17)):
        axes = draw_looked(model, explain(model, 1, rounds=1), 0).axes[0]
        assert axes.images[0].get_array().shape == (tokens, tokens)
        assert len(axes.lines) == 2  # one line each way
        assert len(axes.get_xticks()) == len(axes.get_yticks()) == 2


def test_long_sequences_are_drawn_small_enough():
    text = CodeTarget(modality=Text(length=1200), sampler=Unmasking(steps=2))
    label = CodeTarget(sampler=Unmasking(steps=2))
    task = DiffusionTask(targets=Named(text=text, label=label), model=joint.SMALL)
    model = joint.generator(task)
    why = explain(model, 1, rounds=1)
    for figure in (draw_looked(model, why, 0), draw_order(model, why)):
        picture = Image.open(io.BytesIO(png(figure))).convert("RGB")
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
    figure = draw_attribution(pictures, why._replace(attributions=[one]), [one], "label")
    for title in ("without it", "it alone"):
        (axes,) = (a for a in figure.axes if a.get_title() == title)
        _, overlay = axes.images
        np.testing.assert_array_equal(overlay.get_array(), change.reshape(4, 4))
        (red, *_), (blue, *_) = (overlay.cmap(overlay.norm(value)) for value in (2.0, -2.0))
        assert red > 0.3 and blue < 0.1


def test_a_text_is_coloured_letter_by_letter(letters, tmp_path):
    settings = {"given": {"text": ["<b>", "é b"]}, "want": ["label"]}
    parts = write_explanation(letters, 2, settings, tmp_path)
    assert isinstance(parts[-1], Cards)
    assert list(parts[-1].columns) == ["for the label, without it", "for the label, it alone"]
    spans = [
        span
        for column in parts[-1].columns.values()
        for text in column
        for span in text.split("<span ")[1:]
    ]
    texts = [span.split(">", 1)[1].split("</span>")[0] for span in spans]
    assert texts == (["&lt;", "b", "&gt;"] + ["é ", "b"]) * 2
    assert all('title="' in span and " nats" in span for span in spans)
    found = explain(letters, 2, **settings).attributions
    values = [
        (abs(value), value, region, one.sample)
        for one in found
        for region, value in zip(one.regions, one.change["label"], strict=True)
    ]
    _, value, region, number = max(values)
    shown = f"{region!r} {signed(value, scale_of(found, 'label'))} (sample {number})"
    assert isinstance(parts[-2], Picture)
    assert f"Largest for the label: without it {shown}, it alone " in parts[-2].caption
    assert any("Each part of the given text was hidden" in str(part) for part in parts)


def test_nothing_that_a_user_gave_breaks_out_of_the_page(tmp_path):
    bad = '"><script>alert(1)</script>'
    parts = [Paragraph(bad), Picture(b"", bad, bad), Cards({bad: [bad]}, [bad])]
    write_page(tmp_path / "index.html", bad, parts)
    assert "<script" not in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize("letter", ["\x1b", "\x00", "\x85", "\u202e", "\u2066", "\u200f", "\ud83d"])
def test_letters_that_command_a_terminal_or_turn_the_text_are_shown_as_escapes(letter, tmp_path):
    name = f"a{letter}b"
    parts = [Heading(name), Picture(b"", name, name), Cards({name: [Markup(name)]})]
    write_page(tmp_path / "index.html", f"{name} \u200d é", parts)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    shown = "a" + letter.encode("unicode_escape").decode() + "b"
    assert letter not in page and page.count(shown) == 8 and "\u200d é" in page


def test_numbers_have_the_digits_that_their_scale_needs():
    assert [signed(v, 20.0) for v in (12.34, -0.01, 0.0)] == ["+12.3", "0.0", "0.0"]
    assert [signed(v, 0.05) for v in (0.0321, -0.0004)] == ["+0.032", "0.000"]
