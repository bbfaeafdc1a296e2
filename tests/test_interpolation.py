"""Interpolation: a path from one picture to another, whose ends and noise are known."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

import vqdit
from tests.cli.trained import runs
from vqdit.cli.main import call
from vqdit.data import Digits
from vqdit.modalities import Audio, Image
from vqdit.modalities.drawing import save_png, tile
from vqdit.processes import Flow, Masked, UniformState
from vqdit.processes.categorical import MASK
from vqdit.random import per_example, streams
from vqdit.tasks.interpolation import (
    Interpolation,
    InterpolationInputs,
    mixed_codes,
    slerp,
    stored_interpolation,
)

NUM = 5
SHARES = jnp.linspace(0.0, 1.0, NUM)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return runs(tmp_path_factory) / "runs"


@pytest.fixture(scope="module")
def codes(folder):
    return vqdit.load(folder / "generator")


@pytest.fixture(scope="module", params=["generator", "flow"])
def model(request, folder):
    """Over codes, and over latents."""
    return vqdit.load(folder / request.param)


@pytest.fixture(scope="module")
def digits():
    return Digits().split("test").take(np.arange(4))["image"]


def same_keys(count=NUM):
    return per_example(jax.random.key(3), jnp.zeros(count, jnp.int32))


def pair(shape, seed=0):
    first, second = np.random.default_rng(seed).standard_normal((2, 1, *shape))
    return (jnp.asarray(x.repeat(NUM, 0), jnp.float32) for x in (first, second))


# The formula.


def test_latents_are_mixed_on_the_sphere_as_in_ddim():
    first, second = pair((6, 3))
    a, b = (np.asarray(x[0], np.float64) for x in (first, second))
    theta = np.arccos(np.sum(a * b) / np.sqrt(np.sum(a**2) * np.sum(b**2)))
    found = slerp(first, second, SHARES)
    for row, s in zip(found, np.linspace(0.0, 1.0, NUM), strict=True):
        of_a, of_b = np.sin((1 - s) * theta) / np.sin(theta), np.sin(s * theta) / np.sin(theta)
        np.testing.assert_allclose(row, of_a * a + of_b * b, atol=1e-6)
    np.testing.assert_array_equal(found[0], first[0])
    np.testing.assert_array_equal(found[-1], second[0])


def test_the_norm_is_kept_along_the_path_and_the_angle_grows_in_equal_parts():
    first, second = pair((6, 3))
    norms = [jnp.sqrt(jnp.sum(x**2, (1, 2), keepdims=True)) for x in (first, second)]
    first, second = first / norms[0], second / norms[1]
    found = np.asarray(slerp(first, second, SHARES)).reshape(NUM, -1)
    np.testing.assert_allclose(np.sum(found**2, 1), 1.0, rtol=1e-6)
    between = np.arccos(np.sum(found[1:] * found[:-1], 1))
    np.testing.assert_allclose(between, between[0], rtol=1e-4)
    line = 0.5 * (np.asarray(first[0]) + np.asarray(second[0]))
    assert np.sum(line**2) < 0.9  # what the arc is there to avoid


@pytest.mark.parametrize("scale", [1.0, 1.0 + 1e-4, -1.0])
def test_where_there_is_no_arc_the_path_is_a_line(scale):
    first, _ = pair((6, 3))
    expected = (1.0 + (scale - 1.0) * SHARES)[:, None, None] * first
    np.testing.assert_allclose(slerp(first, scale * first, SHARES), expected, atol=1e-5)


def test_every_code_turns_once_and_as_many_as_the_share_says():
    shares = jnp.linspace(0.0, 1.0, 11)
    first, second = jnp.zeros((11, 2000, 2), jnp.int32), jnp.ones((11, 2000, 2), jnp.int32)
    found = np.asarray(mixed_codes(same_keys(11), first, second, shares))
    assert (np.diff(found, axis=0) >= 0).all()  # nothing turns back
    assert (found[..., 0] == found[..., 1]).all()  # the codes of a position go together
    assert (found[0] == 0).all() and (found[-1] == 1).all()
    np.testing.assert_allclose(found.mean((1, 2)), shares, atol=0.045)  # 4 standard errors


# Noise, at the start of a path.


def start(process, first, second, strength):
    path = InterpolationInputs(first, second, SHARES, jnp.float32(strength))
    return np.asarray(path.start(lambda x: x, process, same_keys()))


def test_latents_are_mixed_after_both_got_the_same_noise():
    first, second = pair((6, 3))
    found = start(Flow(), first, second, 0.4)
    eps = (found[0] - 0.6 * np.asarray(first[0])) / 0.4
    assert 0.5 < np.std(eps) < 1.5
    np.testing.assert_allclose(found[-1], 0.6 * second[0] + 0.4 * eps, atol=1e-6)
    noised = (0.6 * x + 0.4 * eps for x in (first, second))
    np.testing.assert_allclose(found, slerp(*noised, SHARES), atol=1e-6)
    everywhere = start(Flow(), first, second, 1.0)
    np.testing.assert_array_equal(everywhere, everywhere[:1].repeat(NUM, 0))


@pytest.mark.parametrize(
    ("process", "hidden"), [(Masked(), 0.3), (UniformState(codes=7), 0.3 * 5 / 7)]
)
def test_codes_turn_and_are_then_noised_alike_along_the_path(process, hidden):
    first, second = (jnp.full((NUM, 4000, 1), code) for code in (5, 6))
    clean = start(process, first, second, 0.0)
    assert (clean[0] == 5).all() and (clean[-1] == 6).all()
    found = start(process, first, second, 0.3)
    noise = np.where(found < 5, found, 0)  # the mask, or random codes other than the ends'
    np.testing.assert_array_equal(noise, noise[:1].repeat(NUM, 0))
    np.testing.assert_allclose((found < 5).mean(), hidden, atol=0.03)  # 4 standard errors
    if isinstance(process, Masked):
        np.testing.assert_array_equal(found, np.where(found == MASK, MASK, clean))


# Through a trained model.


def test_without_noise_the_ends_are_the_reconstructions(model, digits):
    space, frozen = model.task.space("image"), model.frozen["image"]
    again = jax.jit(lambda x: space.decode(frozen, space.encode(frozen, x)))(digits[:2])
    path = {"image": Interpolation(digits[0], digits[1], strength=0.0)}
    found = model.sample(NUM, edits=path, batch_size=3)["image"]
    np.testing.assert_array_equal(found[0], again[0])
    np.testing.assert_array_equal(found[-1], again[1])
    assert (again[0] != again[1]).any()


def test_codes_of_a_path_are_those_of_its_ends_and_only_turn_to_the_second(codes, digits):
    space, frozen = codes.task.space("image"), codes.frozen["image"]
    path = {"image": Interpolation(digits[0], digits[1], strength=0.0)}
    found = codes.sample(9, edits=path)["image"]
    first, second = (np.asarray(x) for x in space.encode(frozen, jnp.asarray(digits[:2])))
    shares = jnp.linspace(0.0, 1.0, 9)
    tokens = jnp.stack([first] * 9), jnp.stack([second] * 9)
    keys = streams(per_example(jax.random.key(0), jnp.zeros(9, jnp.int32)), "image/edit")
    begin = InterpolationInputs(*tokens, shares, jnp.float32(0.0))
    mixed = begin.start(lambda x: x, codes.task.process("image"), keys)
    np.testing.assert_array_equal(found, space.decode(frozen, mixed))
    is_second = np.asarray(mixed) == second
    assert (is_second | (np.asarray(mixed) == first)).all()
    assert (np.diff(is_second.astype(int), axis=0) >= 0).all()
    assert is_second[-1].all() and not is_second[0].all()


def test_the_whole_path_has_the_noise_and_the_labels_of_one_sample(model, digits):
    between = functools.partial(Interpolation, strength=0.7)
    still = model.sample(3, edits={"image": between(digits[0], digits[0])}, seed=2)
    np.testing.assert_array_equal(still["image"], still["image"][:1].repeat(3, 0))
    assert still["label"].tolist() == [-1, -1, -1]
    back = model.sample(3, edits={"image": between(digits[1], digits[0])}, seed=2)["image"]
    there = model.sample(3, edits={"image": between(digits[0], digits[1])}, seed=2)["image"]
    np.testing.assert_array_equal(there[0], still["image"][0])
    np.testing.assert_array_equal(back[-1], there[0])
    np.testing.assert_array_equal(back[0], there[-1])
    assert (there[0] != there[-1]).any()
    given = {"label": 3}
    labelled = model.sample(3, given=given, edits={"image": between(digits[0], digits[1])})
    assert labelled["label"].tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    ("path", "num", "message"),
    [
        ((0, 1, -0.1), 4, r"'image': strength must be in \[0, 1\], got -0.1"),
        ((0, 1, 1.1), 4, r"'image': strength must be in \[0, 1\], got 1.1"),
        ((0, 1, float("nan")), 4, r"strength must be in \[0, 1\], got nan"),
        ((0, 1, 0.5), 1, "it needs at least 2 samples, got 1"),
        ((slice(2), 1, 0.5), 4, "needs one picture at each end, got 2 and 1"),
    ],
)
def test_paths_that_cannot_be_made_are_refused(codes, digits, path, num, message):
    first, second, strength = path
    edits = {"image": Interpolation(digits[first], digits[second], strength)}
    with pytest.raises(ValueError, match=message):
        codes.sample(num, edits=edits)


def test_only_pictures_that_are_generated_are_interpolated(codes):
    sound = np.zeros((1, 8), np.int16)
    path = Interpolation(sound, sound, 0.5)
    with pytest.raises(ValueError, match="only images can be interpolated, got Audio"):
        stored_interpolation(path, sound, sound, Audio(samples=8, rate=8000), 4)
    with pytest.raises(ValueError, match="the request edits 'label', but does not generate it"):
        codes.sample(4, edits={"label": Interpolation(3, 4, 0.5)})
    blank = np.zeros((1, 8, 8, 1), np.uint8)
    assert (
        stored_interpolation(path, blank, blank, Image(size=(8, 8), channels=1), 4).share[1]
        == 1 / 3
    )


def test_the_command_writes_a_path_in_order(folder, codes, digits, tmp_path, capsys):
    for name, digit in zip("ab", digits, strict=False):
        save_png(tmp_path / f"{name}.png", digit)
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    argv = [f"--workdir={folder / 'generator'}", "--num=5", f"--out={tmp_path / 'out'}"]
    assert call("sample", [*argv, f"--interpolate={a},{b}", "--strength=0.3", "--seed=4"]) == 0
    samples = np.load(tmp_path / "out" / "samples.npz")["image"]
    path = {"image": Interpolation(digits[0], digits[1], strength=0.3)}
    np.testing.assert_array_equal(samples, codes.sample(5, edits=path, seed=4)["image"])
    written = np.asarray(PIL.Image.open(tmp_path / "out" / "grid.png"))
    np.testing.assert_array_equal(written, tile(samples)[..., 0])
    record = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert record["edits"] == {"interpolate": f"{a},{b}", "strength": 0.3}
    capsys.readouterr()
    for more, message in (
        ([f"--interpolate={a}", "--strength=0.5"], "--interpolate takes two files, as in A.png"),
        ([f"--interpolate={a},{b},{a}", "--strength=0.5"], "--interpolate takes two files"),
        ([f"--interpolate={a},{b}"], "--interpolate needs --strength=S"),
        ([f"--interpolate={a},{b}", "--strength=1.5"], r"strength must be in \[0, 1\], got 1.5"),
        ([f"--interpolate={a},{b}", "--strength=0.5", "--num=1"], "at least 2 samples, got 1"),
        ([f"--interpolate={a},{b}", f"--init={a}", "--strength=0.5"], "so --init is impossible"),
        ([f"--interpolate={a},{b}", f"--mask={a}", "--strength=0.5"], "so --mask is impossible"),
        ([f"--interpolate={a},{b}", "--strength=0.5", "--explain"], "leave out --interpolate"),
        ([f"--interpolate=label={a},{b}", "--strength=0.5"], "label"),
    ):
        with pytest.raises(ValueError, match=message):
            named = {option.partition("=")[0] for option in more}
            rest = [option for option in argv if option.partition("=")[0] not in named]
            call("sample", [*rest, *more])
