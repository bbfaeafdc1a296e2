"""`vqdit sample`: what it writes, what a sample depends on, and what it refuses."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests import tiny
from vqdit import api
from vqdit.cli.main import main
from vqdit.config import to_json
from vqdit.modalities.image import grid


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
        "grid.png",
        "labels.txt",
        *(f"image_{number:04d}.png" for number in range(7)),
    }
    for number, image in enumerate(images):
        written = np.asarray(Image.open(seven / f"image_{number:04d}.png"))
        np.testing.assert_array_equal(written, image[..., 0])
    np.testing.assert_array_equal(np.asarray(Image.open(seven / "grid.png")), grid(images)[..., 0])
    assert (seven / "labels.txt").read_text().split() == list("0123456")
    assert json.loads((seven / "samples.json").read_text()) == {
        "workdir": f"{trained}/runs",
        "step": 6,
        "given": [],
        "samplers": {"image": "Unmasking(steps=3, temperature=1.0, noise=4.5)"},
        "num": 7,
        "guidance": 1.5,
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
    assert settings["samplers"] == {"image": "Euler(steps=3)"}
    assert (settings["num"], settings["batch_size"], settings["seed"]) == (16, 64, 0)


@pytest.fixture
def asked(monkeypatch):
    """Notes what the command asks of the model, and gives black images for it."""
    asked = {}

    def fake(self, num, **kwargs):
        asked.update(num=num, **kwargs)
        return {"image": np.zeros((num, 8, 8, 1), np.uint8), "label": np.zeros(num, np.int32)}

    monkeypatch.setattr(api.Generator, "sample", fake)
    return asked


@pytest.mark.parametrize(
    ("given", "labels", "num"),
    [
        (["label=7"], [7], 16),
        (["label=3,5"], [3, 5], 2),
        (["label=3,5", "label=9"], [3, 5, 9], 3),
        (["label=none"], [-1], 16),
        (["label=4", "label=none"], [4, -1], 2),
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
    assert record["samplers"] == {"image": "Unmasking(steps=2, temperature=0.5, noise=4.5)"}
    assert asked["samplers"]["image"].steps == 2
    for settings in (asked, record):
        assert (settings["guidance"], settings["batch_size"], settings["seed"]) == (3.0, 8, 5)


def test_several_files_are_used_in_sorted_order_one_sample_each(
    asked, trained, tmp_path, monkeypatch
):
    """A model of two modalities would generate the other from them; here it is the reading."""
    monkeypatch.setattr(api.Generator, "check", lambda *args: None)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, value in (("b.png", 2), ("a.png", 1), ("c.png", 3)):
        Image.fromarray(np.full((8, 8), value, np.uint8)).save(folder / name)
    sample(tmp_path, f"--workdir={trained}/runs", "--given", f"image={folder}")
    assert asked["given"]["image"].shape == (3, 8, 8, 1)
    assert asked["given"]["image"][:, 0, 0, 0].tolist() == [1, 2, 3]
    assert asked["num"] == 3


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--num=0"], "--num must be at least 1, got 0"),
        (["--num=-3"], "--num must be at least 1, got -3"),
        (["--num=many"], "--num must be an integer, got 'many'"),
        (["--num"], "--num needs a value, as in --num=..."),
        (["--steps=0"], "--steps must be at least 1, got 0"),
        (["--batch-size=0"], "--batch-size must be at least 1, got 0"),
        (["--seed=-1"], "--seed must be from 0 to 2^32 - 1, got -1"),
        (["--seed=4294967296"], "--seed must be from 0 to 2^32 - 1, got 4294967296"),
        (["--guidance=nan"], "--guidance must be finite, got 'nan'"),
        (["--step=3"], "unknown option '--step=3'; did you mean --steps?"),
        (
            ["--sampler=Eulr"],
            "unknown sampler 'Eulr'; did you mean Euler?; one of: Euler, Unmasking",
        ),
        (
            ["--sampler=Euler"],
            "Euler integrates the Flow process, got Masked; use Unmasking for codes",
        ),
        (["--temperature=-1"], "Unmasking needs temperature >= 0, got -1.0"),
        (["--given", "label"], "--given takes NAME=VALUE such as label=7, got 'label'"),
        (["--given", "label=10"], "label 10 is out of range; labels go from 0 to 9"),
        (["--given", "label=-1"], "label -1 is out of range; labels go from 0 to 9"),
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
    assert message == "Euler has no temperature; --temperature is for Unmasking"
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
        "nothing is left to generate: this model generates image, which is given, from label"
    )
    assert not (tmp_path / "out").exists()


def test_where_nothing_can_be_sampled(trained, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused("sample") == "--workdir is missing; see --help"
    made_by = (
        "a workdir holds config.json and is made by `python train.py --config=... --workdir=DIR`"
    )
    assert refused("sample", "--workdir=nowhere") == f"no run in nowhere; {made_by}"
    assert refused("sample", f"--workdir={trained}") == f"no run in {trained}; {made_by}"
    message = refused("sample", f"--workdir={trained}/runs/tokenizer")
    assert message.startswith(
        f"{trained}/runs/tokenizer holds a tokenizer, which generates nothing;"
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
    monkeypatch.setattr(api.Generator, "sample", None)
    (tmp_path / "file").write_text("mine")
    message = refused("sample", f"--workdir={trained}/runs", f"--out={tmp_path}/file/out")
    assert message == f"cannot write in {tmp_path}/file/out: Not a directory; choose another --out"
    assert (tmp_path / "file").read_text() == "mine"
