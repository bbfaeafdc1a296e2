"""What a run takes from its data: the workdir knows the learned units, and refuses others."""

import dataclasses

import numpy as np
import pytest

from vqdit.data import Data, TextFiles
from vqdit.modalities import BPE, Bytes, Label, Text
from vqdit.models import DiT
from vqdit.runs import frozen_arrays
from vqdit.tasks import CodeTarget, Condition, DiffusionTask
from vqdit.typing import Named


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Lines whose units are learned."""
    monkeypatch.setenv("VQDIT_DATA", str(tmp_path / "prepared"))
    (tmp_path / "a.txt").write_text("\n".join(f"line {number}" for number in range(40)))
    path = str(tmp_path / "a.txt")
    return TextFiles(path=path, length=8, documents="line", units=BPE(size=270))


def task_of(units, **fields):
    modality = Text(length=8, units=units)
    model = DiT(depth=1, dim=8, heads=2, patch=1)
    return DiffusionTask(targets=Named(text=CodeTarget(modality=modality)), model=model, **fields)


def test_a_run_keeps_the_units_that_its_data_have_learned(source, tmp_path):
    features = source.features()
    task = task_of(BPE(size=270)).adopt(features)
    task.check(features)
    data = Data(source=source, batch_size=8)
    kept, frozen = frozen_arrays.load_frozen(
        tmp_path / "run", task, lambda name: pytest.fail(name), lambda: data.split_batches("train")
    )
    found, _ = frozen_arrays.read_frozen(tmp_path / "run")
    assert found == kept
    text = found.modality("text")
    assert text.packed and text.units.merges == features["text"].units
    split = source.split("test")
    shown = text.unpack(split.take(np.arange(len(split)))["text"])
    assert any("line " in one for one in shown)
    occurs = np.asarray(frozen["text"]["occurs"])
    assert occurs[0] and not occurs[1]  # the end, and byte 0


def test_other_units_than_those_of_the_data_are_refused(source):
    features = source.features()
    with pytest.raises(ValueError, match="stored as units of a BPE, but the task has bytes"):
        task_of(Bytes()).adopt(features).check(features)
    plain = dataclasses.replace(source, units=Bytes()).features()
    with pytest.raises(ValueError, match="stored as bytes, but the task has units of a BPE"):
        task_of(BPE(size=270)).adopt(plain).check(plain)
    with pytest.raises(ValueError, match="other merges than the BPE of the data"):
        task_of(BPE(size=270, merges="a b")).adopt(features).check(features)
    with pytest.raises(ValueError, match=r"BPE needs size >= 257 \+ 13 merges, got 258"):
        task_of(BPE(size=258)).adopt(features)


def test_what_is_no_text_stays_as_it_is(source):
    conditions = Named(label=Condition(modality=Label()))
    task = task_of(Bytes(), conditions=conditions)
    assert task.adopt(Named()) == task
    adopted = task.adopt(dataclasses.replace(source, units=Bytes()).features())
    assert adopted.conditions == conditions and adopted.modality("text").packed
