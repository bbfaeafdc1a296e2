"""Components as source code: it evaluates to them, and ruff would not change a character."""

import subprocess
import sys

import pytest

from tests import tiny
from vqdit.configure.source_code import Source
from vqdit.data import ImageFolder
from vqdit.modalities import Image, Label
from vqdit.typing import Named

EXPERIMENTS = [tiny.tokenizer(), tiny.gan(), tiny.audio_tokenizer(), tiny.joint()]
NAMES = tuple(f'the "class" number {number} of a long name' for number in range(5))


def evaluated(source, text, **names):
    exec(f"{source.imports()}\n{text}", names)
    return names


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=["vq", "gan", "audio", "joint"])
def test_an_experiment_is_its_source(experiment):
    source = Source()
    text = source.assignment("experiment", experiment, {"task": "A comment. " * 30, "": "Above."})
    assert evaluated(source, text)["experiment"] == experiment
    lines = text.splitlines()
    assert lines[0] == "# Above." and "    # A comment. A comment." in text
    assert max(map(len, lines)) <= 100


def test_values_are_written_by_their_names():
    source = Source({NAMES: "CLASSES"})
    label = Label(classes=5, names=NAMES)
    text = source.expression(Named(a=label, b=Image(size=(8, 9))))
    assert text == "Named(a=Label(classes=5, names=CLASSES), b=Image(size=(8, 9), channels=3))"
    source.name(label, "LABEL")
    text = source.expression(Named({"a b": label}))
    assert text == 'Named({"a b": LABEL})'
    assert evaluated(source, f"x = {text}", LABEL=label)["x"] == Named({"a b": label})


@pytest.mark.parametrize("path", ["/a 'b'/\"c\"", "/x" * 90, "/line\nbreak", "/日本/é", "C:\\d"])
def test_any_path_is_written(path):
    source = Source()
    text = source.assignment("SOURCE", ImageFolder(path=path))
    assert evaluated(source, text)["SOURCE"] == ImageFolder(path=path)


def test_ruff_leaves_it_as_it_is(tmp_path):
    pytest.importorskip("ruff")
    source, body = Source(), ""
    for number, experiment in enumerate(EXPERIMENTS):
        body += source.assignment(f"e{number}", experiment, {"task.model": "Why.", "data": "Why."})
    body += source.assignment("FOLDER", ImageFolder(path="/x" * 90))
    body += source.assignment("CLASSES", NAMES)
    file = tmp_path / "config.py"
    file.write_text(f'"""A config."""\n\n{source.imports()}\n{body}')
    options = ["--isolated", "--line-length=100", "-q", str(file)]
    for words in (["format", "--diff"], ["check", "--select=E,F,I,W"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words, *options], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
