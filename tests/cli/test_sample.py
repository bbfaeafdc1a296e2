"""`vqdit sample`: what it writes, what a sample depends on, and what it refuses."""

import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from tests import tiny
from vqdit.cli.main import main
from vqdit.cli.overrides import classes_of
from vqdit.cli.report import samples as report
from vqdit.config import to_json
from vqdit.data import Digits
from vqdit.inference import generator
from vqdit.modalities import Audio
from vqdit.modalities import Image as Modality
from vqdit.modalities.drawing import tile
from vqdit.samplers import Euler, Sampler, Unmasking
from vqdit.typing import Named

SAMPLERS = classes_of(Sampler)
TEMPERED = [name for name, kind in SAMPLERS.items() if hasattr(kind(), "temperature")]


def sample(out, *args):
    assert main(["sample", f"--out={out}", *map(str, args)]) == 0
    return np.load(out / "samples.npz")


@pytest.fixture(scope="module")
def seven(trained, tmp_path_factory):
    """The folder of seven samples in batches of four; the last batch is filled up."""
    out = tmp_path_factory.mktemp("seven") / "made" / "here"
    sample(out, f"--workdir={trained}/runs", "--num=7", "--batch-size=4", "--seed=1")
    return out


def test_samples_are_written_as_arrays_a_grid_single_files_and_settings(seven, trained):
    with np.load(seven / "samples.npz") as samples:
        images, labels = samples["image"], samples["label"]
        assert set(samples) == {"image", "label"}
    assert (images.dtype, images.shape) == (np.uint8, (7, 8, 8, 1))
    assert (labels.dtype, labels.tolist()) == (np.int32, [0, 1, 2, 3, 4, 5, 6])
    assert {path.name for path in seven.iterdir()} == {
        "samples.npz",
        "samples.json",
        "index.html",
        "grid.png",
        "labels.txt",
        *(f"image_{number:04d}.png" for number in range(7)),
    }
    for number, image in enumerate(images):
        written = np.asarray(Image.open(seven / f"image_{number:04d}.png"))
        np.testing.assert_array_equal(written, image[..., 0])
    np.testing.assert_array_equal(np.asarray(Image.open(seven / "grid.png")), tile(images)[..., 0])
    assert (seven / "labels.txt").read_text().split() == list("0123456")
    assert json.loads((seven / "samples.json").read_text()) == {
        "workdir": f"{trained}/runs",
        "step": 6,
        "given": [],
        "want": ["image"],
        "samplers": {"image": repr(Unmasking(steps=3))},
        "num": 7,
        "guidance": 1.5,
        "autoguide": None,
        "edits": {},
        "lengths": {},
        "seed": 1,
        "batch_size": 4,
    }


def test_a_sample_depends_on_its_index_and_the_seed_alone(seven, trained, tmp_path):
    seven = np.load(seven / "samples.npz")["image"]
    args = [f"--workdir={trained}/runs/generator", "--seed=1"]
    one = sample(tmp_path / "one", *args, "--num=3", "--batch-size=1")["image"]
    many = sample(tmp_path / "many", *args, "--num=9", "--batch-size=64")["image"]
    np.testing.assert_array_equal(one, seven[:3])
    np.testing.assert_array_equal(many[:7], seven)
    assert len({image.tobytes() for image in many}) == 9
    other = sample(tmp_path / "other", args[0], "--num=9", "--batch-size=64", "--seed=2")["image"]
    assert (other != many).any(axis=(1, 2, 3)).all()


def test_the_workdir_alone_is_enough(seven, trained, tmp_path, monkeypatch):
    shutil.copytree(trained / "runs/generator", tmp_path / "moved")
    monkeypatch.setenv("VQDIT_DATA", str(tmp_path / "no data"))
    monkeypatch.chdir(tmp_path)
    args = ["--workdir=moved", "--num=7", "--batch-size=4", "--seed=1"]
    images = sample(tmp_path / "out", *args)["image"]
    np.testing.assert_array_equal(images, np.load(seven / "samples.npz")["image"])


def test_sixteen_samples_in_a_folder_named_samples_are_the_default(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "--workdir", f"{trained}/runs/flow"]) == 0
    assert np.load("samples/samples.npz")["image"].shape == (16, 8, 8, 1)
    settings = json.loads((tmp_path / "samples/samples.json").read_text())
    assert settings["samplers"] == {"image": repr(Euler(steps=3))}
    assert (settings["num"], settings["batch_size"], settings["seed"]) == (16, 64, 0)


def test_fewer_samples_leave_none_of_before(trained, tmp_path):
    run = ["sample", f"--workdir={trained}/runs/flow", f"--out={tmp_path}"]
    (tmp_path / "image_0005.png").write_text("someone's")
    assert main([*run, "--num=5"]) == 0
    assert (tmp_path / "image_0005.png").read_text() == "someone's"  # there were no samples yet
    (tmp_path / "image_of_me.png").write_text("mine")
    assert main([*run, "--num=2"]) == 0
    left = sorted(path.name for path in tmp_path.glob("*_*.*"))
    assert left == ["image_0000.png", "image_0001.png", "image_of_me.png"]


@pytest.fixture
def asked(monkeypatch):
    """Notes what the command asks of the model, and gives black images for it."""
    asked = {}

    def fake(self, num, **kwargs):
        settings = (kwargs[name] for name in ("given", "want", "samplers", "guidance"))
        wanted = self.prepare(*settings).wanted
        asked.update(num=num, **kwargs)
        names = [*wanted, *kwargs["given"], "label"]
        blank = {
            name: np.zeros((num, *self.modality(name).shape), self.modality(name).dtype)
            for name in names
        }
        return {name: self.modality(name).unpack(stored) for name, stored in blank.items()}

    monkeypatch.setattr(generator.Generator, "sample", fake)
    return asked


def test_samples_that_cannot_be_written_leave_those_of_before(
    asked, trained, refused, tmp_path, monkeypatch
):
    sample(tmp_path, f"--workdir={trained}/runs", "--num=3")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*args):
        raise OSError("the disk is full")

    monkeypatch.setattr(report, "write_page", fail)
    args = ["--seed=1", "--num=2", f"--out={tmp_path}"]
    assert refused("sample", f"--workdir={trained}/runs", *args) == "the disk is full"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert asked["seed"] == 1


@pytest.mark.parametrize(
    ("given", "labels", "num"),
    [
        (["label=7"], [7], 16),
        (["label=3,5"], [3, 5], 2),
        (["label=3,5", "label=9"], [3, 5, 9], 3),
        (["label=none"], [-1], 16),
        (["label=4", "label=none"], [4, -1], 2),
        (["label=4,none,2"], [4, -1, 2], 3),
    ],
)
def test_labels_are_given_by_number_list_or_none(given, labels, num, asked, trained, tmp_path):
    args = [part for item in given for part in ("--given", item)]
    sample(tmp_path, f"--workdir={trained}/runs", *args)
    assert asked["given"]["label"].tolist() == labels
    assert asked["num"] == num
    assert json.loads((tmp_path / "samples.json").read_text())["given"] == given
    sample(tmp_path, f"--workdir={trained}/runs", *args, "--num=5")
    assert asked["num"] == 5


def test_settings_override_the_config(asked, trained, tmp_path):
    args = ["--steps=2", "--guidance=3", "--temperature=0.5", "--batch_size", "8", "--seed=5"]
    sample(tmp_path, f"--workdir={trained}/runs", "--sampler=Unmasking", *args)
    record = json.loads((tmp_path / "samples.json").read_text())
    assert record["samplers"] == {"image": repr(Unmasking(steps=2, temperature=0.5))}
    assert asked["samplers"]["image"].steps == 2
    for settings in (asked, record):
        assert (settings["guidance"], settings["batch_size"], settings["seed"]) == (3.0, 8, 5)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--num=0"], "--num must be at least 1, got 0"),
        (["--num=-3"], "--num must be at least 1, got -3"),
        (["--num=many"], "--num must be an integer, got 'many'"),
        (["--num"], "--num needs a value, as in --num=..."),
        (["--steps=0"], "--steps must be at least 1, got 0"),
        (["--steps=1000000000"], "--steps must be at most 10000, got 1000000000"),
        (["--batch-size=0"], "--batch-size must be at least 1, got 0"),
        (["--seed=-1"], "--seed must be from 0 to 2^32 - 1, got -1"),
        (["--seed=4294967296"], "--seed must be from 0 to 2^32 - 1, got 4294967296"),
        (["--guidance=nan"], "--guidance must be finite, got nan"),
        (["--step=3"], "unknown option '--step=3'; did you mean --steps?"),
        (
            ["--sampler=Eulr"],
            f"unknown sampler 'Eulr'; did you mean Euler?; choose one of: {', '.join(SAMPLERS)}",
        ),
        (
            ["--sampler=Euler"],
            "Euler runs Gaussian processes (Flow, DDPM), got Masked; use Unmasking for codes",
        ),
        (["--temperature=-1"], "Unmasking needs temperature >= 0, got -1.0"),
        (["--given", "label"], "--given takes NAME=VALUE such as text=seven, got 'label'"),
        (["--given", "label="], "--given takes NAME=VALUE such as text=seven, got 'label='"),
        (["--given", "label=10"], "label 10 is out of range; labels go from 0 to 9"),
        (["--given", "label=-2"], "label -2 is out of range; labels go from 0 to 9"),
        (["--given", "label=seven"], "unknown label 'seven'; give a number from 0 to 9"),
        (["--given", "audio=x"], "unknown modality 'audio'; this model knows: image, label"),
        (["--given", "image=none.png"], "no picture none.png"),
    ],
)
def test_a_bad_setting_is_refused_before_anything_is_written(
    args, message, trained, refused, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert refused("sample", f"--workdir={trained}/runs", *args) == message
    assert not list(tmp_path.iterdir())


def test_temperature_is_refused_for_euler(trained, refused):
    message = refused("sample", f"--workdir={trained}/runs/flow", "--temperature=1")
    assert message == f"Euler has no temperature; --temperature is only for {', '.join(TEMPERED)}"
    message = refused("sample", f"--workdir={trained}/runs/flow", "--sampler=Unmasking")
    assert message == "Unmasking decodes the Masked process, got Flow; use Euler for latents"


def test_pictures_that_are_no_use_are_refused_by_path(trained, refused, tmp_path):
    workdir, out = f"--workdir={trained}/runs", f"--out={tmp_path}/out"
    (tmp_path / "bad.png").write_bytes(b"no picture")
    message = refused("sample", workdir, out, "--given", f"image={tmp_path}/bad.png")
    assert message.startswith(f"cannot decode the picture {tmp_path}/bad.png: ")
    (tmp_path / "folder").mkdir()
    message = refused("sample", workdir, out, "--given", f"image={tmp_path}/folder")
    assert message.startswith(f"no picture in the folder {tmp_path}/folder; known endings: .png")
    Image.new("L", (8, 8)).save(tmp_path / "good.png")
    message = refused("sample", workdir, out, "--given", f"image={tmp_path}/good.png")
    assert message == (
        "nothing is left to generate: want is empty, or all targets of this model (image) are "
        "given; its conditions are label"
    )
    assert not (tmp_path / "out").exists()


def test_where_nothing_can_be_sampled(trained, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused("sample") == "--workdir is missing; give --workdir=DIR; see --help"
    made_by = (
        "a workdir holds config.json and is made by `python train.py --config=... --workdir=DIR`"
    )
    assert refused("sample", "--workdir=nowhere") == f"no run in nowhere; {made_by}"
    assert refused("sample", f"--workdir={trained}") == f"no run in {trained}; {made_by}"
    message = refused("sample", f"--workdir={trained}/runs/tokenizer")
    assert message.startswith(
        f"{trained}/runs/tokenizer is the workdir of a tokenizer, which cannot generate;"
    )
    assert message.endswith(f"-m vqdit reconstruct --workdir={trained}/runs/tokenizer`")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun/config.json").write_text(json.dumps(to_json(tiny.generator())))
    message = refused("sample", "--workdir=begun")
    assert message == "no checkpoint in begun; train it until its first checkpoint"
    assert [path.name for path in tmp_path.iterdir()] == ["begun"]


def test_an_output_folder_that_cannot_be_is_refused_before_sampling(
    trained, refused, tmp_path, monkeypatch
):
    monkeypatch.setattr(generator.Generator, "sample", None)
    (tmp_path / "file").write_text("mine")
    message = refused("sample", f"--workdir={trained}/runs", f"--out={tmp_path}/file/out")
    assert message == f"cannot write in {tmp_path}/file/out: Not a directory; choose another --out"
    assert (tmp_path / "file").read_text() == "mine"


# A model of pictures, tones and texts, which knows the label.


@pytest.fixture(scope="module")
def digit(tmp_path_factory):
    """A folder with a picture, a tone and a text of the same digit, and those of two others."""
    folder = tmp_path_factory.mktemp("given")
    found = Digits().split("test").take(np.arange(3))
    Audio(samples=800, rate=8000).write(found["audio"], folder)
    Modality(size=(8, 8), channels=1).write(found["image"], folder)
    (folder / "lines.txt").write_text("six\nseven\n")
    return folder, found


@pytest.fixture(scope="module")
def page(joint, digit, tmp_path_factory):
    """Texts and pictures that were generated from a tone."""
    folder, _ = digit
    out = tmp_path_factory.mktemp("page")
    args = ["--num=3", "--batch-size=4", "--seed=2", "--want", "text", "--want=image"]
    sample(out, f"--workdir={joint}", "--given", f"audio={folder}/audio_0001.wav", *args)
    return out


def test_every_modality_is_written_as_an_array_of_its_own_type(page, digit):
    with np.load(page / "samples.npz") as samples:  # no pickles: it loads without allowing them
        assert set(samples) == {"audio", "image", "label", "text"}
        assert (samples["audio"].dtype, samples["audio"].shape) == (np.int16, (3, 800))
        assert (samples["image"].dtype, samples["image"].shape) == (np.uint8, (3, 8, 8, 1))
        assert (samples["label"].dtype, samples["label"].tolist()) == (np.int32, [0, 1, 2])
        assert samples["text"].dtype.kind == "U" and samples["text"].shape == (3,)
        np.testing.assert_array_equal(samples["audio"], digit[1]["audio"][[1, 1, 1]])
    settings = json.loads((page / "samples.json").read_text())
    assert settings["want"] == ["image", "text"]
    assert settings["given"] == [f"audio={digit[0]}/audio_0001.wav"]
    assert settings["guidance"] == 1.0
    assert settings["samplers"]["audio"] == repr(Euler(steps=4))


def test_every_modality_is_written_in_files_that_can_be_given_again(page, digit):
    samples = np.load(page / "samples.npz")
    names = {path.name for path in page.iterdir()}
    assert names == {
        *("samples.npz", "samples.json", "index.html", "grid.png", "labels.txt", "texts.txt"),
        *(
            f"{kind}_000{n}.{end}"
            for kind, end in (("image", "png"), ("audio", "wav"))
            for n in range(3)
        ),
    }
    given = (digit[0] / "audio_0001.wav").read_bytes()
    for number in range(3):
        assert (page / f"audio_000{number}.wav").read_bytes() == given  # bit for bit
        picture = np.asarray(Image.open(page / f"image_000{number}.png"))
        np.testing.assert_array_equal(picture, samples["image"][number, ..., 0])
    lines = (page / "texts.txt").read_text(encoding="utf-8").split("\n")
    assert lines[:-1] == samples["text"].tolist()
    assert (page / "labels.txt").read_text().split() == ["0", "1", "2"]
    grid = np.asarray(Image.open(page / "grid.png"))
    assert grid.shape == (3 * 64 + 4, 3 * (64 + 2) + 2)  # three columns: tone, picture, text


class Page(HTMLParser):
    """What a page shows and loads."""

    def __init__(self, file):
        super().__init__()
        self.tags, self.loads, self.cells = Counter(), [], []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.loads += [value for name, value in attrs if name in ("src", "href", "srcset")]
        if tag in ("header", "dt", "dd"):
            self.cells.append("")

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data


def test_the_page_shows_and_plays_everything_from_one_file(page):
    html, found = (page / "index.html").read_text(encoding="utf-8"), Page(page / "index.html")
    assert "http" not in html and "url(" not in html and "<script" not in html
    assert len(found.loads) == 6 and all(load.startswith("data:") for load in found.loads)
    assert (found.tags["audio"], found.tags["img"], found.tags["q"]) == (3, 3, 3)
    assert not found.tags["link"] and not found.tags["iframe"]
    assert 'name="viewport"' in html
    samples, rows = np.load(page / "samples.npz"), np.asarray(found.cells).reshape(3, 9)
    names = ["audio (given)", "image", "text", "label"]
    for number, (header, *row) in enumerate(rows):
        text, label = str(samples["text"][number]), str(samples["label"][number])
        assert [cell.strip() for cell in (header, *row[::2])] == [str(number), *names]
        assert [cell.strip() for cell in row[1::2]] == ["", "", text.strip(), label]


def test_given_items_that_are_not_used_are_said(joint, asked, tmp_path, capsys):
    sample(tmp_path, f"--workdir={joint}", "--given=label=1,2,3", "--num=2")
    assert asked["num"] == 2
    assert "--num=2: only the first 2 of 3 given items are used" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "shape", "num"),
    [
        (["text=six"], {"text": (1,)}, 16),
        (["text=lines.txt"], {"text": (2,)}, 2),
        (["text=six", "text=lines.txt"], {"text": (3,)}, 3),
        (["image=image_0002.png"], {"image": (1, 8, 8, 1)}, 16),
        (["image=."], {"image": (3, 8, 8, 1)}, 3),
        (["audio=audio_0000.wav"], {"audio": (1, 800)}, 16),
        (["audio=."], {"audio": (3, 800)}, 3),
        (["audio=.", "text=lines.txt"], {"audio": (3, 800), "text": (2,)}, 3),
        (["image=image_0000.png", "label=4"], {"image": (1, 8, 8, 1), "label": (1,)}, 16),
    ],
)
def test_anything_is_given_by_literal_file_or_folder(
    given, shape, num, asked, joint, digit, tmp_path, monkeypatch
):
    folder, found = digit
    monkeypatch.chdir(folder)
    sample(tmp_path, f"--workdir={joint}", *(f"--given={pair}" for pair in given))
    assert {name: values.shape for name, values in asked["given"].items()} == shape
    assert asked["num"] == num
    for name in ("image", "audio"):
        if name in shape:
            rows = [2] if given[0].endswith("2.png") else np.arange(shape[name][0])
            np.testing.assert_array_equal(asked["given"][name], found[name][rows])
    if "text" in shape:
        assert asked["given"]["text"].tolist() == ["six", "six", "seven"][-shape["text"][0] :] or (
            given == ["text=six"]
        )
    assert asked["want"] is None


@pytest.mark.parametrize(
    ("given", "pattern"),
    [
        ("text=s___n", "s.{1,3}n"),
        ("text=s___2x", "s..x"),
        ("text^=se", "se.*"),
    ],
)
def test_templates_are_filled_in_and_prompts_are_continued(given, pattern, joint, tmp_path):
    args = ["--given=label=7", f"--given={given}", "--want=text", "--num=4"]
    texts = sample(tmp_path, f"--workdir={joint}", *args)["text"].tolist()
    assert len(texts) == 4 and all(re.fullmatch(pattern, text) for text in texts)
    assert given in json.loads((tmp_path / "samples.json").read_text())["given"]


@pytest.mark.parametrize(
    ("args", "guidance"),
    [
        ([], None),
        (["--guidance=2"], 2.0),
        (["--guidance=2", "--guidance=-1.5"], -1.5),
        (["--guidance=image:text=3"], {"image:text": 3.0}),
        (
            ["--guidance", "image:text=3", "--guidance=text:label=0.5"],
            {"image:text": 3.0, "text:label": 0.5},
        ),
        (["--guidance=image:text=3", "--guidance=image:text=4"], {"image:text": 4.0}),
    ],
)
def test_guidance_is_one_number_or_numbers_of_pairs(args, guidance, asked, joint, tmp_path):
    sample(tmp_path, f"--workdir={joint}", "--given=label=7", *args)
    assert asked["guidance"] == guidance
    record = json.loads((tmp_path / "samples.json").read_text())
    assert record["guidance"] == (1.0 if guidance is None else guidance)


def test_samplers_are_changed_one_by_one(asked, joint, tmp_path):
    args = ["--temperature=text=0.5", "--temperature", "image=0", "--sampler=audio=Euler"]
    sample(tmp_path, f"--workdir={joint}", "--steps=6", *args)
    assert asked["samplers"] == Named(
        audio=Euler(steps=6),
        image=Unmasking(steps=6, temperature=0.0),
        text=Unmasking(steps=6, temperature=0.5),
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--want=video"], "unknown modality 'video'; this model knows: audio, image, text, label"),
        (
            ["--want=label"],
            "'label' can only be given to this model; it generates audio, image, text",
        ),
        (
            ["--want=text", "--given=text=six"],
            "'text' is both in `given` and in `want`; remove it from one of them",
        ),
        (["--given=text=nofile.txt"], "no text file nofile.txt"),
        (["--given=audio=none.wav"], "no sound none.wav"),
        (["--given=audio=nowhere/"], "no sound nowhere"),
        (
            ["--given=text=eleven"],
            "'text': the text 'eleven' has 6 bytes, more than the limit of 5; shorten it, or set a "
            "larger length",
        ),
        (
            ["--given=text=4"],
            "'text' contains '4', which does not occur in the training data; use these characters: "
            "'efghinorstuvwxz'",
        ),
        (
            ["--given=text=se___ven"],
            "'text': the template has at least 6 units, more than the 5 of the model; shorten it",
        ),
        (
            ["--given=text=4___"],
            "'text' contains '4', which does not occur in the training data; use these characters: "
            "'efghinorstuvwxz'",
        ),
        (
            ["--given=text^=s", "--given=text=s___n"],
            "--given takes one template or prompt for 'text', got two; leave one out",
        ),
        (
            ["--given=image^=x.png"],
            "--given image^= gives the beginning of a text, but 'image' is not a text; leave out ^",
        ),
        (
            ["--given=text^=s", "--explain"],
            "--explain supports only samples that are generated from noise, not edits; leave out "
            "the template or prompt",
        ),
        (
            ["--given=text^=s", "--want=image"],
            "the request edits 'text', but does not generate it; edit one of: image",
        ),
        (["--guidance=image:text"], "--guidance must be a number, got 'image:text'"),
        (["--guidance=image:text=much"], "--guidance must be a number, got 'much'"),
        (["--guidance=image:text=inf"], "--guidance must be finite, got inf"),
        (
            ["--guidance=image=3"],
            "guidance takes pairs such as image:text, got 'image'",
        ),
        (
            ["--guidance=2", "--guidance=image:text=3"],
            "--guidance takes one number, or pairs such as image:text=3, not both",
        ),
        (
            ["--given=text=six", "--guidance=text:label=2"],
            "guidance 'text:label' is for 'text', which is not generated; generated: audio, image",
        ),
        (
            ["--want=text", "--guidance=text:image=2"],
            "guidance 'text:image' cannot use the source 'image'; 'text' can be guided by: label",
        ),
        (
            ["--temperature=label=0.5"],
            "--temperature is given for 'label', but this model generates audio, image, text",
        ),
        (
            ["--sampler=video=Euler"],
            "--sampler is given for 'video', but this model generates audio, image, text",
        ),
        (
            ["--sampler=audio=Unmasking"],
            "Unmasking decodes the Masked process, got Flow; use Euler for latents",
        ),
        (
            ["--temperature=audio=1"],
            f"Euler has no temperature; --temperature is only for {', '.join(TEMPERED)}",
        ),
        (["--temperature=text=-1"], "Unmasking needs temperature >= 0, got -1.0"),
        (["--temperature=text="], "--temperature needs a value, as in --temperature=..."),
    ],
)
def test_what_several_modalities_cannot_do_is_refused_in_one_line(
    args, message, joint, refused, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert refused("sample", f"--workdir={joint}", *args) == message
    assert not list(tmp_path.iterdir())


def test_sounds_and_texts_that_are_no_use_are_refused_by_path(joint, refused, tmp_path):
    workdir, out = f"--workdir={joint}", f"--out={tmp_path}/out"
    short = tmp_path / "short.wav"
    short.write_bytes(b"no sound")
    assert refused("sample", workdir, out, f"--given=audio={short}").startswith(
        f"cannot decode the sound {short}: "
    )
    lines = tmp_path / "lines.txt"
    lines.write_bytes(b"\xff")
    assert refused("sample", workdir, out, f"--given=text={lines}").startswith(
        f"{lines} is not UTF-8 text: "
    )
    lines.write_text("")
    assert (
        refused("sample", workdir, out, f"--given=text={lines}")
        == f"{lines} has no text; write at least one line"
    )
    assert not (tmp_path / "out").exists()
