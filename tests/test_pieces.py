"""Recordings piece by piece: the codes and samples of the whole, with context and state carried."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.config import Experiment
from vqdit.inference.tokenizer import Tokenizer
from vqdit.modalities import Audio
from vqdit.models import DAC, ConvAutoencoder, Mimi, SEANet
from vqdit.quantizers import RVQ, VQ
from vqdit.runs.restoring import Restored
from vqdit.tasks import TokenizerTask

pytestmark = pytest.mark.slow  # every stage is compiled for several lengths
RATE, HOP, LENGTH = 600, 6, 451
SMALL = {"channels": 4, "strides": (2, 3)}
TABLE = {
    "SEANet": SEANet(**SMALL),
    "SEANet centred": SEANet(**SMALL, layers=1, causal=False, padding="reflect", norm="none"),
    "SEANet attention": SEANet(**SMALL, middle="attention", heads=2, window=7),
    "DAC": DAC(**SMALL, decoder_channels=12, blocks=2),
    "DAC cut": DAC(**SMALL, decoder_channels=12, blocks=2, cut_odd=True),
    "Mimi": Mimi(channels=4, strides=(3,), layers=2, heads=2, window=5, hidden=6),
}
X = np.random.default_rng(0).uniform(-0.9, 0.9, (2, LENGTH, 1)).astype(np.float32)


@functools.cache
def codec(name):
    return tokenizer(TABLE[name])


def tokenizer(model):
    task = TokenizerTask(
        name="audio",
        modality=Audio(rate=RATE, seconds=(0.01, 10.0)),
        model=model,
        quantizer=RVQ(quantizer=VQ(codebook_size=16, dim=8), depth=2),
    )

    def init():
        x = jnp.asarray(X[:, :450])
        params = model.init(jax.random.key(0), x, 8)
        learned, stats = task.quantizer.init(jax.random.key(1), model.encode(params, x, 8))
        return {**params, "quantizer": learned}, stats

    params, stats = jax.jit(init)()
    return Tokenizer(Restored(Experiment(task=task), task, params, stats, {}, 0), standardized=True)


@functools.cache
def whole(name):
    codes = np.asarray(codec(name).encode(X))
    return codes, np.asarray(codec(name).decode(codes))


@pytest.mark.parametrize("name", TABLE)
def test_pieces_give_what_the_whole_gives(name):
    """13 tokens and 7 divide neither the recording nor each other."""
    codes, y = whole(name)
    assert codes.shape == (2, 76, 2) and y.shape == (2, 456, 1) and len(np.unique(codes)) > 8
    np.testing.assert_array_equal(codec(name).encode(X, chunk=0.13), codes)
    np.testing.assert_allclose(codec(name).decode(codes, chunk=0.07), y, atol=1e-4)
    assert np.abs(y).max() > 1e-3


@pytest.mark.parametrize("name", ["SEANet", "Mimi"])
def test_a_stream_has_a_code_as_soon_as_its_last_sample_is_there(name):
    codes, y = whole(name)
    blocks = np.split(X, [1, 6, 11, 40, 300], axis=1)
    there, found = 0, []
    stream = codec(name).encode_stream(iter(blocks), codebooks=1)
    received = []

    def given():
        nonlocal there
        for block in blocks:
            there += block.shape[1]
            yield block[..., 0]

    stream = codec(name).encode_stream(given(), codebooks=1)
    for part in stream:
        found.append(part)
        received.append((there, sum(piece.shape[1] for piece in found)))
    np.testing.assert_array_equal(np.concatenate(found, axis=1), codes[..., :1])
    mirrors = TABLE[name].padding == "reflect"  # the first token sees samples behind it
    for samples, tokens in dict(received).items():
        assert (
            mirrors
            and samples < 100
            or tokens == (samples // HOP if samples < LENGTH else len(codes[0]))
        )
    decoded = np.concatenate(list(codec(name).decode_stream(np.split(codes, [1, 30], 1))), axis=1)
    np.testing.assert_allclose(decoded, y, atol=1e-4)


def test_one_recording_shorter_than_a_token_and_fewer_codebooks():
    model = codec("SEANet")
    short = X[:1, :4, 0]
    codes = model.encode(short)
    np.testing.assert_array_equal(model.encode(short, chunk=1.0), codes)
    assert codes.shape == (1, 1, 2) and model.decode(codes, length=4).shape == (1, 4, 1)
    assert model.rate == RATE
    full, first = whole("SEANet")[0], model.encode(X, codebooks=1)
    np.testing.assert_array_equal(first, full[..., :1])
    coarse, masked = model.decode(first), np.where([True, False], full, -1)
    np.testing.assert_array_equal(coarse, model.decode(masked))
    assert np.abs(coarse - whole("SEANet")[1]).max() > 1e-3


def test_what_cannot_be_done_in_pieces_is_refused_with_the_reason():
    model = codec("SEANet")
    statistics = tokenizer(SEANet(**SMALL, middle="none", norm="time_group_norm", causal=False))
    convolutional = tokenizer(ConvAutoencoder(channels=(4, 4), blocks=1, patch=3))
    assert convolutional.encode(X).shape == (2, 76, 2)
    for call, message in (
        (lambda: statistics.encode(X, chunk=0.1), "statistics of the whole recording"),
        (lambda: convolutional.encode(X, chunk=0.1), "ConvAutoencoder encodes recordings as a"),
        (lambda: codec("DAC").encode_stream([X]), "DAC depend on later samples, too; use encode"),
        (lambda: model.encode(X, chunk=0.0), "chunk must be a number of seconds above 0"),
        (
            lambda: model.encode(X, codebooks=3),
            "codebooks must be from 1 .*, got 3; the tokenizer has 2",
        ),
        (lambda: model.decode(np.zeros((1, 4, 3), np.int32)), r"takes integers \[b, 4, 2\]"),
        (lambda: model.encode(np.zeros((1, 9, 2), np.float32)), r"float32 \[b, t\] or \[b, t, 1\]"),
        (lambda: model.encode(X * np.nan), "needs finite numbers"),
        (lambda: model.encode(2 * X), r"float32 in \[-1, 1\]"),
        (lambda: model.decode(whole("SEANet")[0], length=1), "fills 76 tokens, got 1"),
        (lambda: model.decode(whole("SEANet")[0], loudness=[1.0]), "loudness is only for codecs"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
