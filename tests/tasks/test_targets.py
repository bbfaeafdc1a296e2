"""What a config may say of a modality, and what is refused."""

import dataclasses

import pytest

from tests import tiny
from vqdit.modalities import Audio, Image, Label, Text
from vqdit.processes import Flow, Masked
from vqdit.samplers import Euler, Unmasking
from vqdit.tasks import CodeTarget, Condition, DiffusionTask, Target
from vqdit.typing import Named


@pytest.mark.parametrize("reveal", [(0.0, 1.0), (0.0, 0.1), (0.9, 1.0)])
def test_a_window_is_a_part_of_the_generation(reveal):
    assert Target(reveal=reveal).reveal == reveal


@pytest.mark.parametrize("reveal", [(0.5, 0.5), (0.6, 0.4), (-0.1, 1.0), (0.0, 1.1)])
@pytest.mark.parametrize("kind", [Target, CodeTarget])
def test_a_window_that_is_none_is_refused_by_value(kind, reveal):
    with pytest.raises(ValueError) as error:
        kind(reveal=reveal)
    assert str(error.value) == (
        f"{kind.__name__} needs reveal=(start, end) with 0 <= start < end <= 1, got {reveal}"
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: CodeTarget(modality=Image()),
            "CodeTarget takes a modality of codes (Text, Label), got Image; use Target with a "
            "tokenizer",
        ),
        (
            lambda: CodeTarget(modality=Audio()),
            "CodeTarget takes a modality of codes (Text, Label), got Audio; use Target with a "
            "tokenizer",
        ),
        (
            lambda: CodeTarget(process=Flow(), sampler=Euler()),
            "CodeTarget needs a discrete process, got Flow; use Masked",
        ),
        (lambda: Target(patch=-1), "Target needs patch >= 0, got -1"),
        (lambda: Target(weight=0.0), "Target needs weight > 0, got 0.0"),
        (
            lambda: Target(process=Flow()),
            "Unmasking decodes the Masked process, got Flow; use Euler for latents",
        ),
        (
            lambda: CodeTarget(sampler=Euler()),
            "Euler runs Gaussian processes (Flow, DDPM), got Masked; use Unmasking for codes",
        ),
        (lambda: Condition(drop=1.5), "Condition needs drop in [0, 1], got 1.5"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_remedy(build, message):
    with pytest.raises(ValueError) as error:
        build()
    assert str(error.value) == message


def test_symbols_are_targets_without_a_tokenizer():
    symbols = CodeTarget(modality=Text(length=4))
    assert (symbols.reference, symbols.patch, symbols.process) == ("", 1, Masked())
    with pytest.raises(TypeError, match="CodeTarget has no field 'tokenizer'; it has: process, "):
        CodeTarget(tokenizer="image")


def test_a_name_is_a_target_or_a_condition():
    with pytest.raises(ValueError) as error:
        DiffusionTask(
            targets=Named(label=CodeTarget()), conditions=Named(label=Condition(modality=Label()))
        )
    assert str(error.value) == "'label' is both a target and a condition; remove one of them"


def test_targets_of_any_kind_take_the_same_number_of_steps():
    with pytest.raises(ValueError, match="got audio 50, text 12"):
        DiffusionTask(
            targets=Named(
                audio=Target(process=Flow(), sampler=Euler(steps=50)),
                text=CodeTarget(modality=Text(), sampler=Unmasking(steps=12)),
            )
        )


TOKENIZERS = {"tokenizer": tiny.tokenizer().task, "audio": tiny.audio_tokenizer().task}


def test_symbols_need_nothing_to_be_connected():
    task = DiffusionTask(
        targets=Named(label=CodeTarget(), text=CodeTarget(modality=Text(length=3))),
        model=dataclasses.replace(DiffusionTask().model, patch=2),  # which is not for symbols
    )
    assert task.resolve_references({}.__getitem__).tokenizers == Named()
    assert task.inputs["text"].grid == (3,) and task.inputs["text"].patch == 1


def test_a_grid_that_the_patch_does_not_divide_is_refused_before_training():
    task = tiny.joint().task
    wrong = dataclasses.replace(task.targets["image"], patch=3)
    with pytest.raises(
        ValueError, match="the grid of 'image', 4x4, is not divisible by .* patch 3"
    ):
        dataclasses.replace(task, targets=task.targets | {"image": wrong}).resolve_references(
            TOKENIZERS.__getitem__
        )


def test_data_that_do_not_fit_are_refused_by_modality():
    task = tiny.joint().task.resolve_references(TOKENIZERS.__getitem__)
    features = tiny.joint().data.features()
    task.check(features)
    with pytest.raises(ValueError, match="the data have no 'text'; they have: audio, image, label"):
        task.check(Named({name: features[name] for name in ("audio", "image", "label")}))
    short = dataclasses.replace(task.targets["text"], modality=Text(length=4))
    with pytest.raises(
        ValueError, match=r"'text' in the data has shape \(5,\), but \(4,\) in the config"
    ):
        dataclasses.replace(task, targets=task.targets | {"text": short}).check(features)
    label = CodeTarget(modality=Label(classes=9), sampler=Unmasking(steps=4))
    more = dataclasses.replace(task, targets=task.targets | {"label": label}, conditions=Named())
    with pytest.raises(ValueError, match="'label' has 10 classes in the data and 9 in the config"):
        more.check(features)
    names = tuple("9876543210")
    label = CodeTarget(modality=Label(classes=10, names=names), sampler=Unmasking(steps=4))
    both = {"targets": task.targets | {"label": label}, "conditions": Named()}
    swapped = dataclasses.replace(task, **both)
    there = features["label"]._replace(names=names[::-1])
    match = "classes of 'label' are 0, 1, .* in the data and 9, 8, .* in the config"
    with pytest.raises(ValueError, match=match):
        swapped.check(features | {"label": there})
    swapped.check(features | {"label": there._replace(names=names)})
    swapped.check(features | {"label": there._replace(names=())})
