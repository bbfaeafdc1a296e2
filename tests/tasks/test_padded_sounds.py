"""Tokenizers of sounds of different lengths: a batch is to each sound as if it were alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tones import LONGEST, RATE, SOUND, Tones, tone
from vqdit import metrics as measures
from vqdit.data.batch import Batch
from vqdit.losses import Mel
from vqdit.modalities import Audio
from vqdit.models import ConvAutoencoder, PatchGAN, StyleGAN, TiTok, VideoAutoencoder
from vqdit.quantizers import BSQ, FSQ, IBQ, LFQ, RVQ, VQ, GroupedVQ, GumbelVQ, SimVQ
from vqdit.ragged import padded, ragged
from vqdit.regularizers import KL
from vqdit.tasks import Adversary, KLTask, TokenizerTask
from vqdit.typing import Named

BOOK = VQ(codebook_size=16, dim=4)
MODEL = ConvAutoencoder(channels=(4, 4), patch=4, blocks=1)
TASK = TokenizerTask(
    name="audio",
    modality=SOUND,
    model=MODEL,
    quantizer=BOOK,
    perceptual=(Mel(rate=RATE, windows=(32,)),),
    adversary=Adversary(
        discriminator=PatchGAN(channels=2, layers=1), lecam=0.1, r1=1.0, r1_every=1
    ),
)
FROZEN = {"mel": {}}
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def batch_of(sounds, length, present=True):
    """Returns padded sounds as a batch; the last one may be missing."""
    data, mask = padded(ragged(sounds), length)
    there = np.ones(len(sounds), bool)
    there[-1] = present
    mask[-1] &= present
    whole = np.ones(len(sounds), bool)
    index = np.arange(len(sounds), dtype=np.int32)
    arrays = ({"audio": data}, {"audio": there}, {"audio": mask})
    named = [Named({k: jnp.asarray(v) for k, v in part.items()}) for part in arrays]
    return Batch(*named, jnp.asarray(index), jnp.asarray(whole))


def started(task, batch):
    params, stats = jit(task.init)(jax.random.key(3), FROZEN, batch)
    leaves, tree = jax.tree.flatten(params)  # what starts at 0 would hide what is behind it
    keys = jax.random.split(jax.random.key(5), len(leaves))
    moved = [p + 0.1 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, moved), stats


SOUNDS = [tone(32), tone(44), tone(18)]
"""They have 96, 56 and 41 samples: the first two fill whole tokens of eight samples."""


@functools.cache
def encoded():
    """Returns parameters of the autoencoder, and its output for the padded and the last sound."""
    task, batch = dataclasses.replace(TASK, adversary=None, perceptual=()), batch_of(SOUNDS, 100)
    params, _ = started(task, batch)
    encode = jit(functools.partial(MODEL.encode, params, width=4))
    raws = (batch.data["audio"], batch.mask["audio"]), (SOUNDS[2][None], jnp.ones((1, 41), bool))
    return params, [encode(SOUND.standardize(jnp.asarray(raw)), mask=mask) for raw, mask in raws]


@pytest.mark.parametrize(
    "quantizer",
    [
        BOOK,
        RVQ(quantizer=BOOK, depth=2),
        GroupedVQ(quantizer=VQ(codebook_size=16, dim=2)),
        FSQ(levels=(8, 5, 3, 2)),
        LFQ(bits=4),
        BSQ(bits=4),
        SimVQ(codebook_size=16, dim=4),
        IBQ(codebook_size=16, dim=4),
        GumbelVQ(codebook_size=16, dim=4),
    ],
    ids=lambda quantizer: type(quantizer).__name__,
)
def test_codes_of_a_padded_sound_are_those_of_the_sound_alone(quantizer):
    task = dataclasses.replace(TASK, quantizer=quantizer, adversary=None, perceptual=())
    params, (padded_h, alone_h) = encoded()
    learned, stats = quantizer.init(
        jax.random.key(3), padded_h, MODEL.token_mask(batch_of(SOUNDS, 100).mask["audio"])
    )
    params = {**params, "quantizer": learned}
    codes = task.tokens_within(params, stats, padded_h, batch_of(SOUNDS, 100).mask["audio"])
    alone = task.tokens_within(params, stats, alone_h, jnp.ones((1, 41), bool))
    assert codes.shape == (3, *task.grid, len(task.codebook_sizes))
    for row, sound in enumerate(SOUNDS):
        tokens = int(task.token_lengths(len(sound)))
        assert (np.asarray(codes[row, :tokens]) >= 0).all()
        np.testing.assert_array_equal(codes[row, tokens:], -1)
    np.testing.assert_array_equal(codes[2, :6], alone[0])
    np.testing.assert_allclose(padded_h[2, :6], alone_h[0], atol=1e-5)
    z, z_alone = (task.lookup(params, stats, part) for part in (codes, alone))
    np.testing.assert_allclose(z[2, :6], z_alone[0], atol=1e-6)
    np.testing.assert_array_equal(z[2, 6:], 0.0)


def test_a_sound_is_reconstructed_as_alone():
    task = dataclasses.replace(TASK, adversary=None, perceptual=())
    batch = batch_of(SOUNDS, LONGEST)
    params, stats = started(task, batch)

    @jit
    def there_and_back(raw, mask):
        codes = task.encode(params, stats, raw, mask)
        return codes, task.decode_standardized(params, stats, codes, mask)

    codes, y = there_and_back(batch.data["audio"], batch.mask["audio"])
    alone, y_alone = there_and_back(SOUNDS[2][None], jnp.ones((1, 41), bool))
    np.testing.assert_array_equal(codes[2, :6], alone[0])
    np.testing.assert_allclose(y[2, :41], y_alone[0], atol=1e-5)
    np.testing.assert_array_equal(y[2, 41:], 0.0)
    assert task.stored_lengths(jnp.asarray([6, 13])).tolist() == [48, LONGEST]


def test_the_loss_of_a_batch_is_that_of_its_examples_weighted_by_their_length():
    """With a Mel loss and a discriminator; a missing example counts nowhere."""
    batch = batch_of([*SOUNDS[:2], SOUNDS[2]], 96, present=False)
    params, stats = started(TASK, batch)

    @jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(params, batch):
        return TASK.loss(params, stats, FROZEN, batch, jax.random.key(4), jnp.asarray(5))

    (value, aux), gradient = loss(params, batch)
    alone = [loss(params, batch_of([sound], len(sound))) for sound in SOUNDS[:2]]
    share = np.asarray([96, 56]) / (96 + 56)

    def weighted(parts):
        return jax.tree.map(lambda a, b: share[0] * a + share[1] * b, *parts)

    np.testing.assert_allclose(value, weighted([part[0][0] for part in alone]), rtol=1e-5)
    expected = weighted([part[1] for part in alone])
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
    for found, wanted in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5 * scale)
    each = [part[0][1].metrics for part in alone]
    for name in ("reconstruction", "mel", "generator", "discriminator", "lecam", "r1"):
        found = [metrics[name] for metrics in each]
        np.testing.assert_allclose(aux.metrics[name], weighted(found), rtol=1e-5, err_msg=name)
    counts = jnp.sum(jnp.isfinite(aux.update[0][0]).all(-1) & aux.update[0][2])
    assert counts == (96 + 56) / 8  # positions that the codebook learns from


@pytest.mark.parametrize("kind", [TokenizerTask, KLTask])
def test_evaluation_adds_up_over_batches_whatever_their_padding(kind):
    fields = {"name": "audio", "modality": SOUND, "model": MODEL}
    more = {"quantizer": BOOK} if kind is TokenizerTask else {"regularizer": KL(dim=4)}
    task = kind(**fields, **more)
    whole = batch_of(SOUNDS, LONGEST)
    params, stats = started(task, whole)
    evaluate = jit(lambda batch: task.evaluate(params, stats, {}, batch, jax.random.key(4)))
    total = None
    for sound in SOUNDS:
        total = measures.merge(total, evaluate(batch_of([sound], len(sound))))
    together = measures.merge(None, evaluate(whole))
    for found, wanted in zip(jax.tree.leaves(together), jax.tree.leaves(total), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    numbers = measures.compute(together)
    assert set(numbers) >= {"l1", "l2", "psnr"}
    assert float(together["l1"].count) == sum(map(len, SOUNDS))


def test_the_divergence_of_a_batch_is_per_token():
    task = KLTask(name="audio", modality=SOUND, model=MODEL, regularizer=KL(dim=4, weight=0.5))
    batch = batch_of(SOUNDS[:2], 96)
    params, stats = started(task, batch)
    loss = jit(lambda batch: task.loss(params, stats, {}, batch, jax.random.key(4), jnp.asarray(0)))
    _, aux = loss(batch)
    alone = [loss(batch_of([sound], len(sound)))[1].metrics["kl"] for sound in SOUNDS[:2]]
    np.testing.assert_allclose(aux.metrics["kl"], (12 * alone[0] + 7 * alone[1]) / 19, rtol=1e-5)
    assert task.weights["kl"] == 0.5 / 8  # the error of a token is a mean over eight samples
    mean, std = task.moments(params, stats, batch.data["audio"], batch.mask["audio"])
    np.testing.assert_array_equal(std[1, 7:], 0.0)
    np.testing.assert_array_equal(mean[1, 7:], 0.0)


def test_what_needs_one_length_is_refused_before_training():
    for change, message in (
        (
            {"modality": Audio(samples=LONGEST, rate=RATE), "model": ConvAutoencoder(patch=1)},
            "'audio' is of variable length in the data, but of one length in the config",
        ),
        ({"model": TiTok(size=(96,), patch=8)}, "TiTok has 32 tokens for every length"),
        ({"model": VideoAutoencoder()}, "takes clips .*, got sequences of varying lengths; use a"),
        ({"adversary": Adversary(discriminator=StyleGAN())}, "use PatchGAN for varying lengths"),
        ({"perceptual": (Mel(rate=RATE, windows=(64,)),)}, "at least 64 samples"),
    ):
        task = dataclasses.replace(TASK, **change)
        TASK.check(Tones().features())
        with pytest.raises(ValueError, match=message):
            task.check(Tones().features())


def test_previews_show_sounds_without_their_padding(tmp_path):
    task = dataclasses.replace(TASK, adversary=None, perceptual=())
    batch = batch_of(SOUNDS, LONGEST)
    params, stats = started(task, batch)
    shown = jax.tree.map(
        np.asarray, jit(lambda: task.preview(params, stats, {}, batch, jax.random.key(4)))()
    )
    assert task.write_preview(shown, tmp_path / "preview").is_file()
    np.testing.assert_array_equal(shown["mask"], batch.mask["audio"])
