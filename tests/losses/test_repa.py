"""REPA: the cosine in NumPy, and what it does to the training of a DiT."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from vqdit.data import Batch
from vqdit.losses import REPA
from vqdit.models.features import Features
from vqdit.typing import Named


class Quarters(Features):
    """A linear map of each patch of 2 x 2 pixels: 16 positions of a picture of 8 x 8."""

    width: int = 5

    def load(self):
        return {"kernel": np.random.default_rng(0).normal(size=(4, self.width)).astype("f4")}

    def like(self):
        return {"kernel": jnp.zeros((4, self.width))}

    def apply(self, params, x):
        patches = x.reshape(len(x), 4, 2, 4, 2).transpose(0, 1, 3, 2, 4).reshape(len(x), 4, 4, 4)
        return [x, patches @ params["kernel"]]


ALIGNED = REPA(encoder=Quarters(), after=1, hidden=8)


def test_the_loss_is_minus_the_cosine_of_what_is_projected():
    random = np.random.default_rng(1)
    x, h = (
        random.normal(size=(2, 8, 8, 1)).astype("f4"),
        random.normal(size=(2, 16, 6)).astype("f4"),
    )
    assert ALIGNED.size(jnp.asarray(x[:1])) == (16, 5)
    params = jax.jit(lambda key: ALIGNED.init(key, 6, 5))(jax.random.key(0))
    frozen = Quarters().load()
    loss = jax.jit(lambda params, h, x: ALIGNED.loss(params, h, ALIGNED.seen(frozen, x)))
    found = loss(params, h, x)

    out, p = h.astype(np.float64), jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    for number in (1, 2, 3):
        out = out @ p[f"layer_{number}"]["kernel"] + p[f"layer_{number}"]["bias"]
        out = out / (1 + np.exp(-out)) if number < 3 else out
    patches = x.reshape(2, 4, 2, 4, 2).transpose(0, 1, 3, 2, 4).reshape(2, 16, 4)
    seen = patches @ frozen["kernel"]
    cosine = (out * seen).sum(-1) / np.linalg.norm(out, axis=-1) / np.linalg.norm(seen, axis=-1)
    np.testing.assert_allclose(found, -cosine.mean(axis=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_tokens_in_half_precision_are_normalised_in_float32(scale):
    """In float16 the square of 1e-3 is 1e-6, nearly nothing, and that of 1e3 is infinite."""
    seen = jnp.full((1, 1, 4), scale, jnp.float16)
    params = {f"layer_{n}": {"kernel": jnp.eye(4), "bias": jnp.full(4, 10.0)} for n in (1, 2, 3)}
    narrow = dataclasses.replace(ALIGNED, hidden=4)
    np.testing.assert_allclose(narrow.loss(params, jnp.ones((1, 1, 4)), seen), [-1.0], atol=1e-3)


def test_the_dit_is_trained_to_be_aligned():
    tokenizer = tiny.tokenizer().task
    task = dataclasses.replace(tiny.generator().task, repa=ALIGNED).resolve_references(
        lambda name: tokenizer
    )
    shapes = jax.eval_shape(lambda: task.blank()[0])
    assert shapes["repa"]["layer_3"]["kernel"].shape == (8, 5)
    random = np.random.default_rng(0)
    params, frozen = (
        jax.tree.map(lambda leaf: jnp.asarray(0.3 * random.normal(size=leaf.shape), "f4"), tree)
        for tree in (shapes, jax.eval_shape(task.frozen_like))
    )
    data = {
        "image": jnp.asarray(random.integers(0, 256, (4, 8, 8, 1)), jnp.uint8),
        "label": jnp.arange(4),
    }
    present = {"image": jnp.asarray([True, True, False, True]), "label": jnp.ones(4, bool)}
    valid = jnp.asarray([True, True, True, False])
    batch = Batch(Named(data), Named(present), Named(), jnp.arange(4), valid)

    @jax.jit
    def run(params, batch):
        return task.loss(params, {}, frozen, batch, jax.random.key(0), jnp.zeros((), jnp.int32))

    loss, aux = run(params, batch)
    expected = aux.metrics["loss_image"] - 0.5 * aux.metrics["alignment"]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert -1 <= aux.metrics["alignment"] <= 1
    # Only the examples that are there count.
    other = batch._replace(data=batch.data | {"image": data["image"].at[2:].set(7)})
    np.testing.assert_allclose(run(params, other)[0], loss, rtol=1e-5)

    def alignment(params):
        return run(params, batch)[1].metrics["alignment"]

    gradient = jax.jit(jax.grad(alignment))(params)
    blocks = gradient["blocks"]["mlp_out"]["kernel"]
    assert np.abs(blocks[0]).max() > 0 and (blocks[1] == 0).all()  # after the first block
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient["repa"]))


def test_what_cannot_be_aligned_is_refused():
    task, tokenizer = tiny.generator().task, tiny.tokenizer().task
    with pytest.raises(ValueError, match="block 8, but the DiT has 2 blocks; lower repa.after"):
        dataclasses.replace(task, repa=REPA(encoder=Quarters()))
    with pytest.raises(ValueError, match="repa.target='sound' is not a target"):
        dataclasses.replace(task, repa=dataclasses.replace(ALIGNED, target="sound"))
    coarse = dataclasses.replace(task.model, patch=2)
    with pytest.raises(ValueError, match="features for the 4 tokens of 'image', .* returns 16"):
        dataclasses.replace(task, model=coarse, repa=ALIGNED).resolve_references(
            lambda name: tokenizer
        )
    with pytest.raises(ValueError, match="after >= 1"):
        dataclasses.replace(ALIGNED, after=0)
