"""Overrides: every kind of field, other classes in any order, and what is said to mistakes."""

import typing

import pytest

from tests import tiny
from vqdit import config
from vqdit.cli import overrides
from vqdit.cli.fields import print_fields
from vqdit.cli.overrides import classes_of, override
from vqdit.config import ConfigError, Experiment
from vqdit.data import (
    TFDS,
    Affine,
    Data,
    Digits,
    FashionMNIST,
    HorizontalFlip,
    ImageFolder,
    Mixture,
    Table,
)
from vqdit.data.sources import Source
from vqdit.losses import LPIPS, Perceptual
from vqdit.models import Discriminator, StyleGAN
from vqdit.optim import AdamW, Optimizer
from vqdit.parallel import Mesh
from vqdit.processes import Flow, LogitNormal, Masked, MinSNR, Process, Shifted
from vqdit.quantizers import VQ
from vqdit.samplers import DPMSolver, Euler, Guide, Karras, Sampler, Unmasking
from vqdit.tasks import Adversary, DiffusionTask, Task, TokenizerTask
from vqdit.typing import Component, Named

TOKENIZER, GENERATOR = tiny.tokenizer(), tiny.generator()
BOTH = {"tokenizer": TOKENIZER, "generator": GENERATOR}


def read(experiment, path):
    for name in path.split("."):
        experiment = (
            experiment[name] if isinstance(experiment, Named) else getattr(experiment, name)
        )
    return experiment


@pytest.mark.parametrize(
    ("experiment", "args", "path", "value"),
    [
        (TOKENIZER, ["--steps=3"], "steps", 3),
        (TOKENIZER, ["--steps", "3"], "steps", 3),
        (TOKENIZER, ["--steps=1_000"], "steps", 1000),
        (TOKENIZER, ["--steps=5", "--steps=7"], "steps", 7),
        (TOKENIZER, ["--mesh.data", "-1"], "mesh.data", -1),
        (TOKENIZER, ["--optimizer.learning-rate=3e-4"], "optimizer.learning_rate", 3e-4),
        (TOKENIZER, ["--optimizer.learning_rate=.5"], "optimizer.learning_rate", 0.5),
        (TOKENIZER, ["--optimizer.clip=2"], "optimizer.clip", 2.0),
        (GENERATOR, ["--task.model.remat=True"], "task.model.remat", True),
        (GENERATOR, ["--task.model.remat", "true"], "task.model.remat", True),
        (GENERATOR, ["--task.model.remat=false"], "task.model.remat", False),
        (GENERATOR, ["--task.model.remat=dots"], "task.model.remat", "dots"),
        (GENERATOR, ["--task.model.dtype=bfloat16"], "task.model.dtype", "bfloat16"),
        (TOKENIZER, ["--task.reconstruction=l1"], "task.reconstruction", "l1"),
        (TOKENIZER, ["--init-from=runs/a b=c,d"], "init_from", "runs/a b=c,d"),
        (TOKENIZER, ["--init-from="], "init_from", ""),
        (TOKENIZER, ["--task.modality.size=28,28"], "task.modality.size", (28, 28)),
        (TOKENIZER, ["--task.modality.size", "28", "28"], "task.modality.size", (28, 28)),
        (TOKENIZER, ["--task.modality.size=(28, 32)"], "task.modality.size", (28, 32)),
        (TOKENIZER, ["--task.model.channels=4,8,16"], "task.model.channels", (4, 8, 16)),
        (TOKENIZER, ["--task.model.channels=4"], "task.model.channels", (4,)),
        (
            TOKENIZER,
            ["--task.quantizer.weights.commitment=1.0"],
            "task.quantizer.weights",
            Named(commitment=1.0, codebook=1.0),
        ),
        (
            GENERATOR,
            ["--task.targets.image.sampler.steps=4"],
            "task.targets.image.sampler.steps",
            4,
        ),
        (GENERATOR, ["--task.conditions.label.drop=0.2"], "task.conditions.label.drop", 0.2),
        (
            GENERATOR,
            ["--task.conditions.label.modality.classes=3"]
            + ["--task.conditions.label.modality.names=a,b b,c"],
            "task.conditions.label.modality.names",
            ("a", "b b", "c"),
        ),
        (TOKENIZER, ["--data.augment.0.rotate=5"], "data.augment", (Affine(rotate=5.0),)),
        (TOKENIZER, ["--data.augment="], "data.augment", ()),
        (TOKENIZER, ["--data.augment=()"], "data.augment", ()),
        (
            TOKENIZER,
            ["--data.augment.1.shift=.5", "--data.augment=HorizontalFlip,Affine"],
            "data.augment",
            (HorizontalFlip(), Affine(shift=0.5)),
        ),
        (TOKENIZER, ["--data.source=FashionMNIST"], "data.source", FashionMNIST()),
        (TOKENIZER, ["--data.source=Digits"], "data.source", Digits()),
        (
            TOKENIZER,
            ["--data.source=FashionMNIST", "--data.source.path=X"],
            "data.source",
            FashionMNIST(path="X"),
        ),
        (
            TOKENIZER,
            ["--data.source.path=X", "--data.source=FashionMNIST"],
            "data.source",
            FashionMNIST(path="X"),
        ),
        (
            TOKENIZER,
            ["--data.source=Mixture", "--data.source.sources=Digits,Table"]
            + ["--data.source.sources.1.path=rows.csv", "--data.source.weights=1,3"],
            "data.source",
            Mixture(sources=(Digits(), Table(path="rows.csv")), weights=(1.0, 3.0)),
        ),
        (
            GENERATOR,
            ["--task.targets.image.time=LogitNormal"],
            "task.targets.image.time",
            LogitNormal(),
        ),
        (
            GENERATOR,
            [
                "--task.targets.image.time=Shifted",
                "--task.targets.image.time.distribution=LogitNormal",
            ],
            "task.targets.image.time",
            Shifted(distribution=LogitNormal()),
        ),
    ],
)
def test_one_field_changes_and_nothing_else(experiment, args, path, value):
    changed = override(experiment, args)
    found = read(changed, path)
    assert found == value
    assert type(found) is type(value)
    top = path.split(".")[0]
    assert tiny.changed(changed, **{top: getattr(experiment, top)}) == experiment
    assert config.from_json(config.to_json(changed)) == changed


def test_no_override_changes_nothing():
    assert override(TOKENIZER, []) is TOKENIZER
    assert override(BOTH, []) == BOTH


def test_of_several_experiments_the_name_goes_first_and_the_order_stays():
    changed = override(BOTH, ["--tokenizer.optimizer.learning-rate=3e-4", "--generator.steps=2"])
    assert list(changed) == ["tokenizer", "generator"]
    assert changed == {
        "tokenizer": tiny.tokenizer(optimizer=AdamW(learning_rate=3e-4, warmup=2)),
        "generator": tiny.generator(steps=2),
    }


def test_fields_that_depend_on_one_another_change_together():
    args = ["--task.model.dim=12", "--task.model.heads=3"]
    for order in (args, args[::-1]):
        model = override(GENERATOR, order).task.model
        assert (model.dim, model.heads) == (12, 3)


def test_process_and_sampler_change_together_in_any_order():
    args = [
        "--task.targets.image.process=Flow",
        "--task.targets.image.sampler=Euler",
        "--task.targets.image.sampler.steps=5",
    ]
    for order in (args, args[::-1]):
        target = override(GENERATOR, order).task.targets["image"]
        assert (target.process, target.sampler) == (Flow(), Euler(steps=5))
    weighted = [*args, "--task.targets.image.process.weighting=MinSNR"]
    process = override(GENERATOR, weighted).task.targets["image"].process
    assert process == Flow(weighting=MinSNR())


def test_a_sampler_its_spacing_and_guidance_are_given_by_name():
    args = [
        "--task.targets.image.process=DDPM",
        "--task.targets.image.sampler=DPMSolver",
        "--task.targets.image.sampler.order=3",
        "--task.targets.image.sampler.spacing=Karras",
        "--task.targets.image.sampler.spacing.rho=5",
        "--task.guide.interval=0.1,0.8",
        "--task.guide.zero-star=True",
    ]
    task = override(GENERATOR, args).task
    sampler = DPMSolver(steps=3, order=3, spacing=Karras(rho=5.0))  # as many steps as before
    assert task.targets["image"].sampler == sampler
    assert task.guide == Guide(interval=(0.1, 0.8), zero_star=True)
    with pytest.raises(ConfigError, match="order takes .*2.*3"):
        override(GENERATOR, [*args[:2], "--task.targets.image.sampler.order=4"])


def test_a_new_class_keeps_what_was_set_of_the_fields_it_shares():
    small = Experiment(data=Data(source=ImageFolder(path="mine", size=32)))
    assert override(small, ["--data.source=TFDS"]).data.source == TFDS(size=32)
    assert override(small, ["--data.source=Table"]).data.source == Table(path="mine", size=32)
    # The path is the folder's own default: it means nothing to another source.
    default = Experiment(data=Data(source=ImageFolder()))
    assert override(default, ["--data.source=FashionMNIST"]).data.source == FashionMNIST(path="")


@pytest.mark.parametrize(
    ("base", "names"),
    [
        (Process, {"Flow", "Masked"}),
        (Sampler, {"Euler", "Unmasking"}),
        (Optimizer, {"AdamW"}),
        (Task, {"DiffusionTask", "KLTask", "TokenizerTask"}),
        (Perceptual, {"FeatureMatching", "LPIPS"}),
        (Discriminator, {"PatchGAN", "StyleGAN"}),
        (Mesh, {"Mesh"}),
    ],
)
def test_the_classes_of_a_field_are_the_public_ones_of_its_package(base, names):
    assert names <= set(classes_of(base))
    assert base is Mesh or base.__name__ not in classes_of(base)
    assert all(issubclass(cls, base) for cls in classes_of(base).values())


def test_a_part_of_a_class_is_no_choice():
    """`Recorded` is the base of several sources, and none itself."""
    assert set(classes_of(Source)) == {
        "AsteriskSpeech",
        "AudioFolder",
        "Chorales",
        "Dialogues",
        "Digits",
        "Encoded",
        "FashionMNIST",
        "ImageFolder",
        "KJV",
        "Missing",
        "Mixture",
        "MovingFashion",
        "SpokenFashion",
        "SpokenWords",
        "TFDS",
        "Table",
        "TextFiles",
        "VideoFolder",
    }


def test_a_component_that_may_be_none_comes_and_goes():
    assert TOKENIZER.task.adversary is None
    with_one = override(TOKENIZER, ["--task.adversary.weight=0.5", "--task.adversary.start=9"])
    assert with_one.task.adversary == Adversary(weight=0.5, start=9)
    assert override(TOKENIZER, ["--task.adversary=Adversary"]).task.adversary == Adversary()
    args = ["--task.adversary.discriminator=StyleGAN", "--task.adversary.loss=non_saturating"]
    changed = override(with_one, args).task.adversary
    assert changed == Adversary(
        weight=0.5, start=9, discriminator=StyleGAN(), loss="non_saturating"
    )
    assert override(with_one, ["--task.adversary=None"]).task.adversary is None
    with pytest.raises(ConfigError, match="unknown field --task.adversary.wait; did you mean"):
        override(TOKENIZER, ["--task.adversary.wait=0.5"])
    assert override(TOKENIZER, ["--task.perceptual=LPIPS"]).task.perceptual == (LPIPS(),)


def test_a_part_that_is_new_is_made_with_the_fields_given_to_it():
    """Before it has them it could not be: some have no default, some go together."""
    args = ["--data.augment=Affine,HorizontalFlip", "--data.augment.0.rotate=9"]
    assert override(TOKENIZER, args).data.augment == (Affine(rotate=9.0), HorizontalFlip())
    late = ["--task.adversary.r1=0.0", "--task.adversary=Adversary"]
    assert override(TOKENIZER, late).task.adversary == Adversary(r1=0.0)


class Loose(Experiment):
    some: int | None = 3
    name: str | None = None
    numbers: tuple[float, ...] = (1.0,)
    choice: typing.Literal[1, 2] = 1
    other: dict = None  # pyright: ignore


@pytest.mark.parametrize(
    ("arg", "value"),
    [
        ("--some=None", None),
        ("--some=none", None),
        ("--some=5", 5),
        ("--name=x", "x"),
        ("--name=None", None),
        ("--numbers=1,2.5", (1.0, 2.5)),
        ("--numbers=", ()),
        ("--choice=2", 2),
    ],
)
def test_fields_that_may_be_none_and_other_kinds(arg, value):
    changed = override(Loose(), [arg])
    assert getattr(changed, arg[2:].partition("=")[0]) == value


@pytest.mark.parametrize(
    ("which", "args", "message"),
    [
        ("one", "--step=3", "unknown field --step; did you mean --steps?"),
        (
            "one",
            "--learning-rate=3",
            "unknown field --learning-rate; did you mean --optimizer.learning-rate?",
        ),
        ("one", "--workdr=x", "unknown field --workdr; did you mean --workdir?"),
        ("one", "--zzz=1", "unknown field --zzz"),
        (
            "one",
            "--optimizer.learning-rat=3",
            "unknown field --optimizer.learning-rat; did you mean --optimizer.learning-rate?; "
            "AdamW has learning-rate, warmup, final, b1, b2, weight-decay, clip",
        ),
        (
            "one",
            "--optimizer.lr=3",
            "unknown field --optimizer.lr; AdamW has learning-rate, warmup, final, b1, b2, "
            "weight-decay, clip",
        ),
        (
            "both",
            "--steps=3",
            "unknown field --steps; did you mean --generator.steps or --tokenizer.steps or "
            "--generator.profile.steps?",
        ),
        ("both", "--tokeniser.steps=3", "unknown field --tokeniser; did you mean --tokenizer?"),
        (
            "both",
            "--tokenizer=3",
            "--tokenizer=3 cannot be set as a whole; set its fields, such as --tokenizer.task",
        ),
        ("one", "--steps.more=3", "unknown field --steps.more; --steps has no fields"),
        ("one", "--steps=abc", "--steps takes INT, such as 8; got 'abc'"),
        ("one", "--steps=2.5", "--steps takes INT, such as 8; got '2.5'"),
        ("one", "--steps=", "--steps takes INT, such as 8; got ''"),
        ("one", "--steps=0", "--steps=0: Experiment needs steps >= 1, got 0"),
        ("one", "--steps", "--steps needs a value, as in --steps=..."),
        ("one", "--steps --seed=1", "--steps needs a value, as in --steps=..."),
        ("one", "--steps 3 4", "--steps takes one value, but '4' follows it"),
        ("one", "steps=3", "unexpected 'steps=3'; an override looks like --steps=500"),
        ("one", "-steps=3", "unexpected '-steps=3'; an override looks like --steps=500"),
        ("one", "--=3", "unexpected '--=3'; an override looks like --steps=500"),
        ("one", "--.steps=3", "unexpected '--.steps=3'; an override looks like --steps=500"),
        ("one", "--log-to=x", "--log-to takes {tensorboard,wandb},...; got 'x'"),
        ("one", "--ema=much", "--ema takes FLOAT, such as 0.0; got 'much'"),
        ("one", "--ema=nan", "--ema takes FLOAT, such as 0.0; got 'nan'"),
        ("one", "--ema=1", "--ema=1: Experiment needs ema in [0, 1), got 1.0; 0.9999 is usual"),
        (
            "one",
            "--task.reconstruction=l3",
            "--task.reconstruction takes {l1,l2,huber,cross_entropy}, such as l2; got 'l3'",
        ),
        (
            "one",
            "--task.modality.size=28",
            "--task.modality.size takes INT,INT, such as 8,8; got '28'",
        ),
        (
            "one",
            "--task.modality.size=1,2,3",
            "--task.modality.size takes INT,INT, such as 8,8; got '1,2,3'",
        ),
        (
            "one",
            "--task.model.channels=4,x",
            "--task.model.channels takes INT,..., such as 4,8; got '4,x'",
        ),
        (
            "one",
            "--task.model.channels=",
            "--task.model.channels=: ConvAutoencoder needs channels to be positive, got ()",
        ),
        (
            "two",
            "--task.model.remat=maybe",
            "--task.model.remat takes {True,False,dots,attention}, such as False; got 'maybe'",
        ),
        (
            "two",
            "--task.model.remat",
            "--task.model.remat needs a value, as in --task.model.remat=...",
        ),
        (
            "two",
            "--task.model.heads=5",
            "--task.model.heads=5: DiT needs heads to divide dim=16, got 5",
        ),
        (
            "two",
            "--task.targets=x",
            "--task.targets=x: a map cannot be set as a whole; set its entries one by one: "
            "--task.targets.image",
        ),
        (
            "two",
            "--task.targets.audio.weight=1",
            "unknown field --task.targets.audio; --task.targets has image",
        ),
        (
            "two",
            "--task.targets.image.process=Flow",
            "--task.targets.image.process=Flow: Unmasking decodes the Masked process, got Flow",
        ),
        (
            "two",
            "--task.model=XL/2",
            "--task.model=XL/2 cannot be set as a whole; set its fields, such as --task.model.",
        ),
        (
            "one",
            "--data.source=Fashion",
            "--data.source must be the name of a class, got 'Fashion'; did you mean FashionMNIST?",
        ),
        (
            "one",
            "--data.source=Recorded",
            "--data.source must be the name of a class, got 'Recorded'; did you mean Encoded?",
        ),
        (
            "one",
            "--data.source=os:system",
            "--data.source must be the name of a class, got 'os:system'; choose one of: ",
        ),
        ("one", "--data.source.path=x", "unknown field --data.source.path; Digits has seed"),
        (
            "one",
            "--data.augment=Flip",
            "--data.augment must be the name of a class, got 'Flip'; choose one of: Affine, ",
        ),
        (
            "one",
            "--data.augment.3.rotate=1",
            "unknown field --data.augment.3; --data.augment has 0",
        ),
        (
            "two",
            "--task.repa=REPA",
            "REPA has fields without defaults; add --task.repa.encoder=...",
        ),
        (
            "two",
            "--task.repa.weight=1",
            "REPA has fields without defaults; add --task.repa.encoder=...",
        ),
        (
            "two",
            "--task.repa=REPA --task.repa.encoder=DINO",
            "--task.repa.encoder=DINO: vqdit has no subclass of Features; write one",
        ),
        ("loose", "--some=x", "--some takes {None}|INT, such as 3; got 'x'"),
        ("loose", "--choice=3", "--choice takes {1,2}, such as 1; got '3'"),
        ("loose", "--numbers=1,nan", "--numbers takes FLOAT,..., such as 1.0; got '1,nan'"),
    ],
)
def test_a_mistake_is_refused_in_one_line_with_the_remedy(which, args, message):
    before = {"one": TOKENIZER, "two": GENERATOR, "both": BOTH, "loose": Loose()}[which]
    with pytest.raises(ConfigError) as error:
        override(before, args.split())
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_the_help_of_a_config_lists_its_fields_with_types_and_values(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    config = tmp_path / "both.py"
    both = '{"tokenizer": tiny.tokenizer(), "generator": tiny.generator()}'
    config.write_text(f"from tests import tiny\n\n\ndef config():\n    return {both}\n")
    print_fields(str(config), [], "train.py")
    shown = capsys.readouterr().out
    for line in (
        "--tokenizer.optimizer.learning-rate FLOAT",
        "--tokenizer.task.reconstruction {l1,l2,huber,cross_entropy}",
        "--tokenizer.task.modality.size INT INT",
        "--tokenizer.task.quantizer.weights.commitment FLOAT",
        "--tokenizer.data.augment.0.rotate FLOAT",
        "--generator.task.targets.image.sampler.steps INT",
        "--generator.task.conditions.label.drop FLOAT",
        "--generator.task.model.remat {True,False,dots,attention}",
        "length of the run in steps. (default: 8)",
    ):
        assert line in shown
    print_fields(str(config), ["--tokenizer.data.source=FashionMNIST"], "train.py")
    assert "--tokenizer.data.source.path STR" in capsys.readouterr().out


def test_every_shown_field_can_be_set_to_its_own_value():
    """The help and the parser agree: each field of a config takes what it holds."""
    for experiment in (TOKENIZER, GENERATOR, tiny.flow_generator()):
        for path in overrides._paths(experiment, ""):
            value = read(experiment, path)
            if isinstance(value, Component | Named) or (value and isinstance(value, tuple)):
                continue
            text = "" if value == () else str(value)
            assert override(experiment, [f"--{path.replace('_', '-')}={text}"]) == experiment


def test_every_component_can_be_replaced_by_its_own_class():
    for experiment in (TOKENIZER, GENERATOR):
        assert override(experiment, [f"--task={type(experiment.task).__name__}"]) == experiment
    assert isinstance(override(TOKENIZER, ["--task=DiffusionTask"]).task, DiffusionTask)
    assert isinstance(override(GENERATOR, ["--task=TokenizerTask"]).task, TokenizerTask)
    assert override(TOKENIZER, ["--task.quantizer=VQ"]).task.quantizer == VQ(
        codebook_size=16, dim=4, start=3
    )
    target = override(GENERATOR, ["--task.targets.image.process=Masked"]).task.targets["image"]
    assert (target.process, target.sampler) == (Masked(), Unmasking(steps=3))
