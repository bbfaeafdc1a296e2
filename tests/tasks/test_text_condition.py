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
    with pytest.raises(ValueError, match="only a label by the route 'adaln', got Text"):
        Condition(modality=Text(length=3))
    with pytest.raises(ValueError, match=r"modality of codes \(Text, Label\), got Image"):
        Condition(modality=Image(), route="cross")
    tokens = CAPTION.tokens
    assert (tokens.route, tokens.grid, tokens.codes, tokens.output) == ("cross", (3,), 256, 0)
