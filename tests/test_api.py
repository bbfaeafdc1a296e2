"""`vqdit.load`: arrays in and out, and what they are refused for."""

import dataclasses
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vqdit
from tests.cli.trained import runs
from vqdit import rules
from vqdit.data import Digits
from vqdit.inference.generator import Generator
from vqdit.inference.loading import resolver
from vqdit.inference.requests import require_names
from vqdit.inference.tokenizer import Tokenizer
from vqdit.runs import restoring
from vqdit.samplers import Euler, Unmasking
from vqdit.tasks import DiffusionTask, TokenizerTask
from vqdit.typing import Named


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return runs(tmp_path_factory) / "runs"


@pytest.fixture(scope="module")
def tokenizer(folder):
    return vqdit.load(folder / "tokenizer")


@pytest.fixture(scope="module")
def generator(folder):
    return vqdit.load(str(folder))


@pytest.fixture(scope="module")
def images():
    return Digits().split("test").take(np.arange(6))["image"]


def test_a_workdir_gives_what_was_trained_in_it(folder, tokenizer, generator):
    assert isinstance(tokenizer, Tokenizer)
    assert isinstance(tokenizer.task, TokenizerTask)
    assert tokenizer.step == 8
    assert isinstance(generator, Generator)  # the last of the config's experiments
    assert isinstance(generator.task, DiffusionTask)
    assert generator.step == 6
    assert generator.task.targets["image"].sampler == Unmasking(steps=3)


def test_a_generator_is_sampled_with_its_averaged_parameters(folder, generator):
    restored = restoring.restore(folder)
    assert restored.experiment.ema == 0.9
    equal = jax.tree.map(lambda a, b: bool((a == b).all()), generator.params, restored.params)
    assert all(jax.tree.leaves(equal))


def test_codes_and_images_go_in_and_out(tokenizer, images):
    codes = np.asarray(tokenizer.encode(images))
    assert (codes.dtype, codes.shape) == (np.int32, (6, 4, 4, 1))
    assert codes.min() >= 0 and codes.max() < 16
    decoded = np.asarray(tokenizer.decode(codes))
    assert (decoded.dtype, decoded.shape) == (np.uint8, images.shape)
    error = (decoded.astype(float) - images) ** 2
    assert error.mean() < np.mean(images.astype(float) ** 2)  # better than nothing, after 8 steps
    np.testing.assert_array_equal(tokenizer.decode(codes.astype(np.int64)), decoded)
    np.testing.assert_array_equal(tokenizer.encode(images[2:4]), codes[2:4])


def test_the_generator_decodes_with_the_tokenizer_it_was_trained_on(tokenizer, generator, images):
    held = generator.frozen["image"]
    codes = generator.task.tokenizers["image"].encode(
        held["params"], held["stats"], jnp.asarray(images)
    )
    np.testing.assert_array_equal(codes, tokenizer.encode(images))


@pytest.mark.parametrize(
    ("x", "got"),
    [
        (np.zeros((8, 8, 1), np.uint8), "uint8 [8, 8, 1]"),
        (np.zeros((1, 8, 9, 1), np.uint8), "uint8 [1, 8, 9, 1]"),
        (np.zeros((1, 8, 8, 1), np.float64), "float64 [1, 8, 8, 1]"),
        (np.zeros((1, 8, 8), np.float32), "float32 [1, 8, 8]"),
    ],
)
def test_what_is_no_image_is_not_encoded(x, got, tokenizer):
    with pytest.raises(ValueError) as error:
        tokenizer.encode(x)
    takes = "encode takes uint8 [b, 8, 8, 1] or float32 [b, 8, 8, 1] in [-1, 1]"
    assert str(error.value) == f"{takes}, got {got}"


@pytest.mark.parametrize(
    ("x", "got"),
    [
        (np.zeros((0, 8, 8, 1), np.uint8), r"uint8 \[0, 8, 8, 1\]"),
        (np.zeros((0, 8, 8, 1), np.float32), r"float32 \[0, 8, 8, 1\]"),
        (np.zeros((1, 0, 0, 1), np.float32), r"float32 \[1, 0, 0, 1\]"),
    ],
)
def test_nothing_is_neither_encoded_nor_decoded(x, got, tokenizer):
    with pytest.raises(ValueError, match=f"^encode needs at least one example, got {got}$"):
        tokenizer.encode(x)
    with pytest.raises(ValueError, match=f"^decode needs at least one example, got {got}$"):
        tokenizer.decode(x)


def test_standardised_images_go_in_and_out_as_floats(tokenizer, images):
    x = np.asarray(tokenizer.task.modality.standardize(jnp.asarray(images)))
    codes = tokenizer.encode(x)
    np.testing.assert_array_equal(codes, tokenizer.encode(images))
    decoded = np.asarray(tokenizer.decode(codes, standardized=True))
    assert (decoded.dtype, decoded.shape) == (np.float32, x.shape)
    stored = tokenizer.task.modality.restore(jnp.asarray(decoded))
    np.testing.assert_array_equal(stored, tokenizer.decode(codes))
    z_q = tokenizer.task.lookup(tokenizer.params, tokenizer.stats, codes)
    direct = tokenizer.model.decode(tokenizer.params, z_q, 1)
    np.testing.assert_allclose(decoded, direct, atol=1e-5)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, r"encode needs finite numbers, got nan at \[1, 2, 3, 0\] \(1 in total\);"),
        (np.inf, r"got inf at \[1, 2, 3, 0\]"),
        (200.0, r"encode takes float32 in \[-1, 1\], got 0 to 200; scale the data"),
    ],
)
def test_a_standardised_value_out_of_range_is_named(value, message, tokenizer):
    x = np.zeros((2, 8, 8, 1), np.float32)
    x[1, 2, 3, 0] = value
    with pytest.raises(ValueError, match=message):
        tokenizer.encode(x)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((4, 4, 1), int), "decode takes integers [b, 4, 4, 1], got int64 [4, 4, 1]"),
        (np.zeros((1, 4, 4, 1)), "decode takes integers [b, 4, 4, 1], got float64 [1, 4, 4, 1]"),
        (np.full((1, 4, 4, 1), 16), "code 16 is out of range; use 0 to 15, or -1 for no code"),
        (np.full((1, 4, 4, 1), -2), "code -2 is out of range; use 0 to 15, or -1 for no code"),
    ],
)
def test_what_are_no_codes_is_not_decoded(codes, message, tokenizer):
    with pytest.raises(ValueError) as error:
        tokenizer.decode(codes)
    assert str(error.value) == message


def test_labels_that_are_not_given_go_through_the_classes_in_turn(generator):
    samples = generator.sample(12, batch_size=4)
    assert {name: (x.dtype, x.shape) for name, x in samples.items()} == {
        "image": (np.uint8, (12, 8, 8, 1)),
        "label": (np.int32, (12,)),
    }
    assert samples["label"].tolist() == [*range(10), 0, 1]


def test_sample_i_uses_item_i_mod_f_and_its_own_noise(generator):
    turns = generator.sample(5, given={"label": np.asarray([3, 5])}, batch_size=4)
    assert turns["label"].tolist() == [3, 5, 3, 5, 3]
    three = generator.sample(5, given={"label": 3}, batch_size=4)
    assert three["label"].tolist() == [3] * 5
    same = (turns["image"] == three["image"]).all(axis=(1, 2, 3))
    assert same[::2].all()
    assert len({image.tobytes() for image in three["image"]}) == 5


def test_programs_that_use_64_bits_get_the_same(folder, tokenizer, generator, images):
    with jax.enable_x64(True):
        loaded = vqdit.load(folder / "tokenizer")
        codes, samples = loaded.encode(images), generator.sample(2)
        decoded = loaded.decode(codes)
    assert (codes.dtype, decoded.dtype) == (np.int32, np.uint8)
    np.testing.assert_array_equal(codes, tokenizer.encode(images))
    np.testing.assert_array_equal(samples["image"], generator.sample(2)["image"])


def test_no_label_is_a_label_of_its_own(generator):
    none = generator.sample(4, given={"label": -1}, batch_size=4)
    assert none["label"].tolist() == [-1] * 4
    again = generator.sample(4, given={"label": [-1, -1, -1, -1]}, batch_size=4, guidance=4.0)
    # Guidance moves away from what an unknown label gives: here from itself, so nowhere.
    np.testing.assert_array_equal(again["image"], none["image"])


def test_guidance_and_samplers_change_the_samples(generator):
    plain = generator.sample(4, batch_size=4)["image"]
    np.testing.assert_array_equal(generator.sample(4, guidance=1.5, batch_size=4)["image"], plain)
    own = {"image": Unmasking(steps=3)}
    np.testing.assert_array_equal(generator.sample(4, samplers=own, batch_size=4)["image"], plain)
    greedy = {"image": Unmasking(steps=3, temperature=0.0, noise=0.0)}
    sure = generator.sample(4, samplers=greedy, given={"label": 2}, batch_size=4)["image"]
    assert len({image.tobytes() for image in sure}) == 1  # nothing is left to chance
    assert (sure != plain).any()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num": 0}, "num must be at least 1, got 0"),
        ({"num": True}, "num must be at least 1, got True"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_size": 10**9}, "batch_size must be at most 65536, got 1000000000"),
        ({"seed": 2**32}, "seed must be from 0 to 2^32 - 1, got 4294967296"),
        ({"seed": -1}, "seed must be from 0 to 2^32 - 1, got -1"),
        ({"guidance": float("nan")}, "guidance must be finite, got nan"),
        ({"guidance": -float("inf")}, "guidance must be finite, got -inf"),
        ({"guidance": 1e39}, "guidance must be finite, got 1e+39"),
        (
            {"guidance": {"image:label": float("nan")}},
            "guidance 'image:label' must be finite, got nan",
        ),
        ({"given": {"text": 1}}, "unknown modality 'text'; this model knows: image, label"),
        ({"want": ["text"]}, "unknown modality 'text'; this model knows: image, label"),
        (
            {"given": {"label": 10}},
            "'label': label 10 is out of range; use 0 to 9, or -1 for no label",
        ),
        (
            {"given": {"label": [3, -2]}},
            "'label': label -2 is out of range; use 0 to 9, or -1 for no label",
        ),
        ({"given": {"label": 2.5}}, "'label': labels must be integers, got float64"),
        ({"given": {"label": [[1]]}}, "'label': values must have the shape [] or [n], got [1, 1]"),
        ({"given": {"label": []}}, "'label': values must have the shape [] or [n], got [0]"),
        (
            {"given": {"image": np.zeros((2, 8, 8, 1), np.uint8)}},
            "nothing is left to generate: want is empty, or all targets",
        ),
        (
            {"samplers": {"image": Euler()}},
            "Euler runs Gaussian processes (Flow, DDPM), got Masked; use Unmasking for codes",
        ),
        (
            {"samplers": {"picture": Unmasking()}},
            "a sampler is given for 'picture', but this model generates image",
        ),
    ],
)
def test_what_cannot_be_sampled_is_refused(kwargs, message, generator):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        generator.sample(**{"num": 2, **kwargs})


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (rules.COUNT, 2.0, "must be an integer, got 2.0"),
        (rules.COUNT, "2", "must be an integer, got '2'"),
        (rules.finite, "3", "must be a number, got '3'"),
        (rules.number, None, "must be a number, got None"),
        (rules.finite, True, "must be a number, got True"),
        (rules.finite, [1.0], r"must be a number, got \[1.0\]"),
        (
            lambda value: require_names("given", value),
            "label=3",
            "given must be a map from names to values, as",
        ),
    ],
)
def test_values_of_another_type_are_refused(check, value, message):
    with pytest.raises(ValueError, match=message):
        check(value)
    assert rules.COUNT(np.int64(2)) == 2 and rules.finite(np.float32(2.5)) == 2.5


def test_more_samples_than_memory_holds_are_refused_at_once(generator, monkeypatch):
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1}.get)
    message = "1000 samples of image take .* GiB of memory; generate at most [0-9]+ at a"
    with pytest.raises(ValueError, match=message):
        generator.sample(1000)


def test_what_is_wanted_may_be_one_name(generator):
    one = generator.sample(2, want="image", batch_size=4)
    several = generator.sample(2, want=iter(["image"]), batch_size=4)
    np.testing.assert_array_equal(one["image"], several["image"])


def test_guidance_without_a_condition_is_refused_unless_it_is_the_configs_own(
    generator, monkeypatch
):
    task = dataclasses.replace(generator.task, conditions=Named())
    monkeypatch.setattr(generator, "task", task)
    generator.prepare({}, None, {}, None)
    generator.prepare({}, None, {}, 1.0)
    with pytest.raises(ValueError) as error:
        generator.prepare({}, None, {}, 2.0)
    assert str(error.value) == (
        "guidance 2.0 needs given values, but none are given; give a value, guide a pair such as "
        "image:text, or leave guidance at 1"
    )


def test_each_kind_refuses_the_other(folder):
    with pytest.raises(ValueError, match="the run is a TokenizerTask, not a generator"):
        Generator(restoring.restore(folder / "tokenizer"))
    with pytest.raises(ValueError, match="the run is a DiffusionTask, not a tokenizer"):
        Tokenizer(restoring.restore(folder / "generator"))


def test_where_there_is_nothing_to_load(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run in .*; a workdir holds config.json"):
        vqdit.load(tmp_path)


def test_the_resolver_finds_siblings_by_name_and_runs_by_path(folder, tokenizer):
    resolve = resolver({"first": folder / "tokenizer"})
    for name in ("first", str(folder / "tokenizer")):
        found = resolve(name)
        assert found.task == tokenizer.task
        np.testing.assert_array_equal(found.stats.codebook, tokenizer.stats.codebook)
    with pytest.raises(
        FileNotFoundError, match="cannot find 'second': .*earlier experiments here: first"
    ):
        resolve("second")


def test_the_package_offers_load_and_nothing_else():
    assert vqdit.__all__ == ["load"] and "load" in dir(vqdit)
    with pytest.raises(AttributeError, match="module 'vqdit' has no attribute 'lode'"):
        _ = vqdit.lode
