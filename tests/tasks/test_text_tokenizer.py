"""Tokenizers of text: codes enter as one-hot vectors, and leave as the most probable ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.data.batch import Batch
from vqdit.losses import Mel
from vqdit.modalities import Image, Label, Text
from vqdit.models import ConvAutoencoder, DiT
from vqdit.quantizers import FSQ
from vqdit.tasks import Adversary, DiffusionTask, KLTask, Target, TokenizerTask, Trained
from vqdit.typing import Named

TASK = TokenizerTask(
    name="text",
    modality=Text(length=16),
    model=ConvAutoencoder(channels=(8,), patch=4, blocks=1),
    quantizer=FSQ(levels=(4, 4, 4)),
    reconstruction="cross_entropy",
)


@pytest.fixture(scope="module")
def batch():
    rows = np.random.default_rng(0).integers(0, 256, (4, 16)).astype(np.uint8)
    valid = jnp.asarray([True, True, True, False])
    names = Named(text=jnp.ones(4, bool))
    return Batch(Named(text=jnp.asarray(rows)), names, Named(), jnp.arange(4), valid)


@pytest.fixture(scope="module")
def trained(batch):
    return jax.jit(functools.partial(TASK.init, frozen={}))(jax.random.key(0), batch=batch)


def test_a_window_of_bytes_has_a_quarter_of_the_codes(trained, batch):
    codes = TASK.encode(*trained, batch.data["text"])
    assert (TASK.grid, codes.shape, codes.dtype) == ((4,), (4, 4, 1), jnp.int32)
    decoded = TASK.decode(*trained, codes)
    logits = TASK.decode_standardized(*trained, codes)
    assert (decoded.shape, decoded.dtype, logits.shape) == ((4, 16), jnp.uint8, (4, 16, 256))
    np.testing.assert_array_equal(decoded, np.argmax(logits, axis=-1))


def test_the_loss_is_the_cross_entropy_of_the_bytes_and_the_metric_their_accuracy(trained, batch):
    raw = batch.data["text"]
    logits = TASK.decode_standardized(*trained, TASK.encode(*trained, raw))
    log_p = np.asarray(jax.nn.log_softmax(logits))
    surprise = -np.take_along_axis(log_p, np.asarray(raw, int)[..., None], axis=-1)[:3].mean()
    loss, aux = TASK.loss(*trained, {}, batch, jax.random.key(1), jnp.asarray(0))
    np.testing.assert_allclose(loss, surprise, rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["reconstruction"], surprise, rtol=1e-5)
    measured = TASK.evaluate(*trained, {}, batch, jax.random.key(1))
    right = (np.argmax(logits, axis=-1) == np.asarray(raw))[:3].mean()
    np.testing.assert_allclose(measured["accuracy"].compute("")[""], right)
    np.testing.assert_allclose(measured["cross_entropy"].compute("")[""], surprise, rtol=1e-5)
    assert "psnr" not in measured


def test_a_dit_takes_the_codes_and_gives_texts(trained, batch):
    task = DiffusionTask(
        targets=Named(text=Target(tokenizer="text")), model=DiT(depth=1, dim=8, heads=2, patch=1)
    )
    task, frozen = task.load(lambda name: Trained(TASK, *trained), lambda: [batch])
    assert task.space("text").shape == (4, 1) and not task.is_packed("text")
    x_0 = task.space("text").encode(frozen["text"], batch.data["text"])
    assert task.space("text").decode(frozen["text"], x_0).dtype == jnp.uint8


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"reconstruction": "l2"},
            "TokenizerTask of Text cannot use reconstruction='l2'; use reconstr",
        ),
        (
            {"modality": Image()},
            "of Image cannot use reconstruction='cross_entropy'; use 'l1', 'l2' or",
        ),
        (
            {"modality": Label(), "reconstruction": "l1"},
            "of Label cannot use reconstruction='l1'; use",
        ),
        ({"perceptual": (Mel(),)}, "Text has codes, which have no perceptual losses or adv"),
        ({"adversary": Adversary()}, "Text has codes, which have no perceptual losses"),
    ],
)
def test_losses_of_codes_and_of_other_data_are_not_mixed(fields, message):
    kept = {"modality": TASK.modality, "reconstruction": "cross_entropy", **fields}
    with pytest.raises(ValueError, match=message):
        TokenizerTask(name="text", model=TASK.model, quantizer=TASK.quantizer, **kept)


def test_latents_of_a_text_are_decoded_to_bytes(batch):
    model = ConvAutoencoder(channels=(8,), patch=4, blocks=1)
    task = KLTask(
        name="text", modality=Text(length=16), model=model, reconstruction="cross_entropy"
    )
    params, stats = task.init(jax.random.key(0), {}, batch)
    decoded = task.decode(params, stats, task.encode(params, stats, batch.data["text"]))
    assert (decoded.shape, decoded.dtype) == ((4, 16), jnp.uint8)
