"""The shipped configs: each builds, has the right shapes at full size, and trains when shrunk."""

import dataclasses
import functools
import json
import math
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from vqdit import config
from vqdit.cli.overrides import override
from vqdit.config import Experiment
from vqdit.data import Batch, Data, Feature, Source
from vqdit.data.sources import PRESENT
from vqdit.losses import LPIPS, Mel
from vqdit.modalities import BPE, Audio, Image, Label, Modality, Text, Video
from vqdit.models import (
    DAC,
    Codec,
    ConvAutoencoder,
    DiT,
    Mimi,
    MultiPeriod,
    MultiSTFT,
    PatchGAN,
    SEANet,
    TiTok,
    Tokens,
    VideoAutoencoder,
    VQGANPlus,
)
from vqdit.quantizers import FSQ, RVQ, VQ, Projected
from vqdit.ragged import ragged
from vqdit.samplers import Sampler
from vqdit.tasks import (
    Adversary,
    CodeTarget,
    DiffusionTask,
    Target,
    TokenizerTask,
    Trained,
    lengths,
)
from vqdit.train import state as states
from vqdit.train.step import train_step
from vqdit.typing import Component, Named

CHECKOUT = Path(__file__).parent.parent
CONFIGS = config.shipped()
EXPERIMENTS = {
    f"{name}:{part}" if isinstance(found, dict) else name: experiment
    for name, (_, found) in ((name, config.load(name)) for name in CONFIGS)
    for part, experiment in (found if isinstance(found, dict) else {"": found}).items()
}
LARGE = ("audio/dac44k", "audio/encodec24k", "audio/mimi24k")
"""Configs whose step takes longer to trace than a quick test may, though nothing is computed."""
GENERATORS = [name for name, e in EXPERIMENTS.items() if isinstance(e.task, DiffusionTask)]


def named(name, reference):
    """The name of the experiment that a config calls by a name, or by a workdir."""
    if ":" in name:
        return f"{name.split(':')[0]}:{reference}"
    return next(other for other in CONFIGS if f"runs/{Path(other).name}" == reference)


def tokenizers_of(name):
    """The tokenizer tasks that an experiment is, or refers to, by the modality's name."""
    task = EXPERIMENTS[name].task
    if isinstance(task, TokenizerTask):
        return {task.name: task}
    return {
        target: EXPERIMENTS[named(name, found.reference)].task
        for target, found in task.targets.items()
        if found.reference
    }


def test_the_shipped_configs_are_those_of_the_checkout():
    assert set(CONFIGS.values()) == set((CHECKOUT / "configs").rglob("*.py"))
    assert {"quickstart", "image/fashion_vqvae", "image/imagenet256_dit_xl2"} <= set(CONFIGS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_goes_to_json_and_back(name):
    text = json.dumps(config.to_json(EXPERIMENTS[name]))
    assert config.from_json(json.loads(text)) == EXPERIMENTS[name]


@pytest.mark.parametrize("name", CONFIGS)
def test_its_docstring_names_its_command(name):
    doc = CONFIGS[name].read_text().split('"""')[1]
    path = CONFIGS[name].relative_to(CHECKOUT).as_posix()
    assert f"python train.py --config={path}" in doc


@pytest.mark.parametrize("name", GENERATORS)
def test_its_docstring_names_the_command_of_its_tokenizer_first(name):
    if ":" in name:
        return  # in the same config
    doc = CONFIGS[name].read_text().split('"""')[1]
    references = [target.reference for target in EXPERIMENTS[name].task.targets.values()]
    if not any(references):
        return  # codes need no tokenizer
    (reference,) = (reference for reference in references if reference)
    first = CONFIGS[named(name, reference)].relative_to(CHECKOUT).as_posix()
    own = CONFIGS[name].relative_to(CHECKOUT).as_posix()
    assert 0 < doc.index(f"--config={first}") < doc.index(f"--config={own}")


@pytest.mark.parametrize("name", CONFIGS)
def test_the_overrides_that_its_docstring_names_apply(name):
    doc = CONFIGS[name].read_text().split('"""')[1]
    options = re.findall(r"--(?!config|workdir|given)[\w.-]+=[^\s:;]*[^\s:;.]", doc)
    found = config.load(name)[1]
    assert (override(found, options) == found) == (not options)


def connected(name):
    """The task with its tokenizers, as they would be found after training."""
    return EXPERIMENTS[name].task.resolve_references(
        lambda found: EXPERIMENTS[named(name, found)].task
    )


def modalities_of(task):
    """The modalities that a task uses, by name."""
    if isinstance(task, TokenizerTask):
        return {task.name: task.modality}
    return {name: task.modality(name) for name in (*task.targets, *task.conditions)}


def abstract_batch(task, size):
    """Shapes of a batch of the modalities that a task uses."""
    data = {
        name: jax.ShapeDtypeStruct((size, *modality.shape), modality.dtype)
        for name, modality in modalities_of(task).items()
    }
    flags = jax.ShapeDtypeStruct((size,), jnp.bool_)
    index = jax.ShapeDtypeStruct((size,), jnp.int32)
    mask = {
        name: jax.ShapeDtypeStruct((size, modality.shape[0]), jnp.bool_)
        for name, modality in modalities_of(task).items()
        if modality.lengths
    }
    return Batch(Named(data), Named({name: flags for name in data}), Named(mask), index, flags)


def step_of(experiment, task):
    """Functions that make the first state, and the next one, of an experiment."""
    optimizer = task.optimizer(experiment.optimizer, experiment.steps)
    create = functools.partial(states.create, task, optimizer, experiment.averaging)
    return create, functools.partial(train_step, task, optimizer, experiment.averaging)


def grid_of(model, size):
    """The grid of codes, by the fields of the model."""
    if isinstance(model, TiTok):
        return (model.tokens,)
    if isinstance(model, Codec):
        down = math.prod(model.strides) * getattr(model, "token_stride", 1)
        return tuple(-(-edge // down) for edge in size)
    if isinstance(model, VideoAutoencoder):
        stride = 2 ** (len(model.channels) - 1)
        return (1 + (size[0] - 1) // stride, *(edge // stride // model.patch for edge in size[1:]))
    down = getattr(model, "patch", 1) * 2 ** (len(getattr(model, "channels", (1,))) - 1)
    return tuple(-(-edge // down) for edge in size)


def choices(value: Any) -> Any:
    """All parts and their choices; of numbers, whether they are 0 or 1."""
    if isinstance(value, Named):
        return tuple((name, choices(item)) for name, item in value.items())
    if isinstance(value, tuple):
        return tuple(map(choices, value))
    if isinstance(value, Component):
        fields = [getattr(value, field.name) for field in dataclasses.fields(value)]
        return type(value), *map(choices, fields)
    return "any" if isinstance(value, int | float) and value not in (0, 1) else value


def by_choices():
    """Every experiment; slow are large ones, and those whose task differs in sizes alone."""
    seen, found = set(), []
    for name in EXPERIMENTS:
        task = choices(connected(name) if name in GENERATORS else EXPERIMENTS[name].task)
        is_slow = name in LARGE or task in seen
        found.append(pytest.param(name, marks=[pytest.mark.slow] * is_slow))
        if not is_slow:
            seen.add(task)
    return found


@pytest.mark.parametrize("name", by_choices())
def test_at_full_size_the_shapes_of_step_evaluation_and_preview_are_right(name):
    """Nothing is computed."""
    experiment = EXPERIMENTS[name]
    task = connected(name) if name in GENERATORS else experiment.task
    batch = abstract_batch(task, experiment.data.batch_size)
    frozen, key = jax.eval_shape(task.frozen_like), jax.eval_shape(lambda: jax.random.key(0))
    create, step = step_of(experiment, task)
    state = jax.eval_shape(create, frozen, batch, key)
    new, metrics = jax.eval_shape(step, state, frozen, batch)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    leaves = zip(jax.tree.leaves(new), jax.tree.leaves(state), strict=True)
    assert all((a.shape, a.dtype) == (b.shape, b.dtype) for a, b in leaves)
    assert {value.shape for value in metrics.values()} == {()}

    inputs = (state.params, state.stats, frozen, batch, key)
    measured = jax.eval_shape(task.evaluate, *inputs)
    preview = jax.eval_shape(task.preview, *inputs)
    if isinstance(task, TokenizerTask):
        assert task.grid == grid_of(task.model, task.modality.grid)
        sizes = task.quantizer.codebook_sizes
        assert measured["codebook"].counts.shape == (len(sizes), max(sizes))
        shown = min(16, experiment.data.batch_size)
        assert preview["result"].shape == (shown, *task.modality.shape)
    else:
        classes = [c.modality.classes for c in task.conditions.values() if c.classes]
        columns = min(10, min(classes)) if classes else 8
        each = [*task.targets, *map(lengths.of, task.variable)]
        assert set(measured) == {f"loss_{target}" for target in each}
        for target in task.targets:
            assert preview[target].shape == (8 * columns, *task.modality(target).shape)
    for target, shape in preview.items():
        if target.endswith(lengths.SUFFIX) or target == "mask":
            continue
        found = task.modality if isinstance(task, TokenizerTask) else task.modality(target)
        assert shape.dtype == found.dtype


def count(shapes):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def dit_count(d, depth, *, width, output, rows, patch=2):
    """Parameters of a DiT, by layer."""

    def dense(inputs, outputs):
        return inputs * outputs + outputs

    block = dense(d, 6 * d) + dense(d, 3 * d) + dense(d, d) + dense(d, 4 * d) + dense(4 * d, d)
    assert block == 18 * d**2 + 15 * d
    time = dense(256, d) + dense(d, d)
    head = dense(d, 2 * d) + dense(d, output * patch**2)
    return depth * block + time + rows * d + dense(width * patch**2, d) + head


def test_imagenet_dit_is_the_published_xl2():
    """Published: 675,129,632 with 4 latent channels, learned sigma and the frozen positions."""
    task = connected("image/imagenet256_dit_xl2")
    assert task.inputs["image"].grid == (32, 32)
    shapes = jax.eval_shape(lambda: task.model.init(jax.random.key(0), task.inputs))
    blocks = count(shapes["blocks"])
    assert blocks == 28 * (18 * 1152**2 + 15 * 1152) == 669_344_256
    ours = dit_count(1152, 28, width=8, output=8, rows=1001)
    assert count(shapes) == ours
    published = dit_count(1152, 28, width=4, output=8, rows=1001)
    assert published + 256 * 1152 == 675_129_632
    # Twice the latent channels at the entrance; as many outputs, without learned sigma.
    assert ours - published == (8 - 4) * 2**2 * 1152


def test_the_named_xl2_with_the_published_inputs_has_the_published_count():
    inputs = Named(
        image=Tokens(grid=(32, 32), width=4, output=8),
        label=Tokens(route="adaln", grid=(1,), codes=1000),
    )
    shapes = jax.eval_shape(lambda: DiT.named("XL/2").init(jax.random.key(0), inputs))
    assert count(shapes) == 675_129_632 - 256 * 1152  # positions are no parameters here


CLASSES = 10


class Noise(Source):
    """Random examples of some modalities."""

    modalities: Named[Modality] = Named()

    def features(self):
        def feature(modality):
            units = "t h" if isinstance(getattr(modality, "units", None), BPE) else ""
            feature = Feature(modality.shape, dtype=str(modality.dtype), units=units)
            return feature._replace(ragged=modality.lengths is not None)

        return Named({name: feature(modality) for name, modality in self.modalities.items()})

    def split(self, name):
        return self

    def __len__(self):
        return 40

    def take(self, rows):
        generator, arrays = np.random.default_rng(0), {}
        for name, modality in self.modalities.items():
            high = modality.vocabulary or 256
            drawn = generator.integers(0, high, (len(self), *modality.shape))
            arrays[name] = drawn.astype(modality.dtype)[rows]
            if modality.lengths:
                low, high = modality.lengths
                counts = low + rows % (high - low + 1)
                pairs = zip(arrays[name], counts, strict=True)
                arrays[name] = ragged([row[:count] for row, count in pairs])
            arrays[PRESENT + name] = np.ones(len(rows), bool)
        return arrays


def shrunk(experiment: Experiment, tokenizers: dict[str, TokenizerTask], **fields) -> Experiment:
    """The same structure, small: every choice of a class, a law or a flag stays."""
    edges = {type(each.modality): 4 * each.model.downsampling for each in tokenizers.values()}
    small: dict[type, Any] = {
        Experiment: lambda _: {"steps": 2, "log_every": 1, "evaluate_every": 0, "preview_every": 0},
        Data: lambda _: {"source": Noise(), "batch_size": 8, "workers": 0},
        Image: lambda _: {"size": (edges[Image],) * 2},
        Audio: lambda audio: (
            {"seconds": (edges[Audio] / audio.rate / 2, edges[Audio] / audio.rate)}
            if audio.seconds
            else {"samples": edges.get(Audio, audio.samples)}
        ),
        Video: lambda _: {"frames": 5, "size": (edges[Video],) * 2},
        Text: lambda text: {"length": edges.get(Text, min(text.length, 16))},
        BPE: lambda _: {"size": 300},
        FSQ: lambda _: {"levels": (3, 3)},
        ConvAutoencoder: lambda model: {
            "channels": tuple(4 if c == model.channels[0] else 8 for c in model.channels),
            "blocks": 1,
        },
        VideoAutoencoder: lambda model: {
            "channels": tuple(4 if c == model.channels[0] else 8 for c in model.channels),
            "blocks": 1,
        },
        VQGANPlus: lambda model: {
            "channels": tuple(4 if c == model.channels[0] else 8 for c in model.channels),
            "blocks": 1,
            "groups": 2,
        },
        SEANet: lambda _: {"channels": 4, "layers": 1},
        DAC: lambda _: {"channels": 4, "decoder_channels": 16, "blocks": 1},
        Mimi: lambda _: {"channels": 4, "layers": 1, "heads": 2, "window": 4, "hidden": 8},
        Projected: lambda _: {"dim": 8},
        TiTok: lambda _: {
            "size": (edges[Image],) * 2,
            "tokens": 3,
            "depth": 2,
            "width": 16,
            "heads": 2,
        },
        VQ: lambda vq: {"codebook_size": 16, "dim": 4, "start": min(vq.start, 1)},
        PatchGAN: lambda _: {"channels": 4},
        MultiPeriod: lambda _: {"channels": 1, "periods": (2, 3)},
        MultiSTFT: lambda _: {"channels": 2, "windows": (32, 64)},
        RVQ: lambda rvq: {"depth": min(rvq.depth, 3)},
        Adversary: lambda _: {"start": 0},
        Mel: lambda mel: {"windows": (32, 64), "bands": mel.bands[:2]},
        DiT: lambda _: {"depth": 2, "dim": 16, "heads": 2},
        Sampler: lambda _: {"steps": 2},
        Label: lambda _: {"classes": CLASSES, "names": ()},
        CodeTarget: lambda _: {},
        Target: lambda target: {"tokenizer": target.tokenizer},
    }

    def shrink(value: Any) -> Any:
        if isinstance(value, Named):
            return Named({name: shrink(item) for name, item in value.items()})
        if isinstance(value, tuple):
            return tuple(shrink(item) for item in value)
        if not isinstance(value, Component):
            return value
        changes = next((small[cls] for cls in type(value).__mro__ if cls in small), lambda _: {})
        inner = {f.name: shrink(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **{**inner, **changes(value)})

    return dataclasses.replace(shrink(experiment), **fields)


def kinds(value: Any) -> list[type]:
    """The classes of all parts, in order."""
    if isinstance(value, Named):
        value = tuple(value.values())
    if isinstance(value, tuple):
        return [kind for item in value for kind in kinds(item)]
    if not isinstance(value, Component):
        return []
    fields = (getattr(value, field.name) for field in dataclasses.fields(value))
    return [type(value), *(kind for field in fields for kind in kinds(field))]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_shrinking_keeps_the_structure(name):
    experiment = EXPERIMENTS[name]
    small = shrunk(experiment, tokenizers_of(name))
    assert kinds(small.task) == kinds(experiment.task)
    assert small.data.augment == experiment.data.augment
    assert small.optimizer == experiment.optimizer
    assert small.ema == experiment.ema
    if isinstance(small.task, DiffusionTask):
        for field in ("dtype", "remat", "patch"):
            assert getattr(small.task.model, field) == getattr(experiment.task.model, field)
    else:
        kept = [getattr(e.task.quantizer, "distance", None) for e in (small, experiment)]
        assert kept[0] == kept[1]
        assert small.task.model.dtype == experiment.task.model.dtype


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_two_shrunk_steps_run(name, monkeypatch):
    """On fresh tokenizers, in the precision and with all the choices of the config."""
    for module in ("models.features", "losses.perceptual"):  # VGG-16 with few channels
        monkeypatch.setattr(f"vqdit.{module}.VGG16_STAGES", ((4, 4),) * 5)
    weights = functools.partial(jax.tree.map, lambda leaf: np.full(leaf.shape, 0.01, leaf.dtype))
    monkeypatch.setattr(LPIPS, "load", lambda lpips: weights(lpips.like()))
    # Two steps: compiling well takes ten times as long as they do.
    jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    experiment = shrunk(EXPERIMENTS[name], tokenizers_of(name))

    def small(reference: str) -> TokenizerTask:
        found = named(name, reference)
        return shrunk(EXPERIMENTS[found], tokenizers_of(found)).task

    connected = experiment.task.resolve_references(small)
    source = Noise(modalities=Named(modalities_of(connected)))
    data = dataclasses.replace(experiment.data, source=source)
    connected.check(data.features())
    batch = jax.tree.map(jnp.asarray, data.first_batch(0))

    def resolve(reference: str) -> Trained:
        task = small(reference)
        return Trained(
            task, *jit(functools.partial(task.init, frozen={}))(jax.random.key(1), batch=batch)
        )

    task, frozen = experiment.task.load(resolve, lambda: data.split_batches("train"))
    create, step = step_of(experiment, task)
    state = jit(create)(frozen, batch, jax.random.key(0))
    step, losses, before = jit(step), [], state.params
    for _ in range(2):
        state, metrics = step(state, frozen, batch)
        losses.append(float(metrics["loss"]))
    assert int(state.step) == 2
    assert np.isfinite(losses).all()
    assert losses[0] > 0
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, state.params)
    assert any(jax.tree.leaves(moved))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(state.params))


@pytest.mark.slow
def test_the_quickstart_shrunk_learns(tmp_path):
    """On its own data, in all experiments."""
    short = {"log_every": 1, "checkpoint_every": 0, "preview_every": 0}
    for part in ("image", "audio"):
        full = EXPERIMENTS[f"quickstart:{part}"]
        channels = tuple(channels // 4 for channels in full.task.model.channels)
        model = dataclasses.replace(full.task.model, channels=channels)
        task = dataclasses.replace(
            full.task, model=model, quantizer=VQ(codebook_size=16, dim=4, start=30)
        )
        data = dataclasses.replace(full.data, batch_size=32)
        small = dataclasses.replace(full, task=task, data=data, steps=80, **short)
        tiny.run(small, tmp_path / part)
    full = EXPERIMENTS["quickstart:joint"]
    small = dataclasses.replace(
        full,
        task=dataclasses.replace(full.task, model=DiT(depth=1, dim=32, heads=2, patch=1)),
        data=dataclasses.replace(full.data, batch_size=32),
        steps=120,
        **short,
    )
    tiny.run(small, tmp_path / "joint", image=tmp_path / "image", audio=tmp_path / "audio")
    for name, loss in (("image", "reconstruction"), ("audio", "reconstruction"), ("joint", "loss")):
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        losses = [record[loss] for record in map(json.loads, lines) if loss in record]
        assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10]), name
