"""Configs from data: what was decided, by value; each is loaded and trains two steps."""

import functools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.configure.files import WORDS, picture, sound
from vqdit import config
from vqdit.cli.overrides import override
from vqdit.configure import choices
from vqdit.configure.deciding import plan, size
from vqdit.configure.inspection import inspect
from vqdit.configure.machine import Cost, Machine, count, machine_of
from vqdit.configure.report import documented
from vqdit.configure.writing import write
from vqdit.data import ImageFolder, Table, TextFiles
from vqdit.modalities import BPE, Audio, Image, Label, Text
from vqdit.profiling.accelerators import CHIPS
from vqdit.tasks import TokenizerTask
from vqdit.tasks.base import Trained
from vqdit.train import state as states
from vqdit.train.step import train_step
from vqdit.typing import Named

CPU = Machine("a CPU", 1, None, True)
CHIPS_8 = Machine("8 chips", 8, CHIPS["H100"], False)


@pytest.fixture(autouse=True)
def _no_measuring(monkeypatch):
    """A step takes 0.2 s, and a start 10 s."""
    monkeypatch.setattr(Machine, "cost", lambda *_: Cost(0.2, 10.0, 1000))
    monkeypatch.setattr(Machine, "guess", lambda *_: 0.0)


def configured(path, folder, *, want=(), machine=CPU, minutes=10.0):
    """The planned and sized experiments, and the same as they are loaded from the file."""
    table = folder / "written.jsonl"
    planned = plan(inspect(str(path)), want, machine, minutes, table)
    sized = size(planned, machine, minutes)
    file = folder / "written.py"
    file.write_text(write(sized, documented(sized, ["vqdit train --config=written.py"])))
    loaded = config.load(str(file))[1]
    assert loaded == {name: one.experiment for name, one in sized.sized.items()}
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length=100", "-q"]
        + ["--select=E,F,I,W,D,UP,B", "--ignore=D203,D213", str(file)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 or "No module named ruff" in done.stderr, done.stdout
    return sized, loaded


def small(loaded):
    """The experiments with as few channels as there can be."""
    options = []
    for name, experiment in loaded.items():
        options += [f"--{name}.steps=2", f"--{name}.data.batch-size=8"]
        if isinstance(experiment.task, TokenizerTask):
            widths = ",".join("4" for _ in experiment.task.model.channels)
            options += [f"--{name}.task.model.channels={widths}"]
            options += [f"--{name}.task.quantizer.codebook-size=16"]
            options += [f"--{name}.task.quantizer.dim=4", f"--{name}.task.quantizer.start=0"]
        else:
            options += [
                f"--{name}.task.model.{field}" for field in ("depth=1", "dim=24", "heads=2")
            ]
    return override(loaded, options)


def trained(loaded):
    """Trains two steps of every experiment on its data; returns the losses."""
    jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    found, losses = {}, {}
    for name, experiment in small(loaded).items():
        data = experiment.data
        data.check()
        task, frozen = experiment.task.load(
            found.__getitem__, lambda d=data: d.split_batches("train")
        )
        task.check(data.features())
        batch = jax.tree.map(jnp.asarray, data.first_batch(0))
        optimizer = task.optimizer(experiment.optimizer, experiment.steps)
        create = functools.partial(states.create, task, optimizer, experiment.averaging)
        state = jit(create)(frozen, batch, jax.random.key(0))
        step = jit(functools.partial(train_step, task, optimizer, experiment.averaging))
        for _ in range(2):
            state, metrics = step(state, frozen, batch)
        found[name] = Trained(task, state.params, state.stats)
        losses[name] = float(metrics["loss"])
    assert np.isfinite(list(losses.values())).all()
    return losses


def checked(loaded):
    """Checks every experiment with its data, as a training does before it starts."""

    def find(name):
        return loaded[name].task

    for experiment in loaded.values():
        experiment.data.check()
        experiment.task.resolve_references(find).check(experiment.data.features())
    return list(loaded)


def test_pictures_in_classes(classes, data_folder):
    sized, loaded = configured(classes, data_folder)
    assert list(loaded) == ["image", "generator"]
    task = loaded["generator"].task
    names = ("blue", "green", "red")
    assert loaded["image"].data.source == ImageFolder(path=str(classes), size=20)
    assert loaded["image"].task.modality == Image(size=(20, 20), channels=3)
    assert list(task.targets) == ["image"] and task.targets["image"].tokenizer == "image"
    assert task.conditions["label"].modality == Label(classes=3, names=names)
    assert task.guidance == 1.5
    assert sized.seconds <= 600
    assert checked(loaded) == ["image", "generator"]
    flops, parameters = count(loaded["image"], lambda name: loaded[name].task)
    model = loaded["image"].task.model
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 20, 20, 3)), 32))
    assert parameters == sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert flops > 6 * parameters * 25  # each weight is used at each of 5 x 5 codes at least


def test_a_table_with_gaps(table, data_folder):
    _, loaded = configured(table, data_folder)
    assert list(loaded) == ["photo", "noise", "generator"]
    source = loaded["generator"].data.source
    assert isinstance(source, Table) and source.path == str(table)
    columns = source.columns
    assert columns["photo"] == Image(size=(12, 12), channels=1)
    assert columns["noise"] == Audio(samples=400, rate=4000)
    assert columns["caption"] == Text(length=16, variable=True)
    assert columns["kind"] == Label(classes=4, names=tuple(sorted(WORDS)))
    task = loaded["generator"].task
    assert list(task.targets) == ["caption", "kind", "noise", "photo"]
    assert task.targets["kind"].reveal == (0.0, 0.05)
    assert checked(loaded) == ["photo", "noise", "generator"]


def test_what_is_wanted_and_what_is_given(table, data_folder):
    _, loaded = configured(table, data_folder, want=("caption",))
    task = loaded["generator"].task
    assert list(task.conditions) == ["kind"]
    assert task.targets["photo"].weight < task.targets["caption"].weight
    assert dict(task.joint.weights) == {"noise": 3.0, "photo": 3.0}


def test_a_folder_of_speech(speech, data_folder):
    sound(speech / "part/20.wav", samples=24_000)
    sound(speech / "part/21.wav", samples=800, rate=8000)
    sized, loaded = configured(speech, data_folder)
    assert list(loaded) == ["audio", "generator"]
    source = loaded["audio"].data.source
    assert source.path == str(data_folder / "written.jsonl")
    audio = source.columns["audio"]
    assert audio.rate == 4000 and audio.outside == "cut"
    assert len((data_folder / "written.jsonl").read_text().splitlines()) == 21
    assert audio.shape[0] % loaded["audio"].task.model.downsampling == 0
    assert 400 <= audio.shape[0] < 24_000
    written = (data_folder / "written.py").read_text().replace("\n# ", " ")
    assert "1 of 22 sounds are longer" in written
    assert checked(loaded) == ["audio", "generator"]


def test_recordings_of_different_lengths_are_not_padded_with_silence(words, data_folder):
    sized, loaded = configured(words, data_folder)
    audio = loaded["generator"].data.source.columns["audio"]
    assert audio == Audio(rate=4000, seconds=(0.1, 0.48), outside="cut")
    assert audio.lengths == (400, 1920)
    assert loaded["audio"].task.modality == audio
    assert [one.data.buckets for one in loaded.values()] == [4, 4]
    # Quarters of the 20 lengths 400, 480, ..., 1920 end at the sixth, eleventh, 16th and last.
    (part,) = (part for part in sized.planned.parts if part.name == "audio")
    assert part.fill == pytest.approx(np.mean([800, 1200, 1600, 1920]) / 1920)
    assert "shortest has 0.1 s" in (data_folder / "written.py").read_text().replace("\n# ", " ")
    assert checked(loaded) == ["audio", "generator"]
    split = loaded["audio"].data.source.split("train")
    lengths = [len(sound) for sound in split.take(np.arange(len(split)))["audio"]]
    assert len(set(lengths)) == len(lengths) and set(lengths) <= set(range(400, 1921, 80))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classes", "table", "speech", "words"])
def test_each_trains_two_steps(kind, data_folder, request):
    _, loaded = configured(request.getfixturevalue(kind), data_folder)
    assert list(trained(loaded)) == list(loaded)


def test_a_text(data_folder):
    lines = (f"In the beginning were {number} words.\n" for number in range(800))
    (data_folder / "text.txt").write_text("".join(lines))
    _, loaded = configured("text.txt", data_folder)
    path = str(data_folder / "text.txt")
    source = loaded["generator"].data.source
    assert source == TextFiles(path=path, length=128, documents="line")
    assert list(trained(loaded)) == ["generator"]


def test_a_long_text_has_units(data_folder, monkeypatch):
    pytest.importorskip("tokenizers")
    monkeypatch.setattr(choices, "ENOUGH_FOR_BPE", 1000)
    (data_folder / "text.txt").write_text("In the beginning was the word. " * 800)
    sized, loaded = configured("text.txt", data_folder)
    source, task = loaded["generator"].data.source, loaded["generator"].task
    assert source.units == task.targets["text"].modality.units == BPE(size=2048)
    assert source.length == task.targets["text"].modality.length == 64
    assert source.split_by == "position" and task.model.positions == "rope"
    assert sized.planned.examples[0] == int(0.9 * 31 * 800 / (64 * 3.5))


def test_rows_that_cannot_be_read_or_are_too_long_are_left_out(table, data_folder):
    (data_folder / "files/3.png").write_bytes(b"")
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    rows[7]["caption"] = "long " * 100
    table.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    sized, loaded = configured(table, data_folder)
    written = [
        json.loads(line) for line in (data_folder / "written.jsonl").read_text().splitlines()
    ]
    assert len(written) == 40 and written[3]["photo"] is None
    source = loaded["photo"].data.source
    assert source.path == str(data_folder / "written.jsonl")
    assert source.columns["caption"].outside == "skip"
    assert sized.planned.examples == (31, 4)


@pytest.mark.parametrize(
    ("machine", "edge", "codes"),
    [(CPU, 32, 8), (CHIPS_8, 64, 16)],
)
def test_the_machine_decides_the_size(machine, edge, codes, data_folder):
    for number in range(12):
        picture(data_folder / f"in/{number}.png", 70, 90, number)
    sized, loaded = configured("in", data_folder, machine=machine, minutes=30.0)
    assert loaded["image"].task.modality.size == (edge, edge)
    assert loaded["image"].task.grid == (codes, codes)
    written = (data_folder / "written.py").read_text()
    assert "the smallest edge is 70" in written
    assert loaded["generator"].data.batch_size % machine.chips == 0
    assert all(one.seconds <= 30 * 60 for one in sized.sized.values())


def test_any_name_of_a_column_will_do(data_folder):
    """Names that are no identifiers, keywords, and names that the config itself uses."""
    names = ("my photo", "Target", "class", "from", "source", "generator", "classes", "7")
    rows = []
    for number in range(40):
        picture(data_folder / f"in/{number}.png", 12, 12, number)
        files = {name: f"in/{number}.png" for name in ("my photo", "Target", "generator")}
        texts = {name: f"{name} {number}" for name in ("from", "source", "7")}
        rows.append({**files, **texts, "class": WORDS[number % 4], "classes": WORDS[number % 2]})
    (data_folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    _, loaded = configured("rows.jsonl", data_folder)
    assert list(loaded) == ["my_photo", "target", "generator_tokenizer", "generator"]
    task = loaded["generator"].task
    assert set(task.targets) == {*names} - {"my photo", "7"} | {"my_photo", "_7"}
    assert task.targets["my_photo"].tokenizer == "my_photo"
    source = loaded["target"].data.source
    assert source.path == str(data_folder / "rows.jsonl")
    assert source.headers == Named(my_photo="my photo", _7="7")
    assert loaded["target"].task.name == "Target"
    labels = {name: task.targets[name].modality for name in ("class", "classes")}
    assert labels["class"].names == tuple(sorted(WORDS))
    assert labels["classes"].names == tuple(sorted(WORDS[:2]))


def test_names_that_differ_in_capitals_alone_are_refused(data_folder):
    rows = ({"a_b": f"text {n}", "A_b": f"more {n}"} for n in range(20))
    (data_folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with pytest.raises(ValueError, match="the columns 'a_b' and 'A_b' differ only in capital"):
        configured("rows.jsonl", data_folder)


@pytest.mark.parametrize(("height", "width"), [(60, 80), (80, 60), (60, 64)])
def test_a_column_of_pictures_of_one_shape_keeps_it(height, width, data_folder):
    for number in range(12):
        picture(data_folder / f"in/{number}.png", height, width, number)
    lines = "".join(f"in/{number}.png,text {number}\n" for number in range(12))
    (data_folder / "rows.csv").write_text(f"photo,text\n{lines}")
    _, loaded = configured("rows.csv", data_folder)
    size = loaded["photo"].task.modality.size
    assert size == {60: (32, 24), 64: (32, 32), 80: (24, 32)}[width]
    assert np.prod(loaded["photo"].task.grid) * 16 == np.prod(size)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("cpux", "unknown target 'cpux'; did you mean cpu?"),
        ("h10:1", "unknown target 'h10:1'; did you mean h100:1?; give a TPU topology such as"),
        ("v9:2x2", "unknown TPU 'v9'; give one of: v4, v5e, v5p, v6e"),
        ("h100:0", "the target 'h100:0' must have from 1 to 16,384 chips, as in h100:8"),
    ],
)
def test_unknown_targets(target, message):
    with pytest.raises(ValueError, match="target|TPU") as caught:
        machine_of(target)
    assert str(caught.value).startswith(message)


def test_targets():
    assert machine_of("v5e:2x4")[1:3] == (8, CHIPS["TPU v5 lite"])
    assert machine_of("h200:1")[1:3] == (1, CHIPS["H200"])
    assert machine_of("cpu").is_cpu and machine_of("cpu").is_here
