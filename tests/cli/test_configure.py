"""`vqdit configure`: what it prints, writes and refuses; what it writes trains as it is."""

import json

import numpy as np
import pytest
from PIL import Image

from vqdit.cli.main import main
from vqdit.configure.machine import Cost, Machine


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with 24 pictures in two classes, and a table of texts."""
    monkeypatch.setenv("VQDIT_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for number in range(24):
        file = tmp_path / "pictures" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 16), np.uint8)).save(file)
    rows = [{"question": f"what is {n} + 1", "answer": f"it is {n + 1}"} for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return tmp_path


@pytest.fixture
def quick(monkeypatch):
    """A machine on which a step takes 0.1 s."""
    monkeypatch.setattr(Machine, "cost", lambda *_: Cost(0.1, 5.0, 1000))
    monkeypatch.setattr(Machine, "guess", lambda *_: 0.0)


@pytest.mark.usefixtures("quick")
def test_it_says_what_it_found_and_decided(folder, capsys):
    assert main(["configure", "pictures", "--out=mine.py", "--minutes=3", "--target=h100:1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "pictures: a folder of pictures, 24 examples",
        "  image: grey pictures, 16x16 pixels",
        "  label: 2 classes with 12 examples each",
        "mine.py: 2 experiments, about 3 minutes on 1 x NVIDIA H100",
    ]
    assert lines[-1].endswith("train --config=mine.py")
    assert len(lines) <= 10
    text = (folder / "mine.py").read_text()
    assert text.startswith('"""Generates image from label.\n')
    assert "vqdit train --config=mine.py\n" in text
    assert "vqdit sample --workdir=runs/mine --num=16 --out=samples\n" in text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["pictures", "--out=mine"], "--out must be a Python file, which ends in .py, got 'mine'"),
        (["pictures", "--out=no/a.py"], "the folder no of --out does not exist; create it first"),
        (["pictures"], "--out is missing; give --out=FILE"),
        (["no", "--out=a.py"], "no file or folder no; give a table or a folder of files"),
        (["pictures", "--out=a.py", "--minutes=0"], "--minutes must be a number above 0, got '0'"),
        (["pictures", "--out=a.py", "--minutes=inf"], "--minutes must be a number above 0"),
        (
            ["pictures", "--out=a.py", "--want=lable"],
            "--want=lable is no column of the data; did you mean label?; give one of: image, label",
        ),
        (
            ["pictures", "--out=a.py", "--target=h10:8"],
            "unknown target 'h10:8'; did you mean h100:1?",
        ),
        (
            ["pictures", "--out=a.py", "--target=v5e:4x8"],
            "pictures has 20 training examples, but each of the 32 chips of the target",
        ),
        (["pictures/a", "--out=a.py", "--targt=cpu"], "unknown option '--targt=cpu'; did you mean"),
    ],
)
def test_what_is_refused(args, message, folder, refused):
    assert refused("configure", *args).startswith(message)
    assert not (folder / "a.py").exists()


def test_too_few_examples_are_refused(folder, refused):
    (folder / "few.csv").write_text("text\n" + "".join(f"text {n}\n" for n in range(9)))
    message = refused("configure", "few.csv", "--out=a.py")
    assert message.startswith(f"{folder / 'few.csv'} has 9 examples, but training, validation")
    (folder / "kinds.csv").write_text("id,kind\n" + "".join(f"{n},{n % 2}\n" for n in range(40)))
    message = refused("configure", "kinds.csv", "--out=a.py")
    assert message == "kinds.csv has only classes; add a column of pictures, sounds or texts"
    (folder / "kinds.csv").unlink()
    assert {file.name for file in folder.iterdir()} == {"pictures", "rows.jsonl", "few.csv"}


@pytest.mark.usefixtures("quick")
def test_nothing_is_overwritten(folder, refused, capsys):
    (folder / "mine.py").write_text("mine")
    message = refused("configure", "pictures", "--out=mine.py")
    assert message == "mine.py exists already; remove it, or choose another --out"
    (folder / "long.jsonl").write_text("mine")
    (folder / "pictures/a/0.png").write_bytes(b"")  # so the table cannot be used as it is
    rows = [{"photo": f"pictures/{'ab'[n % 2]}/{n}.png"} for n in range(24)]
    (folder / "photos.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    message = refused("configure", "photos.jsonl", "--out=long.py", "--target=cpu")
    assert (
        message == "the rows would be written to long.jsonl, which exists already; remove this file"
    )
    assert main(["configure", "photos.jsonl", "--out=short.py", "--target=cpu"]) == 0
    assert "  short.jsonl has the examples for training" in capsys.readouterr().out
    assert len((folder / "short.jsonl").read_text().splitlines()) == 24


@pytest.mark.slow
@pytest.mark.parametrize("data", ["pictures", "rows.jsonl"])
def test_what_is_written_trains_and_samples_as_it_is(data, folder):
    assert main(["configure", data, "--out=mine.py", "--minutes=0.5"]) == 0
    assert main(["train", "--config=mine.py"]) == 0
    assert main(["sample", "--workdir=runs/mine", "--num=4", "--out=samples"]) == 0
    samples = np.load(folder / "samples/samples.npz")
    wanted = {"image"} if data == "pictures" else {"question", "answer"}
    assert wanted <= {*samples}
    assert all(len(samples[name]) == 4 for name in wanted)
