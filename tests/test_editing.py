"""Editing: what is kept stays bit for bit, and the rest is generated with it in view."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vqdit
from tests import tiny
from tests.cli.trained import joint
from vqdit.cli.main import call
from vqdit.data import Batch, Digits
from vqdit.modalities import Audio, Image
from vqdit.modalities.drawing import save_png
from vqdit.processes import Flow, Masked
from vqdit.processes.categorical import MASK
from vqdit.samplers import Euler, Heun, Unmasking, generate
from vqdit.tasks import Target
from vqdit.tasks.editing import EditSpec, kept_tokens, some_tokens
from vqdit.typing import Named

SIZE = {"batch_size": 4}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return joint(tmp_path_factory)


@pytest.fixture(scope="module")
def model(workdir):
    return vqdit.load(workdir)


@pytest.fixture(scope="module")
def held_out():
    return Digits().split("test").take(np.arange(4))


def half():
    """A mask of the right half of a digit."""
    return np.arange(8)[None].repeat(8, 0) >= 4


def test_a_token_stays_if_no_part_of_it_is_changed():
    mask = np.zeros((2, 4, 6), bool)
    mask[0, 0, 0] = mask[1, 3, 2] = True
    kept = kept_tokens(Image(size=(4, 6), channels=1), (2, 3), mask)
    np.testing.assert_array_equal(np.argwhere(~kept), [[0, 0], [1, 4]])
    kept = kept_tokens(Audio(samples=6, rate=8000), (3,), np.asarray([[0, 0, 0, 1, 0, 0]], bool))
    assert kept.tolist() == [[True, False, True]]


def test_tokens_without_places_are_refused():
    with pytest.raises(ValueError, match="the grid of tokens, 5, does not divide data of size 4x6"):
        kept_tokens(Image(size=(4, 6), channels=1), (5,), np.ones((1, 4, 6), bool))


def test_training_knows_boxes_and_what_is_outside_of_them():
    found = np.asarray(some_tokens(jax.random.split(jax.random.key(0), 400), (5, 6)))
    grids = found.reshape(-1, 5, 6)
    boxes = 0
    for grid in grids:
        side = grid if not grid.all() and not (~grid).all() else None
        if side is None:
            continue
        for inside in (side, ~side):
            rows, columns = inside.any(axis=1), inside.any(axis=0)
            boxes += bool((inside == np.outer(rows, columns)).all())
    mixed = [not grid.all() and bool(grid.any()) for grid in grids]
    assert boxes >= sum(mixed) > 200
    assert 0.4 < found.mean() < 0.6  # as often inside as outside


@pytest.mark.parametrize("name", ["image", "audio"])
def test_what_is_kept_is_given_back_bit_for_bit(model, held_out, name):
    value = held_out[name]
    mask = half() if name == "image" else np.arange(800) >= 400
    samples = model.sample(4, edits={name: EditSpec(value, mask)}, want=[name], **SIZE)[name]
    np.testing.assert_array_equal(samples[:, ~mask], value[:, ~mask])
    assert (samples[:, mask] != value[:, mask]).any()
    other = model.sample(4, edits={name: EditSpec(value, mask)}, want=[name], seed=1, **SIZE)[name]
    assert (samples != other).any()


@pytest.mark.parametrize("name", ["image", "audio"])
def test_a_weak_variation_is_the_reconstruction(model, held_out, name):
    frozen, space = model.frozen[name], model.task.space(name)
    value = jnp.asarray(held_out[name])
    again = np.asarray(space.decode(frozen, space.encode(frozen, value)), float)
    found = {}
    for strength in (1e-4, 1.0):
        change = {name: EditSpec(held_out[name], strength=strength)}
        samples = model.sample(4, edits=change, want=[name], **SIZE)[name]
        found[strength] = np.abs(samples.astype(float) - again).mean() / np.abs(again).mean()
    assert found[1e-4] < 0.02 < found[1.0]


def test_codes_are_seen_at_the_time_that_says_how_many_are_hidden():
    seen = []

    def predict(x, t):
        seen.append(t["a"].shape)
        jax.debug.callback(lambda t: seen.append(np.asarray(t)), t["a"])
        return Named(a=jnp.zeros((2, 4, 3)))

    keys, known = (
        jax.random.split(jax.random.key(0), 2),
        jnp.asarray([[True, True, True, False]] * 2),
    )
    x_1 = jnp.where(known, 1, MASK)[..., None]
    sampler, process = Unmasking(steps=2), Masked(schedule="cosine")
    times = Named(a=jnp.asarray([1.0, 0.5, 0.0]))
    each = Named(a=sampler), Named(a=process), Named(a=x_1), times
    x = generate(keys, predict, *each, known=Named(a=known))["a"]
    jax.effects_barrier()
    np.testing.assert_array_equal(x[:, :3], x_1[:, :3])
    first = next(t for t in seen if isinstance(t, np.ndarray))
    assert first.shape == (2, 1)
    np.testing.assert_allclose(np.sin(np.pi / 2 * first), 0.25, rtol=1e-5)  # one of four codes


@pytest.mark.parametrize("sampler", [Euler(steps=4), Heun(steps=4)])
def test_a_network_that_never_saw_clean_latents_sees_them_with_noise(sampler):
    known = jnp.arange(64)[None].repeat(2, 0) < 32
    data = jnp.full((2, 64, 1), 3.0)
    noise = jax.random.normal(jax.random.key(1), data.shape)
    x_1, seen = jnp.where(known[..., None], data, noise), []

    def predict(x, t):
        jax.debug.callback(lambda x, t: seen.append((np.asarray(x), np.asarray(t))), x["a"], t["a"])
        return Named(a=x["a"] - 3.0)

    each = Named(a=sampler), Named(a=Flow()), Named(a=x_1)
    times = Named(a=jnp.linspace(1.0, 0.0, 5))
    keys = jax.random.split(jax.random.key(0), 2)
    x = generate(keys, predict, *each, times, known=Named(a=known), noised=("a",))["a"]
    jax.effects_barrier()
    np.testing.assert_array_equal(x[:, :32], data[:, :32])
    assert len(seen) == (4 if isinstance(sampler, Euler) else 7)
    for x_t, t in seen:
        assert t.shape == (2, 1)
        spread = x_t[:, :32].std()
        np.testing.assert_allclose(spread, t[0, 0], atol=0.25)
        np.testing.assert_allclose(x_t[:, :32].mean(), 3.0 * (1.0 - t[0, 0]), atol=0.4)


def test_training_for_it_shows_some_latents_as_they_are():
    image = Target(process=Flow(), sampler=Euler(steps=3), inpaint=0.5)
    task = dataclasses.replace(tiny.flow_generator().task, targets=Named(image=image))
    task = task.resolve_references(lambda name: tiny.tokenizer().task)
    data = {"image": jnp.zeros((64, 8, 8, 1), jnp.uint8), "label": jnp.zeros(64, jnp.int32)}
    present = {"image": jnp.arange(64) >= 8, "label": jnp.ones(64, bool)}
    batch = Batch(Named(data), Named(present), Named(), jnp.arange(64), jnp.ones(64, bool))
    t = task._partly_known("image", jnp.full((64, 1), 0.7), jax.random.key(0), batch)
    assert t.shape == (64, 16)
    assert set(np.unique(t)) == {np.float32(0.0), np.float32(0.7)}
    np.testing.assert_array_equal(t[:8], np.float32(0.7))  # what is missing is not known
    assert 10 < np.any(np.asarray(t[8:]) == 0.0, axis=1).sum() < 40
    params, _ = jax.eval_shape(task.blank)
    frozen = jax.eval_shape(task.frozen_like)
    fields = {"stats": {}, "batch": batch, "key": jax.random.key(1), "step": jnp.int32(0)}
    loss = functools.partial(task.loss, **fields)
    value, _ = jax.eval_shape(lambda params, frozen: loss(params, frozen=frozen), params, frozen)
    assert value.shape == ()


@pytest.mark.parametrize("target", [{}, {"process": Flow(), "sampler": Euler(), "inpaint": 1.5}])
def test_a_share_for_it_out_of_range_is_refused(target):
    with pytest.raises(ValueError, match=r"needs inpaint in \[0, 1\], or 0 for a process over"):
        Target(**{"inpaint": 0.5, **target})


def test_the_command_paints_within_a_mask(workdir, held_out, tmp_path, capsys):
    save_png(tmp_path / "digit.png", held_out["image"][0])
    save_png(tmp_path / "mask.png", np.where(half(), 255, 0).astype(np.uint8)[..., None])
    argv = [f"--workdir={workdir}", "--num=4", "--batch-size=4", "--want=image"]
    argv += [f"--init={tmp_path / 'digit.png'}", f"--out={tmp_path / 'out'}"]
    assert call("sample", [*argv, f"--mask={tmp_path / 'mask.png'}"]) == 0
    samples = np.load(tmp_path / "out" / "samples.npz")["image"]
    expected = held_out["image"][:1][:, ~half()].repeat(4, 0)
    np.testing.assert_array_equal(samples[:, ~half()], expected)
    record = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert record["edits"]["mask"].endswith("mask.png")
    capsys.readouterr()
    for more, message in (
        ([], "add --mask=FILE, the area to change, or --strength=S"),
        (["--strength=0"], r"'image': strength must be in \(0, 1\], got 0.0"),
        (["--strength=0.5", "--explain"], "leave out --init"),
    ):
        with pytest.raises(ValueError, match=message):
            call("sample", [*argv, *more])
    with pytest.raises(
        ValueError,
        match="--mask is an option of an edit, which needs a file to edit; add --init=FILE",
    ):
        call("sample", [argv[0], f"--mask={tmp_path / 'mask.png'}"])


BLACK = np.zeros((8, 8, 1), np.uint8)


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"label": EditSpec(3)}, "the request edits 'label', but does not generate it"),
        ({"image": EditSpec(np.zeros((4, 4, 1), np.uint8))}, "must have the shape"),
        ({"image": EditSpec(BLACK, np.ones((4, 4), bool))}, "the mask must"),
        (
            {"image": EditSpec(BLACK, np.zeros((8, 8), bool))},
            "nothing would change",
        ),
    ],
)
def test_changes_that_cannot_be_made_are_refused(model, edits, message):
    with pytest.raises(ValueError, match=message):
        model.sample(4, edits=edits, **SIZE)
