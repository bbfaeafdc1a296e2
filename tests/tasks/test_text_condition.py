"""A text that is only given: attended to, dropped, and guided by."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import joint
from vqdit.data import Batch
from vqdit.data.sources import Feature
from vqdit.modalities import Image, Label, Text
from vqdit.models import DiT
from vqdit.samplers import Unmasking
from vqdit.tasks import CodeTarget, Condition, DiffusionTask
from vqdit.typing import Named

LABEL = CodeTarget(modality=Label(classes=4), sampler=Unmasking(steps=2))
CAPTION = Condition(modality=Text(length=3), route="cross", drop=0.0)


def task(block="adaln_zero", caption=CAPTION):
    model = DiT(depth=2, dim=16, heads=2, patch=1, block=block)
    targets, conditions = Named(label=LABEL), Named(caption=caption)
    return DiffusionTask(targets=targets, conditions=conditions, model=model).resolve_references(
        {}.get
    )


@pytest.mark.parametrize("block", ["cross_attention", "mm_dit"])
def test_a_text_is_seen_in_training_unless_it_is_dropped(block):
    params = joint.randomized(task(block))
    data = {"label": jnp.arange(8) % 4, "caption": jnp.full((8, 3), 97, jnp.uint8)}
    present = {name: jnp.ones(8, bool) for name in data}
    batch = Batch(Named(data), Named(present), Named(), jnp.arange(8), jnp.ones(8, bool))
    other = batch._replace(data=batch.data | {"caption": jnp.full((8, 3), 98, jnp.uint8)})
    absent = other._replace(present=other.present | {"caption": jnp.zeros(8, bool)})

    def losses(drop):
        trained = task(block, dataclasses.replace(CAPTION, drop=drop))

        @jax.jit
        def run(params, batch):
            frozen, step = trained.frozen_like(), jnp.zeros((), jnp.int32)
            return trained.loss(params, {}, frozen, batch, jax.random.key(0), step)[0]

        return [float(run(params, each)) for each in (batch, other, absent)]

    seen, dropped = losses(0.0), losses(1.0)
    assert len(set(seen)) == 3
    assert len(set(dropped)) == 1 and dropped[0] == pytest.approx(seen[2], rel=1e-6)


def test_training_hides_a_random_share_of_the_units_of_a_text():
    caption = Condition(modality=Text(length=50, variable=True), route="cross", hidden=0.4)
    raw, mask = jnp.full((400, 50), 97, jnp.uint8), jnp.arange(50) < jnp.full((400, 1), 30)
    codes, keys = caption.codes(raw, mask), jax.random.split(jax.random.key(0), 400)
    found = np.asarray(caption.partly_hidden(codes, keys))[..., 0]
    np.testing.assert_array_equal(found[:, 30:], np.asarray(codes)[:, 30:, 0])
    assert set(found[:, :30].ravel().tolist()) == {97, -1}
    shares = np.mean(found[:, :30] == -1, axis=1)
    # Of u ~ U[0, 0.4] and 30 units: mean 0.2, variance 0.4^2 / 12 + E[u (1 - u)] / 30.
    variance = 0.16 / 12 + (0.2 - 0.16 / 3) / 30
    assert abs(shares.mean() - 0.2) < 4 * np.sqrt(variance / 400)
    assert shares.var() == pytest.approx(variance, rel=0.25)
    plain = dataclasses.replace(caption, hidden=0.0).partly_hidden(codes, keys)
    np.testing.assert_array_equal(plain, codes)


def test_a_text_can_be_given_or_not_and_guided_by():
    generator = joint.generator(task(caption=dataclasses.replace(CAPTION, drop=0.1)))
    given = {"caption": ["abc"]}
    plain = generator.sample(8, given=given)
    assert set(plain) == {"label", "caption"} and list(plain["caption"]) == ["abc"] * 8
    np.testing.assert_array_equal(generator.sample(8, given=given)["label"], plain["label"])
    alone = generator.sample(8)
    assert set(alone) == {"label"} and ((alone["label"] >= 0) & (alone["label"] < 4)).all()
    assert generator.sample(8, given=given, guidance=3.0)["label"].shape == (8,)


def test_what_was_never_hidden_does_not_guide():
    generator, given = joint.generator(task()), {"caption": ["abc"]}
    remedy = "leave guidance at 1, or train with drop=0.1"
    for guidance in (3.0, {"label:caption": 3.0}):
        with pytest.raises(ValueError, match="guidance hides 'caption'") as error:
            generator.sample(1, given=given, guidance=guidance)
        assert str(error.value).endswith(remedy)
    features = Named(label=Feature((), classes=4), caption=Feature((3,)))
    generator.task.check(features)
    with pytest.raises(ValueError, match="guidance hides 'caption'"):
        dataclasses.replace(generator.task, guidance=3.0).check(features)


def test_a_condition_that_cannot_come_in_is_refused():
    with pytest.raises(ValueError, match="route='adaln' needs a Label, got Text"):
        Condition(modality=Text(length=3))
    with pytest.raises(ValueError, match=r"modality of codes \(Text, Label\), got Image"):
        Condition(modality=Image(), route="cross")
    with pytest.raises(
        ValueError, match=r"hidden=0\.2 of a Condition hides units of texts, not labels"
    ):
        Condition(modality=Label(), hidden=0.2)
    tokens = CAPTION.tokens
    assert (tokens.route, tokens.grid, tokens.codes, tokens.output) == ("cross", (3,), 256, 0)
