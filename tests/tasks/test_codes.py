"""Diffusion over codes by every discrete process, through the task: training, sampling, scoring."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import joint, tiny
from vqdit.cli.overrides import override
from vqdit.data.batch import Batch
from vqdit.modalities import Label, Text
from vqdit.processes import MaskAndReplace, Masked, UniformState
from vqdit.random import per_example
from vqdit.samplers import DiscreteAncestral, ReMDM, Unmasking
from vqdit.tasks import CodeTarget
from vqdit.tasks.request import Request
from vqdit.typing import Named

COUNT = 4


def task(process, sampler):
    return joint.symbols(
        targets=Named(
            text=CodeTarget(modality=Text(length=4), process=process, sampler=sampler),
            label=CodeTarget(modality=Label(classes=4), process=process, sampler=sampler),
        )
    )


@pytest.mark.parametrize("process", [UniformState(), MaskAndReplace()])
def test_a_process_of_random_codes_learns_how_many_there_are_from_its_tokens(process):
    built = task(process, DiscreteAncestral(steps=3))
    assert built.targets["text"].process.codes == 0
    assert built.process("label").codes == 4
    assert built.process("text").codes == built.modality("text").vocabulary


@pytest.mark.parametrize("process", [UniformState(), MaskAndReplace()])
def test_it_trains_samples_and_scores(process):
    built = task(process, DiscreteAncestral(steps=3))
    params, frozen = joint.randomized(built), built.frozen_like()
    index = jnp.arange(COUNT)
    text = jnp.full((COUNT, 4), ord("a"), built.modality("text").dtype)
    present = Named(text=jnp.ones(COUNT, bool), label=jnp.asarray([True, True, False, True]))
    batch = Batch(
        data=Named(text=text, label=index.astype(jnp.int32)),
        present=present,
        mask=Named(),
        index=index,
        valid=jnp.ones(COUNT, bool),
    )

    @jax.jit
    def everything(params):
        loss = lambda params: built.loss(params, {}, frozen, batch, jax.random.key(1), index[0])[0]  # noqa: E731
        known = Named(text=jnp.asarray(True), label=jnp.asarray(False))
        wanted = Named(text=jnp.asarray(False), label=jnp.asarray(True))
        keys = per_example(jax.random.key(2), index)
        request = Request(Named(batch.data), known, wanted)
        samples = built.sample(params, frozen, keys, request)
        score = built.scoring_loss(params, frozen, keys, request, "label", rounds=4)
        return jax.value_and_grad(loss)(params), samples, score

    (loss, gradient), samples, score = everything(params)
    assert np.isfinite(loss) and loss > 0.0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    np.testing.assert_array_equal(samples["text"], text)
    assert ((samples["label"] >= 0) & (samples["label"] < 4)).all()
    assert np.isfinite(score).all() and (score > 0.0).all()


def test_a_sampler_is_told_the_grid_of_its_tokens():
    sampler = Unmasking(steps=joint.STEPS, order="halton")
    built = task(Masked(), sampler)
    assert sampler.bind(built.space("text").grid).grid == built.modality("text").grid
    assert ReMDM().bind((2, 2)) == ReMDM()


@pytest.mark.parametrize(
    ("process", "sampler"),
    [
        ("UniformState", "DiscreteAncestral"),
        ("MaskAndReplace", "DiscreteAncestral"),
        ("Masked", "ReMDM"),
        ("Masked", "ReMDMLoop"),
    ],
)
def test_the_command_line_takes_them(process, sampler):
    image = "--task.targets.image"
    args = [f"{image}.process={process}", f"{image}.sampler={sampler}", f"{image}.sampler.steps=7"]
    target = override(tiny.generator(), args).task.targets["image"]
    assert type(target.process).__name__ == process
    assert type(target.sampler).__name__ == sampler and target.sampler.steps == 7
