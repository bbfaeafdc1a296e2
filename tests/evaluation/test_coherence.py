"""Recognisers on real data and on what they must refuse; rates and distances by closed forms."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from vqdit.data import Digits
from vqdit.data.digits import RATE, TONES, WORDS
from vqdit.data.spoken_fashion import RATE as SPEECH_RATE
from vqdit.data.spoken_fashion import Utterances
from vqdit.evaluation.agreement import agreement, coherence, recognised
from vqdit.evaluation.image_scores import ImageFeatures, coverage, frechet, pixels
from vqdit.evaluation.intervals import Estimate, rate, wilson
from vqdit.evaluation.recognizers import (
    CaptionRecognizer,
    ImageRecognizer,
    LabelRecognizer,
    Recognizer,
    SpeechRecognizer,
    ToneRecognizer,
    WordRecognizer,
    cepstra,
)

CLASSES = np.arange(500) % 10


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def train():
    return Digits().split("train").take(np.arange(1437))


@pytest.fixture(scope="module")
def held_out():
    parts = [Digits().split(name).take(np.arange(180)) for name in ("validation", "test")]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_a_judge_must_define_predict():
    with pytest.raises(TypeError, match="Recognizer must define the method 'predict'"):
        Recognizer().predict(CLASSES)


def test_pictures_of_digits_that_were_not_seen(train, held_out):
    judge = ImageRecognizer(train["image"], train["label"])
    classes = judge.predict(held_out["image"])
    assert classes.dtype == np.int64
    assert np.mean(classes == held_out["label"]) >= 0.99


def test_every_tone_of_the_digits(held_out):
    classes = ToneRecognizer(TONES, RATE).predict(held_out["audio"])
    np.testing.assert_array_equal(classes, held_out["label"])


def tones(random, classes, noise=0.0, window=800, length=800):
    """Tones of amplitudes 0.2 to 0.4 whose phases jump after every window."""
    seconds = np.arange(length) / RATE
    sounds = noise * random.standard_normal((len(classes), length))
    for sound, number in zip(sounds, classes, strict=True):
        for frequency in TONES[number]:
            phases = random.uniform(0, 2 * np.pi, -(-length // window)).repeat(window)[:length]
            sound += random.uniform(0.2, 0.4) * np.sin(2 * np.pi * frequency * seconds + phases)
    return np.clip(np.round(32767 * sounds), -32768, 32767).astype(np.int16)


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.1, 0.3])
@pytest.mark.parametrize("length", [160, 801, 4000])
def test_tones_with_noise_and_of_any_length(random, noise, length):
    """Noise of 0.3 is as loud as both sines together."""
    sounds = tones(random, CLASSES, noise, length, length)
    np.testing.assert_array_equal(ToneRecognizer(TONES, RATE).predict(sounds), CLASSES)


def test_tones_whose_windows_are_not_in_phase(random):
    judge = ToneRecognizer(TONES, RATE)
    for noise in (0.0, 0.05):
        sounds = tones(random, CLASSES, noise, window=160)
        np.testing.assert_array_equal(judge.predict(sounds), CLASSES)


def test_what_is_no_tone_of_a_digit_is_refused(random):
    judge = ToneRecognizer(TONES, RATE)
    seconds = np.arange(800) / RATE
    white = 5000 * random.standard_normal((500, 800))
    sines = {
        hertz: 9000 * np.sin(2 * np.pi * hertz * seconds + 0.3)
        for hertz in (697, 941, 1000, 1209, 1336)
    }
    singles = np.stack([sines[hertz] for hertz in (697, 941, 1336, 1000)])
    star = sines[941] + sines[1209]
    brown = np.cumsum(white, axis=1) / 30
    refused = np.concatenate([white, brown, singles, star[None], np.zeros((1, 800))])
    assert (judge.predict(np.clip(refused, -32768, 32767).astype(np.int16)) == -1).all()
    buried = tones(random, CLASSES, noise=3.0)
    assert np.mean(judge.predict(buried) == -1) > 0.95


def test_tones_must_differ():
    with pytest.raises(ValueError, match=r"two classes have the tone \(697, 1209\)"):
        ToneRecognizer([(697, 1209), (697, 1336), (697, 1209)], RATE)


def test_words_to_the_letter():
    texts = np.asarray(["seven", "zero", "nine", "Seven", "seven ", "", "sevn", "\N{SNOWMAN}"])
    assert WordRecognizer(WORDS).predict(texts).tolist() == [7, 0, 9, -1, -1, -1, -1, -1]


def test_captions_of_several_wordings():
    judge = CaptionRecognizer(np.asarray(["a bag", "i see a bag", "a coat", "a bag"]), [8, 8, 4, 8])
    assert judge.predict(np.asarray(["i see a bag", "a coat", "see a coat"])).tolist() == [8, 4, -1]
    with pytest.raises(ValueError, match="the caption 'a bag' names class 8 and class 4"):
        CaptionRecognizer(["a bag", "a bag"], [8, 4])


def test_labels_are_taken_at_their_word():
    assert LabelRecognizer().predict(np.asarray([3, -1, 0], np.int32)).tolist() == [3, -1, 0]


def spoken(random, classes, noise=0.0, gain=1.0):
    """Pulses at a random pitch through two resonances that move as the class says."""
    time = np.arange(4000) / 8000
    sounds = np.zeros((len(classes), 4000))
    for sound, number in zip(sounds, classes, strict=True):
        pitch = random.uniform(90, 180)
        first = 300 + 60 * number + random.uniform(-20, 20)
        second = 2600 - 140 * number + 300 * time + random.uniform(-40, 40)
        for harmonic in range(1, int(3800 / pitch)):
            hertz = harmonic * pitch
            loud = sum(1 / (1 + ((hertz - center) / 80) ** 2) for center in (first, second))
            sound += loud * np.sin(2 * np.pi * hertz * time + random.uniform(0, 6.3))
        sound /= np.abs(sound).max() / 0.8
    sounds = gain * sounds + noise * random.standard_normal(sounds.shape)
    sounds[:, 3200:] = 0.0
    return np.clip(np.round(32767 * sounds), -32768, 32767).astype(np.int16)


def test_speech_loud_and_soft_and_with_noise(random):
    sounds = spoken(random, CLASSES)
    judge = SpeechRecognizer(sounds, CLASSES, 8000)
    some = CLASSES[:100]
    for settings in ({}, {"gain": 0.1}, {"noise": 0.02}):
        assert np.mean(judge.predict(spoken(random, some, **settings)) == some) >= 0.97, settings
    assert judge.predict(np.zeros((2, 4000), np.int16)).tolist() == [-1, -1]


def test_recordings_that_come_again_count_once(random):
    sounds, some = spoken(random, CLASSES[:60]), CLASSES[:60]
    again = np.concatenate([sounds, sounds[::-1]])
    once = SpeechRecognizer(sounds, some, 8000)
    twice = SpeechRecognizer(again, np.concatenate([some, some[::-1]]), 8000)
    heard = spoken(random, some)
    np.testing.assert_array_equal(once.predict(heard), twice.predict(heard))
    assert once._model.n_support_.tolist() == twice._model.n_support_.tolist()


@pytest.mark.slow
def test_real_utterances_in_ways_of_speaking_that_were_not_heard():
    data = {name: Utterances().split(name) for name in ("train", "validation", "test")}
    data = {name: split.take(np.arange(len(split))) for name, split in data.items()}
    order = np.random.default_rng(0).permutation(len(data["train"]["label"]))
    train = {name: values[order] for name, values in data["train"].items()}
    judge = SpeechRecognizer(train["audio"], train["label"], SPEECH_RATE)
    for name in ("validation", "test"):
        assert np.mean(judge.predict(data[name]["audio"]) == data[name]["label"]) >= 0.98


def test_the_cepstrum_of_a_tone_has_its_band_alone():
    """A tone excites one band, and the cosine transform of that is a cosine."""
    seconds = np.arange(2000) / 8000
    sound = np.round(20000 * np.sin(2 * np.pi * 1000 * seconds)).astype(np.int16)[None]
    found = cepstra(sound, 8000, bands=32, kept=32)
    assert found.shape == (1, 1 + (2000 - 200) // 80, 32)
    basis = np.sqrt(2 / 32) * np.cos(np.pi / 32 * np.outer(np.arange(32), np.arange(32) + 0.5))
    basis[0] /= np.sqrt(2)
    level = found[0] @ basis  # the inverse transform
    mel = 2595 * np.log10(1 + np.asarray([1000, 4000]) / 700)
    band = round(mel[0] / mel[1] * 33) - 1
    assert (level.argmax(axis=1) == band).all()
    assert np.abs(level.max() - np.log(1 + 1e-3)) < 1e-6
    far = np.delete(level, range(band - 4, band + 5), axis=1)
    np.testing.assert_allclose(far, np.log(1e-3), atol=0.01)
    quiet = cepstra((sound // 50).astype(np.int16), 8000, kept=32)
    np.testing.assert_allclose(quiet, cepstra(sound, 8000, kept=32), atol=0.05)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_as_published(successes, n, low, high):
    """Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I."""
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson(n - successes, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)
    assert (wilson(0, n)[0], wilson(n, n)[1]) == (0.0, 1.0)


@pytest.mark.parametrize("bad", [(0, 0), (-1, 3), (4, 3)])
def test_wilson_refuses_what_is_no_share(bad):
    with pytest.raises(ValueError, match="wilson needs 0 <= successes <= n and n >= 1, got"):
        wilson(*bad)


def test_rates():
    classes, wanted = np.asarray([1, 2, -1, 3]), np.asarray([1, 2, -1, 4])
    assert rate(classes == 1) == Estimate(0.25, *wilson(1, 4), 4)
    assert coherence(classes, wanted) == Estimate(0.5, *wilson(2, 4), 4)  # -1 is never right
    assert recognised(classes) == Estimate(0.75, *wilson(3, 4), 4)
    others = {
        "text": classes,
        "image": np.asarray([1, 0, -1, 3]),
        "label": np.asarray([1, 2, 1, 3]),
    }
    assert agreement(others).value == 0.5
    assert agreement({"text": classes, "image": classes}).value == 0.75
    with pytest.raises(ValueError, match="agreement needs at least two modalities, got 'text'"):
        agreement({"text": classes})


def reference_coverage(held_out, samples, k):
    among = np.linalg.norm(held_out[:, None] - held_out, axis=-1)
    radius = np.sort(among, axis=1)[:, k]  # the first is the example itself
    return np.mean(np.linalg.norm(held_out[:, None] - samples, axis=-1).min(axis=1) <= radius)


def test_coverage(random):
    held_out = random.standard_normal((80, 3))
    samples = 0.5 * random.standard_normal((60, 3))
    for k in (1, 5):
        assert coverage(held_out, samples, k) == reference_coverage(held_out, samples, k)
    assert 0.0 < coverage(held_out, samples, 1) < 1.0
    assert coverage(held_out, held_out) == 1.0
    assert coverage(held_out, held_out + 100.0) == 0.0
    one_place = np.repeat(held_out[:1], 60, axis=0)
    assert coverage(held_out, one_place) < 0.3
    with pytest.raises(ValueError, match="coverage needs more than k=5 real examples, got 5"):
        coverage(held_out[:5], samples)


def test_frechet_with_equal_covariances_is_the_distance_of_the_means(random):
    a = random.standard_normal((500, 6)) @ random.standard_normal((6, 6))
    shift = np.asarray([1.0, 0.0, -2.0, 0.0, 0.5, 0.0])
    assert frechet(a, a + shift) == pytest.approx((shift**2).sum(), rel=1e-10)
    assert frechet(a, a) == pytest.approx(0.0, abs=1e-10)


def test_frechet_of_scaled_axes(random):
    """Of diagonal covariances it is the sum of (sigma_a - sigma_b)^2."""
    white = random.standard_normal((400, 4))
    white = np.linalg.qr(white - white.mean(axis=0))[0] * np.sqrt(399)
    scales = np.asarray([[1.0, 2.0, 0.0, 3.0], [2.0, 2.0, 1.5, 0.1]])
    expected = ((scales[0] - scales[1]) ** 2).sum()
    assert frechet(white * scales[0], white * scales[1]) == pytest.approx(expected, rel=1e-10)


def test_frechet_as_by_matrix_roots(random):
    a = random.standard_normal((300, 8)) @ random.standard_normal((8, 8)) + 1.0
    b = random.standard_normal((200, 8)) @ random.standard_normal((8, 8))
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(np.asarray(sqrtm(covariances[0] @ covariances[1])))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(sum(covariances) - 2 * root)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-8)
    assert frechet(b, a) == pytest.approx(expected, rel=1e-8)
    turn = np.linalg.qr(random.standard_normal((8, 8)))[0]
    assert frechet(a @ turn, b @ turn) == pytest.approx(expected, rel=1e-8)


def test_frechet_of_more_features_than_examples(random):
    a, b = random.standard_normal((2, 10, 50))
    wide = [np.concatenate([x, np.full((10, 3), 7.0)], axis=1) for x in (a, b)]
    assert np.isfinite(frechet(a, b)) and frechet(a, b) > 0
    assert frechet(*wide) == pytest.approx(frechet(a, b), rel=1e-10)
    with pytest.raises(
        ValueError, match="frechet needs at least two examples in each set, got 1 and 10"
    ):
        frechet(a[:1], b)


def test_features_of_pictures_tell_bad_ones_from_real_ones(train, held_out, random):
    order = random.permutation(1437)
    images, labels = train["image"][order], train["label"][order]
    features = ImageFeatures(images, labels)
    real = features(held_out["image"])
    assert real.shape == (360, 64) and real.min() == 0.0
    floor = frechet(features(images[:500]), real)
    noise = random.integers(0, 64, images[:500].shape)
    noisy = np.minimum(images[:500] + noise, 255).astype(np.uint8)
    one_class = held_out["image"][held_out["label"] == 3]
    assert frechet(features(noisy), real) > 3 * floor
    assert frechet(features(one_class), real) > 10 * floor


def test_pixels():
    np.testing.assert_allclose(pixels(np.full((2, 2, 2, 1), 51, np.uint8)), np.full((2, 4), 0.2))
