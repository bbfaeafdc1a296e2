"""Bits per byte: a network that knows the distribution reaches its entropy, and intervals hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.evaluation.intervals import ratio
from vqdit.evaluation.text_bound import bound
from vqdit.evaluation.text_data import sizes_of
from vqdit.evaluation.text_measurement import Settings
from vqdit.inference.generator import Generator
from vqdit.inference.requests import Inputs
from vqdit.inference.scoring import scoring_losses
from vqdit.modalities import BPE, Text
from vqdit.processes import MaskAndReplace, Masked, UniformState
from vqdit.processes.categorical import MASK
from vqdit.ragged import ragged
from vqdit.runs.restoring import Restored
from vqdit.samplers import DiscreteAncestral
from vqdit.tasks import CodeTarget, DiffusionTask
from vqdit.typing import Named

TEXTS = ("a", "ab", "abba", "bab", "cab", "abcd", "dada", "dab")
SHARES = np.asarray([0.3, 0.2, 0.15, 0.1, 0.1, 0.06, 0.05, 0.04])
NAME, LENGTH = "verse", 4
BYTES = np.minimum([len(text) + 1 for text in TEXTS], LENGTH)
ENTROPY = -float(SHARES @ np.log2(SHARES)) / float(SHARES @ BYTES)
"""Bits per byte of the distribution."""
PROCESSES = [
    Masked(),
    Masked(schedule="cosine"),
    pytest.param(UniformState(), marks=pytest.mark.slow),
    pytest.param(MaskAndReplace(), marks=pytest.mark.slow),
]


class Oracle(DiffusionTask):
    """A task whose network knows the distribution of the texts."""

    def predict(self, params):
        """Returns log p(x_0 at a position | x_t at all others), from all texts there are."""
        process = self.process(NAME)

        def predict(x, t):
            share = process.noise_share(t[NAME])[..., None]  # b 1 1
            gamma = process.mask_probability(t[NAME])[..., None]
            x_t = x[NAME][:, None, :, 0]  # b 1 l
            same = x_t == params["codes"][None]
            q = (1.0 - share) * same + jnp.maximum(share - gamma, 0.0) / 256
            q = jnp.log(jnp.where(x_t == MASK, gamma, q))  # b n l; -inf is ruled out
            others = [jnp.delete(q, at, axis=-1).sum(axis=-1) for at in range(LENGTH)]
            joint = params["log_p"][None, :, None] + jnp.stack(others, axis=-1)
            codes = jax.nn.one_hot(params["codes"], 256)  # n l k
            found = jnp.log(jnp.einsum("bnl,nlk->blk", jnp.exp(joint), codes) + 1e-30)
            return {NAME: found}

        return predict


class VariableOracle(Oracle):
    """The same for texts of variable length, and p(length)."""

    def predict(self, params):
        process = self.process(NAME)
        sizes = jnp.asarray([len(text) for text in TEXTS])

        def predict(x, t):
            gamma = process.mask_probability(t[NAME])[..., None]
            x_t, length = x[NAME][:, None, :, 0], x[f"{NAME}.length"][:, 0]
            same = x_t == params["codes"][None]
            q = jnp.log(jnp.where(x_t == MASK, gamma, (1.0 - gamma) * same))
            q = jnp.where((jnp.arange(LENGTH) < length)[:, None], q, 0.0)  # b n l
            others = [jnp.delete(q, at, axis=-1).sum(axis=-1) for at in range(LENGTH)]
            fits = jnp.where((length < 0) | (length == sizes), 0.0, -jnp.inf)  # b n
            joint = (params["log_p"] + fits)[..., None] + jnp.stack(others, axis=-1)
            codes = jax.nn.one_hot(params["codes"], 256)
            found = jnp.log(jnp.einsum("bnl,nlk->blk", jnp.exp(joint), codes) + 1e-30)
            p = jnp.exp(params["log_p"] + fits) @ jax.nn.one_hot(sizes, LENGTH + 1)
            return {NAME: found, f"{NAME}.length": jnp.log(p + 1e-30)[:, None]}

        return predict

    def _outputs(self, params, x, t, documents=None):
        return self.predict(params)(x, t)


class BlockOracle(Oracle):
    """The same given all earlier blocks as they are."""

    def predict(self, params):
        process, block = self.process(NAME), self.targets[NAME].block
        number = np.arange(LENGTH) // block

        def predict(x, t):
            gamma = process.mask_probability(t[NAME])[..., None]
            noised, clean = jnp.split(x[NAME][:, None, :, 0], 2, axis=-1)  # b 1 l
            same, true = noised == params["codes"][None], clean == params["codes"][None]
            q = jnp.log(jnp.where(noised == MASK, gamma, (1.0 - gamma) * same))
            earlier, own = number < number[:, None], number == number[:, None]  # l l
            own = own & ~np.eye(LENGTH, dtype=bool)
            each = jnp.where(earlier, jnp.log(true)[:, :, None], 0.0).sum(axis=-1)
            each = each + jnp.where(own, q[:, :, None], 0.0).sum(axis=-1)  # b n l
            joint = params["log_p"][None, :, None] + each
            codes = jax.nn.one_hot(params["codes"], 256)
            return {NAME: jnp.log(jnp.einsum("bnl,nlk->blk", jnp.exp(joint), codes) + 1e-30)}

        return predict


def model(process, cls=Oracle, block=0, variable=False):
    """A generator with the oracle."""
    sampler = DiscreteAncestral(steps=2)
    modality = Text(length=LENGTH, variable=variable)
    target = CodeTarget(modality=modality, process=process, sampler=sampler, block=block)
    task = cls(targets=Named({NAME: target}))
    codes = Text(length=LENGTH).pack(list(TEXTS)).astype(np.int32)
    params = {"codes": jnp.asarray(codes), "log_p": jnp.log(jnp.asarray(SHARES, jnp.float32))}
    return Generator(Restored(None, task, params, {}, task.frozen_like(), 1))


def drawn(count, variable=False):
    """Stored texts of the distribution."""
    rows = np.random.default_rng(0).choice(len(TEXTS), size=count, p=SHARES)
    return Text(length=LENGTH, variable=variable).pack(np.asarray(TEXTS)[rows])


@pytest.mark.parametrize("process", PROCESSES, ids=str)
def test_intervals_cover_the_entropy_of_the_source_as_often_as_they_say(process):
    each, repetitions = 60, 80
    stored, oracle = drawn(each * repetitions), model(process)
    losses = scoring_losses(
        Inputs(oracle.task, {}, [NAME]),
        oracle.params,
        oracle.frozen,
        stored,
        np.arange(len(stored)),
        rounds=4 if isinstance(process, Masked) else 8,
        seed=0,
        batch_size=1200,
        random_times=True,
    )
    bits, sizes = losses / np.log(2), sizes_of(Text(length=LENGTH), stored)
    parts = np.split(bits, repetitions), np.split(sizes, repetitions)
    found = [ratio(*pair) for pair in zip(*parts, strict=True)]
    covered = np.mean([one.low <= ENTROPY <= one.high for one in found])
    assert 0.88 <= covered <= 1.0, covered  # 0.95, within three standard errors
    assert ratio(bits, sizes).value == pytest.approx(ENTROPY, rel=0.05)


@pytest.mark.parametrize(
    ("cls", "block"), [(VariableOracle, 0), (BlockOracle, 2), (BlockOracle, 1)], ids=str
)
def test_intervals_of_variable_texts_and_of_blocks_cover_the_entropy(cls, block):
    each, repetitions, variable = 60, 300, cls is VariableOracle
    stored = drawn(each * repetitions, variable)
    oracle = model(Masked(), cls, block, variable)
    losses = scoring_losses(
        Inputs(oracle.task, {}, [NAME]),
        oracle.params,
        oracle.frozen,
        stored,
        np.arange(len(stored)),
        rounds=1 if block == 1 else 4,  # blocks of one code have a likelihood, and no bound
        seed=0,
        batch_size=3000,
        random_times=True,
    )
    entropy = -float(SHARES @ np.log2(SHARES))
    entropy /= float(SHARES @ [len(text) for text in TEXTS]) if variable else float(SHARES @ BYTES)
    bits, sizes = losses / np.log(2), sizes_of(oracle.modality(NAME), stored)
    parts = np.split(bits, repetitions), np.split(sizes, repetitions)
    found = [ratio(*pair) for pair in zip(*parts, strict=True)]
    covered = np.mean([one.low <= entropy <= one.high for one in found])
    assert 0.91 <= covered <= 0.99, covered  # 0.95, within three standard errors
    assert ratio(bits, sizes).value == pytest.approx(entropy, rel=0.05)


def test_the_bound_is_that_of_the_distribution_and_counts_every_text_once():
    reports = []
    stored = drawn(300)
    found = bound(
        model(Masked()),
        NAME,
        stored,
        {},
        Settings(rounds=16, batch_size=128),
        report=reports.append,
    )
    assert found.count == 300 and reports == [128, 256, 300]
    assert found.low < found.value < found.high
    numbers = [TEXTS.index(text) for text in Text(length=LENGTH).unpack(stored)]
    size, surprise = BYTES[numbers].sum(), -np.log2(SHARES[numbers]).sum()
    assert found.value == pytest.approx(surprise / size, rel=0.1)
    # A network that takes all texts for equally frequent pays for that.
    other = model(Masked())
    other.params = {**other.params, "log_p": jnp.log(jnp.full(len(TEXTS), 1 / len(TEXTS)))}
    more = bound(other, NAME, stored, {}, Settings(rounds=16, batch_size=128)).value
    expected = (np.log2(len(TEXTS)) * len(stored) - surprise) / size
    assert more - found.value == pytest.approx(expected, rel=0.25)


def test_random_times_have_no_bias_of_few_rounds():
    """One round at t = 1/2 sees half of the codes masked: not the bound, which is over all t."""
    stored, oracle = drawn(4000), model(Masked(schedule="cosine"))
    inputs = Inputs(oracle.task, {}, [NAME]), oracle.params, oracle.frozen

    def value(is_random):
        how = {"rounds": 1, "seed": 0, "batch_size": 2000, "random_times": is_random}
        losses = scoring_losses(*inputs, stored, np.arange(len(stored)), **how)
        return ratio(losses / np.log(2), sizes_of(Text(length=LENGTH), stored))

    middle, anywhere = value(False), value(True)
    assert abs(anywhere.value - ENTROPY) < 2.0 * (anywhere.high - anywhere.value)
    assert abs(middle.value - ENTROPY) > 2.0 * (middle.high - middle.value)


def test_bytes_are_those_of_the_text_and_its_end():
    padded = Text(length=6)
    stored = padded.pack(["", "a", "four", "five5", "sixsix", "é"])
    np.testing.assert_array_equal(sizes_of(padded, stored), [1, 2, 5, 6, 6, 3])
    # Windows of a stream: every byte counts, with the end codes of documents within.
    windows = np.frombuffer(b"ab\0cde" + b"\0fghij" + b"klmno\0" + b"p\0\0\0\0\0", np.uint8)
    np.testing.assert_array_equal(sizes_of(padded, windows.reshape(4, 6)), [6, 6, 6, 2])
    variable = Text(length=6, variable=True)
    stored = variable.pack(["", "a", "sixsix", "a\0"])
    np.testing.assert_array_equal(sizes_of(variable, stored), [0, 1, 6, 2])
    # Units of a BPE have the bytes that they stand for: 257 is "th", 258 is "the".
    units = BPE(size=259, merges="t h\nth e")
    stored = np.asarray([[258, 1 + ord("a"), 0, 257, 0], [258, 258, 257, 257, 258]], np.int32)
    np.testing.assert_array_equal(sizes_of(Text(length=5, units=units), stored), [8, 13])
    stored = ragged([np.asarray([258, 257], np.int32), np.asarray([1 + ord("a")], np.int32)])
    sizes = sizes_of(Text(length=5, units=units, variable=True), stored)
    np.testing.assert_array_equal(sizes, [5, 1])
