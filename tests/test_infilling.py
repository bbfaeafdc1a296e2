"""Filling in templates with a network whose predictions are known: lengths, known parts, ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.config import Experiment
from vqdit.inference.generator import Generator
from vqdit.modalities import Text
from vqdit.models import DiT
from vqdit.processes import Masked
from vqdit.runs.restoring import Restored
from vqdit.samplers import Unmasking
from vqdit.tasks import CodeTarget, DiffusionTask
from vqdit.tasks.templates import Prompt, Template
from vqdit.typing import Named

LENGTH = 12
WORDS = ("abxyc", "abxxyyc", "zzz")
"""All texts of the distribution, equally probable."""


class Known(DiffusionTask):
    """A DiT in whose place is the exact posterior over a few texts."""

    def predict(self, params):
        rows = [np.frombuffer(word.encode().ljust(LENGTH, b"\0"), np.uint8) for word in WORDS]
        texts = jnp.asarray(np.stack(rows), jnp.int32)

        def predict(x, t):
            codes = x["text"][..., 0]
            fits = (codes[:, None] == texts) | (codes[:, None] < 0)
            log_p = jnp.sum(jnp.where(fits, 0.0, -20.0), axis=-1)
            p = jax.nn.softmax(log_p, axis=-1)
            each = jnp.einsum("b w, w l k -> b l k", p, jax.nn.one_hot(texts, 256))
            return Named(text=jnp.log(each + 1e-9))

        return predict

    def _outputs(self, params, x, t, documents=None):
        return self.predict(params)(x, t)


@pytest.fixture(scope="module")
def model():
    return model_of(Text(length=LENGTH))


def model_of(modality, cls=Known):
    target = CodeTarget(
        modality=modality, process=Masked(), sampler=Unmasking(steps=12, order="random")
    )
    task = cls(targets=Named(text=target), model=DiT(depth=1, dim=8, heads=2, patch=1))
    frozen = {"text": {"occurs": jnp.ones(256, bool)}}
    return Generator(Restored(Experiment(task=task), task, {}, {}, frozen, 0))


def sampled(model, spec, num=16):
    return [str(text) for text in model.sample(num, edits={"text": spec})["text"]]


def test_the_length_of_a_gap_is_drawn_as_probable_as_its_texts(model):
    found = sampled(model, Template("ab___c"), num=64)
    assert set(found) == {"abxyc", "abxxyyc"}  # no other length leads to a text
    assert 20 <= found.count("abxyc") <= 44


def test_a_gap_of_known_length_has_it(model):
    assert set(sampled(model, Template("ab___4c"))) == {"abxxyyc"}
    assert set(sampled(model, Template("a___1x___1c"))) == {"abxyc"}


def test_a_prompt_goes_on_to_its_end(model):
    assert set(sampled(model, Prompt("z"))) == {"zzz"}
    assert set(sampled(model, Prompt("abx"), num=32)) == {"abxyc", "abxxyyc"}
    assert set(sampled(model, Template("z___"))) == {"zzz"}


def test_what_is_known_stays_even_where_no_text_has_it_and_a_gap_has_no_end():
    packed = model_of(Text(length=LENGTH, packed=True))  # whose texts end at the first end
    for text in sampled(packed, Template("z___5q")):
        assert text.startswith("zzz") and text.endswith("q")
    assert set(sampled(packed, Template("ab___c"), num=32)) == {"abxyc", "abxxyyc"}


def test_samples_do_not_depend_on_how_many_there_are(model):
    assert sampled(model, Template("ab___c"), num=4) == sampled(model, Template("ab___c"))[:4]


def test_templates_that_do_not_fit_are_refused_by_name(model):
    with pytest.raises(ValueError, match="'text': the template has at least 13 units, more than"):
        sampled(model, Template("abcdefghijk___l"))
    with pytest.raises(ValueError, match="'text': the template 'ab' has no gap"):
        sampled(model, Template("ab"))


class KnownWithLength(Known):
    """The same for texts of variable length: the length is an input, and a prediction."""

    def predict(self, params):
        longest = max(map(len, WORDS))
        rows = [np.frombuffer(word.encode().ljust(LENGTH, b"\0"), np.uint8) for word in WORDS]
        every = jnp.asarray(np.stack(rows), jnp.int32)
        sizes = jnp.asarray([len(word) for word in WORDS])

        def predict(x, t):
            codes, length = x["text"][..., 0], x["text.length"][:, 0]
            texts = jnp.pad(every[:, :longest], ((0, 0), (0, LENGTH)))[:, : codes.shape[1]]
            seen = (jnp.arange(codes.shape[1]) < length) & (codes >= 0)
            fits = (codes[:, None] == texts) | ~seen[:, None]
            log_p = jnp.sum(jnp.where(fits, 0.0, -20.0), axis=-1)
            log_p = log_p + jnp.where((length < 0) | (length == sizes), 0.0, -20.0)
            p = jax.nn.softmax(log_p, axis=-1)
            each = jnp.einsum("b w, w l k -> b l k", p, jax.nn.one_hot(texts, 256))
            of_length = (p @ jax.nn.one_hot(sizes, LENGTH + 1))[:, None]
            return Named({"text": jnp.log(each + 1e-9), "text.length": jnp.log(of_length + 1e-9)})

        return predict


@pytest.fixture(scope="module")
def varying():
    return model_of(Text(length=LENGTH, variable=True), KnownWithLength)


def test_a_gap_of_a_variable_text_is_as_long_as_is_probable(varying):
    found = sampled(varying, Template("ab___c"), num=48)
    assert set(found) == {"abxyc", "abxxyyc"}
    assert 14 <= found.count("abxyc") <= 34
    assert set(sampled(varying, Template("ab___4c"), num=48)) == {"abxxyyc"}


def test_a_prompt_of_a_variable_text_is_continued_to_a_probable_length(varying):
    assert set(sampled(varying, Prompt("abx"), num=48)) == {"abxyc", "abxxyyc"}
    assert set(sampled(varying, Prompt("abxxyyc"), num=48)) == {"abxxyyc"}
    assert set(sampled(varying, Prompt(""), num=48)) == set(WORDS)


def test_the_length_of_a_variable_text_may_be_told(varying):
    found = varying.sample(48, edits={"text": Prompt("ab")}, lengths={"text": [7, 5]})["text"]
    assert list(found) == ["abxxyyc", "abxyc"] * 24
    message = "'text': the template has at least 4 units, but the requested length is 3; change one"
    with pytest.raises(ValueError, match=message):
        varying.sample(1, edits={"text": Template("ab___c")}, lengths={"text": 3})
    with pytest.raises(ValueError, match="exactly 7 units, but the requested length is 9"):
        varying.sample(1, edits={"text": Template("ab___4c")}, lengths={"text": 9})
