"""A task of three columns with names of its own: the colour of a picture is changed as is asked."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

import vqdit
from vqdit import config
from vqdit.cli.main import main

FILE = config.shipped()["joint/recolor"]


def recolor():
    spec = importlib.util.spec_from_file_location("recolor", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def colours(pictures, palette):
    """The nearest of black and the palette, for every pixel."""
    every = np.asarray([(0, 0, 0), *palette.values()])
    return np.square(pictures[..., None, :].astype(int) - every).sum(axis=-1).argmin(axis=-1)


@pytest.mark.slow
def test_pictures_get_the_colour_that_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("VQDIT_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    example = recolor()
    example.write_table(Path("recolor"))
    assert main(["train", f"--config={FILE}", "--workdir=run"]) == 0

    split = example.TABLE.split("test")
    test = split.take(np.arange(len(split)))
    asked = example.INSTRUCTION.unpack(test["instruction"])
    model, batch = vqdit.load("run"), {"batch_size": 60}
    given = {"before": test["before"], "instruction": asked}
    after = model.sample(len(split), given=given, want=["after"], **batch)["after"]
    wanted, found = (colours(each, example.COLOURS) for each in (test["after"], after))
    rates = {"all pixels": np.mean(wanted == found), "ink": np.mean((wanted == found)[wanted > 0])}

    given = {"before": test["before"], "after": test["after"]}
    said = model.sample(len(split), given=given, want=["instruction"], **batch)["instruction"]
    pairs = [(text.split()[-1], wish.split()[-1]) for text, wish in zip(said, asked, strict=True)]
    rates["said"] = np.mean([text == wish for text, wish in pairs])
    print(json.dumps(rates))
    assert min(rates["all pixels"], rates["ink"]) >= 0.95

    options = ["--given", "before=recolor/test", "--given", "instruction=make it red"]
    assert main(["sample", "--workdir=run", "--want=after", "--out=out", *options]) == 0
    names = {"before_0009.png", "after_0009.png", "instructions.txt"}
    assert names <= {file.name for file in Path("out").iterdir()}
    ink = np.asarray(Pillow.open("out/after_0003.png")).reshape(-1, 3).astype(int).sum(axis=0)
    assert ink[0] > 5 * ink[1:].max()
