"""Edits of examples of variable length: each is edited as if it were alone."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.joint import randomized
from tests.tones import SOUND, tone
from vqdit.inference.generator import Generator
from vqdit.inference.tokenizer import Tokenizer
from vqdit.modalities import Text
from vqdit.models import ConvAutoencoder, DiT
from vqdit.processes import Flow, Masked
from vqdit.quantizers import VQ
from vqdit.ragged import ragged
from vqdit.runs.restoring import Restored
from vqdit.samplers import Euler, Unmasking
from vqdit.tasks import CodeTarget, DiffusionTask, Target, TokenizerTask
from vqdit.tasks.editing import EditSpec
from vqdit.tasks.interpolation import Interpolation
from vqdit.typing import Named

SMALL = DiT(depth=1, dim=16, heads=2, patch=1)
SOUNDS = [tone(32), tone(18)]
"""They have 96 and 41 samples: the second does not fill its last token of eight samples."""


def generator(task, **frozen):
    experiment: Any = None
    arrays = task.frozen_like() | frozen
    return Generator(Restored(experiment, task, randomized(task), {}, arrays, 0))


@functools.cache
def texts():
    modality = Text(length=24, variable=True)
    target = CodeTarget(modality=modality, process=Masked(), sampler=Unmasking(steps=3))
    task = DiffusionTask(targets=Named(text=target), model=SMALL)
    return generator(task, text={"occurs": jnp.ones(256, bool)})


@functools.cache
def sounds():
    """A tokenizer of sounds, and a generator of its latents."""
    codec = TokenizerTask(
        name="audio",
        modality=SOUND,
        model=ConvAutoencoder(channels=(4, 4), patch=4, blocks=1),
        quantizer=VQ(codebook_size=64, dim=4),
    )
    target = Target(tokenizer="audio", process=Flow(), sampler=Euler(steps=2))
    task = DiffusionTask(targets=Named(audio=target), model=SMALL)
    task = task.resolve_references({"audio": codec}.__getitem__)
    leaves, tree = jax.tree.flatten(task.frozen_like()["audio"])
    keys = jax.random.split(jax.random.key(2), len(leaves))
    drawn = [0.5 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    frozen = jax.tree.unflatten(tree, drawn) | {"mean": jnp.zeros(4), "std": jnp.ones(4)}
    experiment: Any = None
    restored = Restored(experiment, codec, frozen["params"], frozen["stats"], {}, 0)
    return Tokenizer(restored), generator(task, audio=frozen)


def edited(model, name, values, strength, num):
    spec = EditSpec(values, strength=strength)
    return list(model.sample(num, edits={name: spec}, seed=3)[name])


def test_an_edited_text_has_the_length_of_its_example_and_is_edited_as_alone():
    together = edited(texts(), "text", ["ab", "abcdefghijklmnopqrst"], 0.5, 4)
    rows = texts().modality("text").repack(together)
    assert [len(row) for row in rows] == [2, 20, 2, 20]
    alone = edited(texts(), "text", "ab", 0.5, 3)
    assert [alone[0], alone[2]] == [together[0], together[2]]


def test_the_strength_of_an_edit_of_a_text_is_its_time():
    assert edited(texts(), "text", ["ab", "abcdefgh"], 1e-6, 2) == ["ab", "abcdefgh"]
    from_noise = [edited(texts(), "text", text, 1.0, 2) for text in ("aaaa", "bbbb")]
    assert from_noise[0] == from_noise[1]
    assert from_noise[0] != ["aaaa", "aaaa"]


def test_an_edited_sound_ends_with_its_last_token_and_is_edited_as_alone():
    codec, model = sounds()
    together = edited(model, "audio", ragged(SOUNDS), 0.5, 2)
    assert [len(sound) for sound in together] == [96, 48]
    alone = edited(model, "audio", ragged(SOUNDS[1:]), 0.5, 2)
    np.testing.assert_allclose(together[1], alone[1], atol=1)  # one step of 16 bits
    kept = edited(model, "audio", ragged(SOUNDS), 1e-6, 2)
    again = codec.decode(codec.encode(ragged(SOUNDS)))
    for sound, expected, real in zip(kept, again, SOUNDS, strict=True):
        np.testing.assert_allclose(sound[: len(real)], expected[: len(real)], atol=2)
    assert np.abs(together[0].astype(int) - kept[0]).max() > 100


@pytest.mark.parametrize(
    ("edit", "more", "message"),
    [
        (EditSpec("ab", np.ones(24, bool)), {}, "'text': a mask is only for data of one size"),
        (EditSpec("ab"), {"lengths": {"text": 3}}, "'text': a sample has the length of the exam"),
        (EditSpec("ab", strength=0.0), {}, r"'text': strength must be in \(0, 1\], got 0"),
        (Interpolation("ab", "cd", 0.5), {}, "'text': examples of variable length cannot be inte"),
    ],
)
def test_what_cannot_be_edited_is_refused(edit, more, message):
    with pytest.raises(ValueError, match=message):
        texts().sample(2, edits={"text": edit}, **more)


def test_the_length_of_a_sound_is_given_in_seconds():
    _, model = sounds()
    found = model.sample(2, lengths={"audio": [0.04, 0.08]})["audio"]
    assert [len(sound) for sound in found] == [40, 80]
    with pytest.raises(ValueError, match="the length of 'audio' must be from 0.04 s to 0.1 s, got"):
        model.sample(1, lengths={"audio": 40})


@pytest.mark.parametrize("values", [None, 5, np.asarray(5)])
def test_values_that_are_no_examples_are_refused(values):
    for name, model in {"text": texts(), "audio": sounds()[1]}.items():
        with pytest.raises(ValueError, match=f"'{name}': values must be one example, or a list"):
            model.pack(name, values)
