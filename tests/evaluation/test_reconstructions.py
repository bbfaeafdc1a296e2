"""Recordings of any length through codecs, padded or piece by piece, and how they are measured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.test_pieces import RATE, codec, tokenizer
from vqdit.evaluation.reconstructions import CodeRate, SoundDistances, round_trip
from vqdit.losses.mel import spectral_distances
from vqdit.metrics import si_sdr
from vqdit.models import SEANet
from vqdit.models.seanet import LOUDNESS, loudness

DRAW = np.random.default_rng(0)
LONG = DRAW.uniform(-0.9, 0.9, (13 * RATE + 5, 1)).astype(np.float32)
"""Longer than a piece."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "length"), [("SEANet", 451), ("DAC", len(LONG))])
def test_the_round_trip_is_that_of_the_whole(name, length):
    made, x = codec(name), LONG[:length]
    for codebooks in (1, 2):
        expected = np.asarray(made.encode(x[None], codebooks=codebooks))
        tokens, y = round_trip(made, x, codebooks)
        np.testing.assert_array_equal(tokens, expected[0])
        whole = made.decode(expected, length=length)
        np.testing.assert_allclose(y, whole[0], atol=1e-4)


@pytest.mark.slow
def test_a_codec_that_normalises_loudness_gives_it_back():
    made = tokenizer(SEANet(channels=4, strides=(2, 3), middle="none", normalize=True))
    x = 0.02 * LONG[:300]
    tokens, y = round_trip(made, x)
    level = np.asarray(loudness(jnp.asarray(x[None])))
    whole = made.decode(tokens[None], length=300, loudness=level)
    np.testing.assert_allclose(y, whole[0], rtol=1e-4, atol=1e-6)
    assert level < 0.02 < LOUDNESS


def test_distances_are_those_of_the_metrics_with_long_recordings_in_pieces():
    x, rate = LONG, RATE
    y = (0.8 * x + DRAW.normal(0.0, 0.1, x.shape)).astype(np.float32)
    measure = SoundDistances(rate)
    found, pair = measure(x, y), (jnp.asarray(x[None]), jnp.asarray(y[None]))
    assert found["si_sdr"] == pytest.approx(float(jax.jit(si_sdr)(*pair)[0]), rel=1e-4)
    for name, loss in spectral_distances(rate).items():
        parts = [tuple(part[:, at] for part in pair) for at in (slice(6000), slice(6000, None))]
        distance = jax.jit(loss.distance)
        values = [float(distance({}, *part)[0]) for part in parts]
        expected = (6000 * values[0] + (len(x) - 6000) * values[1]) / len(x)
        assert found[name] == pytest.approx(expected, rel=1e-4)


def test_bits_of_codes_are_those_of_their_histograms():
    codes = np.asarray([[0, 1], [0, 1], [2, 1], [3, 1]])
    rate = CodeRate((4, 2))
    rate.add(codes[:3], 1.5)
    rate.add(codes[3:], 0.5)
    assert rate.compute() == pytest.approx(
        {"kbit_per_s": 12 / 2000, "kbit_per_s_entropy": 4 * 1.5 / 2000}
    )
    assert CodeRate(()).compute() == {}
