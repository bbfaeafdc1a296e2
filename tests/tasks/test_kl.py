"""The autoencoder with continuous latents: trains, resumes, and goes through `vqdit.load`."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vqdit
from tests import tiny
from vqdit.data import Batch, Digits
from vqdit.modalities import Image
from vqdit.models import ConvAutoencoder
from vqdit.processes import Flow
from vqdit.regularizers import KL
from vqdit.runs import restoring
from vqdit.samplers import Euler
from vqdit.tasks import DiffusionTask, KLTask, Target, Trained
from vqdit.tasks.token_space import TokenizerSpace
from vqdit.typing import Named


def kl_task(**fields):
    return KLTask(
        modality=Image(size=(8, 8), channels=1),
        model=ConvAutoencoder(channels=(4, 8), blocks=1),
        regularizer=KL(dim=3, weight=0.01),
        **fields,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kl")
    tiny.run(tiny.tokenizer(task=kl_task(), steps=60, checkpoint_every=0), folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder):
    return vqdit.load(folder)


@pytest.fixture(scope="module")
def images():
    return Digits().split("test").take(np.arange(6))["image"]


def test_it_learns_and_logs_both_terms(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line for line in lines if "loss" in line]
    assert losses[-1]["reconstruction"] < 0.5 * losses[0]["reconstruction"]
    for line in losses:
        assert line["loss"] == pytest.approx(
            line["reconstruction"] + 0.01 * line["kl"] / 64, rel=1e-5
        )
    assert lines[-1]["validation/kl"] > 0


def test_latents_and_images_go_in_and_out(tokenizer, images):
    latents = np.asarray(tokenizer.encode(images))
    assert (latents.dtype, latents.shape) == (np.float32, (6, 4, 4, 3))
    h = tokenizer.model.encode(
        tokenizer.params, tokenizer.task.modality.standardize(jnp.asarray(images)), 6
    )
    np.testing.assert_allclose(latents, h[..., :3], atol=1e-5)  # the mean: no noise
    decoded = np.asarray(tokenizer.decode(latents))
    assert (decoded.dtype, decoded.shape) == (np.uint8, images.shape)
    error = (decoded.astype(float) - images) ** 2
    assert error.mean() < 0.5 * np.mean((images - images.mean()) ** 2)


def test_what_are_no_latents_is_not_decoded(tokenizer):
    with pytest.raises(ValueError) as error:
        tokenizer.decode(np.zeros((1, 4, 4, 3), int))
    assert str(error.value) == "decode takes float latents [b, 4, 4, 3], got int64 [1, 4, 4, 3]"
    latents = np.zeros((1, 4, 4, 3), np.float32)
    latents[0, 1, 2, 0] = np.nan
    with pytest.raises(ValueError, match=r"decode needs finite.*nan at \[0, 1, 2, 0\]"):
        tokenizer.decode(latents)


def test_padding_takes_no_part(key):
    task = kl_task()
    params, stats = task.blank()
    h = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4, 4, 6)), jnp.float32)
    mask = jnp.asarray([True, True, False, False])[:, None, None] & jnp.ones((4, 4, 4), bool)
    step = jnp.int32(0)
    losses = task.bottleneck(params, stats, h, key, step, mask).losses
    other = task.bottleneck(params, stats, h.at[2:].set(9.0), key, step, mask).losses
    assert losses["kl"] == other["kl"] > 0


def test_a_diffusion_over_codes_refuses_it_by_name():
    experiment = tiny.generator()
    with pytest.raises(ValueError) as error:
        experiment.task.resolve_references(lambda name: kl_task())
    assert str(error.value) == (
        "'tokenizer', the tokenizer of 'image', is a KLTask, whose tokens are latents, but Masked "
        "is a process over codes; use a continuous process, such as Flow, or name the workdir of "
        "a tokenizer with codes"
    )
    target = Target(process=Flow(), sampler=Euler(), posterior="sample")
    with pytest.raises(ValueError, match="is a TokenizerTask, which has no posterior to sample"):
        DiffusionTask(targets=Named(image=target)).resolve_references(
            lambda name: tiny.tokenizer().task
        )


def test_latents_enter_a_dit_by_the_mean_or_by_samples_of_their_posterior(folder, images):
    restored = restoring.restore(folder)
    trained = Trained(restored.task, restored.params, restored.stats)
    rows, images = np.arange(len(images), dtype=np.int32), jnp.asarray(images)
    every = np.ones(len(images), bool)
    batch = Batch(Named(image=images), Named(image=every), Named(), rows, every)
    spaces = {
        kind: TokenizerSpace(tokenizer=trained.task, process=Flow(), posterior=kind)
        for kind in ("mean", "sample")
    }
    assert spaces["mean"].shape == (16, 3) and spaces["mean"].vectors({}) is None
    assert (spaces["mean"].tokens.width, spaces["mean"].tokens.output) == (3, 3)
    frozen = {kind: space.freeze(trained, [batch], "image") for kind, space in spaces.items()}
    keys = jax.random.split(jax.random.key(0), len(images))
    moments = jax.jit(trained.task.moments)(trained.params, trained.stats, images)
    mean, variance = np.asarray(moments[0], np.float64), np.asarray(moments[1], np.float64) ** 2
    found = frozen["mean"]
    np.testing.assert_allclose(found["mean"], mean.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(found["std"], mean.std((0, 1, 2)), rtol=1e-4)
    wanted = np.sqrt(mean.var((0, 1, 2)) + variance.mean((0, 1, 2)))
    np.testing.assert_allclose(frozen["sample"]["std"], wanted, rtol=1e-4)

    x_0 = spaces["mean"].encode(found, images)
    np.testing.assert_array_equal(spaces["mean"].draw(found, images, keys), x_0)
    z = np.asarray(x_0) * found["std"] + found["mean"]
    np.testing.assert_allclose(z, mean.reshape(z.shape), atol=1e-5)
    decoded = np.asarray(spaces["mean"].decode(found, x_0)).astype(int)
    expected = vqdit.load(folder).decode(mean.astype(np.float32))
    assert np.abs(decoded - expected).max() <= 1  # rounding

    scale, offset = frozen["sample"]["std"], frozen["sample"]["mean"]
    draw = jax.jit(jax.vmap(lambda key: spaces["sample"].draw(frozen["sample"], images, key)))
    draws = draw(jax.random.split(jax.random.key(1), (400, len(images))))
    z = np.asarray(draws, np.float64) * scale + offset
    deviation = (z.mean(0) - mean.reshape(z.shape[1:])) / np.sqrt(variance.reshape(z.shape[1:]))
    assert np.abs(deviation).max() < 5 / np.sqrt(400)
    ratio = z.var(0) / variance.reshape(z.shape[1:])
    assert np.abs(ratio - 1).max() < 5 * np.sqrt(2 / 400)


@pytest.mark.parametrize("posterior", ["mean", "sample"])
def test_a_dit_over_latents_trains_and_samples(folder, posterior, tmp_path):
    target = Target(
        tokenizer=str(folder), process=Flow(), sampler=Euler(steps=2), posterior=posterior
    )
    experiment = tiny.flow_generator(
        task=dataclasses.replace(tiny.generator().task, targets=Named(image=target)), steps=3
    )
    outcome = tiny.run(experiment, tmp_path)
    assert np.isfinite(outcome.metrics["loss_image"])
    model = vqdit.load(tmp_path)
    sample = model.sample(2, seed=1)["image"]
    assert (sample.dtype, sample.shape) == (np.uint8, (2, 8, 8, 1))
