"""Values on the command line: what is a name, and what is a file."""

import json
from types import SimpleNamespace

import pytest

from tests import tiny
from vqdit.cli.given import _split_name, _split_pair
from vqdit.inference.loading import _with_class_names
from vqdit.modalities import Image, Label
from vqdit.runs.restoring import Restored
from vqdit.typing import Named


@pytest.fixture
def model():
    """Generates a picture, and is given a label."""
    modalities = Named(image=Image(), label=Label())

    def modality(name):
        if name not in modalities:
            raise ValueError(f"unknown modality {name!r}")
        return modalities[name]

    task = SimpleNamespace(targets=Named(image=None), modalities=modalities)
    return SimpleNamespace(task=task, modality=modality)


def test_a_file_may_have_an_equals_sign_in_its_name(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "epoch=3.png").touch()
    assert _split_name(model, "epoch=3.png", "--init", "FILE") == ("image", "epoch=3.png")
    assert _split_name(model, "image=epoch=3.png", "--init", "FILE") == ("image", "epoch=3.png")
    assert _split_name(model, "./epoch=3.png", "--init", "FILE") == ("image", "./epoch=3.png")
    with pytest.raises(ValueError, match="unknown modality 'imgae'"):
        _split_name(model, "imgae=3.png", "--init", "FILE")


def test_two_files_may_have_commas_in_their_names(tmp_path):
    for name in ("a,1.png", "b.png"):
        (tmp_path / name).touch()
    names = f"{tmp_path}/a,1.png", f"{tmp_path}/b.png"
    assert _split_pair(",".join(names)) == names
    assert _split_pair("x.png,y.png") == ("x.png", "y.png")
    for wrong in ("x.png", "x,y,z", ",", "x,"):
        with pytest.raises(ValueError, match="--interpolate takes two files"):
            _split_pair(wrong)


def test_a_model_has_the_class_names_of_its_data(tmp_path):
    """So that pages and scores show names, and `label=NAME` works, if the config has none."""
    names = [f"class {number}" for number in range(10)]
    restored = Restored(tiny.generator(), tiny.generator().task, None, None, None, 0)
    (tmp_path / "data.json").write_text(json.dumps({"features": {"label": {"names": names}}}))
    task = _with_class_names(restored, tmp_path / "data.json").task
    assert task.modality("label").read("class 3") == [3]
    assert _with_class_names(restored, tmp_path / "none.json").task.modality("label").names == ()
