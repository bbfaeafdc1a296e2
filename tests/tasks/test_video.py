"""Tokenizers of clips train with every kind of bottleneck, and start from one of images."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vqdit
from tests import tiny
from vqdit.data import Batch
from vqdit.modalities import Image, Video
from vqdit.models import ConvAutoencoder, VideoAutoencoder
from vqdit.optim import AdamW
from vqdit.optim.ema import Averaging
from vqdit.quantizers import FSQ, LFQ, VQ
from vqdit.regularizers import KL
from vqdit.runs.restoring import load_initial
from vqdit.tasks import KLTask, TokenizerTask
from vqdit.train import state as states
from vqdit.train.step import train_step
from vqdit.typing import Named

FIELDS = {
    "name": "video",
    "modality": Video(frames=5, size=(8, 8), channels=1),
    "model": VideoAutoencoder(channels=(4, 8), blocks=1),
}
TABLE = {
    "VQ": TokenizerTask(**FIELDS, quantizer=VQ(codebook_size=16, dim=4, start=3)),
    "FSQ": TokenizerTask(**FIELDS, quantizer=FSQ(levels=(5, 3))),
    "LFQ": TokenizerTask(**FIELDS, quantizer=LFQ(bits=4)),
    "KL": KLTask(**FIELDS, regularizer=KL(dim=3)),
}


def batch(count=2):
    clips = np.random.default_rng(0).integers(0, 256, (count, 5, 8, 8, 1), np.uint8)
    every = jnp.ones(count, bool)
    return Batch(
        data=Named(video=jnp.asarray(clips)),
        present=Named(video=every),
        mask=Named(),
        index=jnp.arange(count),
        valid=every,
    )


@pytest.mark.parametrize("name", list(TABLE))
def test_a_step_keeps_the_state_and_gives_metrics(name):
    task = TABLE[name]
    assert task.grid == (3, 4, 4)
    fixed = task, AdamW(warmup=0).build(2), Averaging()
    state = jax.eval_shape(functools.partial(states.create, *fixed), {}, batch(), jax.random.key(0))
    after, metrics = jax.eval_shape(functools.partial(train_step, *fixed), state, {}, batch())
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )
    assert "reconstruction" in metrics
    found = jax.eval_shape(task.evaluate, state.params, state.stats, {}, batch(), jax.random.key(0))
    assert {"psnr", "l1"} <= set(found)


def test_a_clip_of_one_frame_that_starts_from_images_has_their_tokens(tmp_path):
    experiment = tiny.tokenizer(steps=4, checkpoint_every=0)
    tiny.run(experiment, tmp_path)
    images = vqdit.load(tmp_path)
    assert isinstance(images.task.modality, Image) and isinstance(images.model, ConvAutoencoder)
    task = dataclasses.replace(TABLE["VQ"], quantizer=experiment.task.quantizer)
    params, stats = load_initial(tmp_path, task, *jax.jit(task.blank)())
    x = images.task.modality.standardize(batch(1).data["video"][:, 0])
    wanted = images.encode(np.asarray(x))
    encode = jax.jit(task.encode_standardized)
    np.testing.assert_array_equal(encode(params, stats, x[:, None])[:, 0], wanted)
    still = jnp.repeat(x[:, None], 5, axis=1)
    codes = np.asarray(encode(params, stats, still))
    np.testing.assert_array_equal(codes, np.repeat(wanted[:, None], 3, axis=1))
