"""Generation of any modalities from any others, and scores, by a model of four of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vqdit
from tests import joint as helper
from tests import tiny
from tests.cli.trained import joint
from vqdit import parallel
from vqdit.data import Digits
from vqdit.data.digits import WORDS
from vqdit.inference.generator import Generator
from vqdit.inference.requests import Inputs
from vqdit.inference.scoring import chosen_measure
from vqdit.modalities import Label, Text
from vqdit.parallel import Mesh
from vqdit.random import per_example
from vqdit.runs.restoring import Restored
from vqdit.samplers import Euler, Unmasking
from vqdit.tasks import CodeTarget, DiffusionTask
from vqdit.tasks.guidance_scales import guidance_branches
from vqdit.tasks.request import Request, blank
from vqdit.typing import Named

TARGETS = ("audio", "image", "text")
SIZE = {"batch_size": 4}
"""Of almost all that is generated here: one shape compiles."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return vqdit.load(joint(tmp_path_factory))


@pytest.fixture(scope="module")
def held_out():
    return Digits().split("test").take(np.arange(20))


def agreement(one, other):
    return np.mean(np.asarray(one) == np.asarray(other))


# Samples.


def test_everything_is_generated_if_nothing_is_given(model):
    samples = model.sample(5, **SIZE)
    assert {name: (values.dtype, values.shape) for name, values in samples.items()} == {
        "audio": (np.int16, (5, 800)),
        "image": (np.uint8, (5, 8, 8, 1)),
        "text": (samples["text"].dtype, (5,)),
        "label": (np.int32, (5,)),
    }
    assert samples["text"].dtype.kind == "U"
    assert samples["label"].tolist() == [0, 1, 2, 3, 4]  # the classes in turn
    for name in ("audio", "image"):
        assert len({sample.tobytes() for sample in samples[name]}) > 1
    again = model.sample(5, want=["text", "image", "audio"], **SIZE)  # the same, in any order
    for name, values in samples.items():
        np.testing.assert_array_equal(again[name], values)


def test_eight_devices_share_the_samples_and_the_scores(model, monkeypatch, eight_devices):
    """Five samples become eight: one on each device."""
    whole = Mesh.build(Mesh(), jax.devices()[:1])
    asked = {"given": {"label": 3}, "want": ["text", "image"], "seed": 1}
    scored = {"label": [3, 4, 5]}, {"text": ["three", "four", "five"]}
    many = model.sample(5, **asked), model.score(*scored, rounds=2)
    put, places = parallel.put_examples, []

    def spy(tree, count, mesh):
        found = put(tree, count, mesh)
        places.append((count, len(found[0].sharding.device_set)))
        return found

    monkeypatch.setattr(parallel, "put_examples", spy)
    again = model.sample(5, **asked)
    assert places == [(8, 8)]
    monkeypatch.setattr(parallel, "of_process", lambda: whole)
    one = model.sample(5, **asked), model.score(*scored, rounds=2)
    assert places == [(8, 8), (5, 1), (9, 1)]
    for name in ("text", "image"):
        np.testing.assert_array_equal(again[name], many[0][name])
        assert len(many[0][name]) == 5 and agreement(many[0][name], one[0][name]) >= 0.8
    np.testing.assert_allclose(many[1], one[1], rtol=0.02)


def test_what_is_given_comes_back_as_it_was(model, held_out):
    given = {
        "image": held_out["image"][:3],
        "audio": held_out["audio"][:2],
        "text": ["six", "", "seven"],
    }
    for names in (["image"], ["audio", "text"], ["image", "text"]):
        samples = model.sample(4, given={name: given[name] for name in names}, **SIZE)
        assert set(samples) == {*TARGETS, "label"}
        for name in names:
            turns = np.arange(4) % len(given[name])
            np.testing.assert_array_equal(samples[name], np.asarray(given[name])[turns])


def test_one_value_serves_all_samples(model, held_out):
    samples = model.sample(3, given={"text": "six", "image": held_out["image"][0]}, **SIZE)
    assert samples["text"].tolist() == ["six"] * 3
    np.testing.assert_array_equal(samples["image"], held_out["image"][[0, 0, 0]])
    packed = model.pack("text", "six")[0]  # as it is stored
    assert model.sample(3, given={"text": packed}, **SIZE)["text"].tolist() == ["six"] * 3


def test_only_what_is_wanted_is_generated(model, held_out):
    samples = model.sample(4, given={"audio": held_out["audio"][0]}, want=["text"], **SIZE)
    assert set(samples) == {"audio", "text", "label"}
    assert set(model.sample(4, want=["image"], **SIZE)) == {"image", "label"}


def test_a_sample_depends_on_its_index_the_seed_and_what_it_is_given(model):
    many = model.sample(8, want=["image", "text"], seed=3, **SIZE)
    few = model.sample(5, want=["image", "text"], seed=3, **SIZE)  # the last batch is filled up
    for name in ("image", "text"):
        np.testing.assert_array_equal(few[name], many[name][:5])
    labels = many["label"].copy()
    labels[[0, 6]] = 9
    other = model.sample(8, given={"label": labels}, want=["image", "text"], seed=3, **SIZE)
    same = np.isin(np.arange(8), [0, 6], invert=True)
    np.testing.assert_array_equal(other["image"][same], many["image"][same])
    seeded = model.sample(8, want=["image", "text"], seed=4, **SIZE)
    assert (seeded["image"] != many["image"]).any(axis=(1, 2, 3)).all()


def test_another_batch_size_gives_almost_the_same_codes(model):
    one = model.sample(9, want=["text"], batch_size=3)["text"]
    other = model.sample(9, want=["text"], **SIZE)["text"]
    assert agreement(model.pack("text", one), model.pack("text", other)) >= 0.99


def test_the_text_is_that_of_the_label(model):
    """After a short training, with the most likely letters."""
    sure = {"text": Unmasking(steps=4, temperature=0.0, noise=0.0)}
    texts = model.sample(10, want=["text"], samplers=sure, **SIZE)["text"]
    assert np.mean(texts == np.asarray(WORDS)) >= 0.9, texts
    none = model.sample(4, given={"label": -1}, want=["text"], samplers=sure, **SIZE)
    assert len(set(none["text"])) == 1  # nothing is left to chance, and nothing tells them apart
    assert none["label"].tolist() == [-1] * 4


def test_batches_are_filled_up_with_the_first_samples_and_keep_everyones_own(model):
    stored, branches = (
        {"text": model.pack("text", ["one", "two"])},
        guidance_branches(model.task, [], 2.0),
    )
    inputs = Inputs(model.task, stored, ["image"], branches)
    batches = list(inputs.batches(np.asarray([5, 3, 4]), 2, seed=7))
    assert [rows.tolist() for rows, _, _ in batches] == [[0, 1], [2, 0]]
    for numbers, (_, request, keys) in zip(([5, 3], [4, 5]), batches, strict=True):
        own = per_example(jax.random.key(7), jnp.asarray(numbers))
        assert (jax.random.key_data(keys) == jax.random.key_data(own)).all()
        texts = model.modality("text").unpack(np.asarray(request.given["text"]))
        assert texts.tolist() == [["one", "two"][number % 2] for number in numbers]
        assert request.given["label"].tolist() == numbers  # the classes in turn
        assert {name for name, known in request.known.items() if known} == {"text"}
        assert {name for name, wanted in request.wanted.items() if wanted} == {"image"}
        assert request.branches == branches


def test_pairs_of_guidance_are_branches_with_their_scales(model):
    pairs = {"image:text": 3.0, "audio:text": 2.0, "text:label": 1.5}
    branches = guidance_branches(model.task, {}, pairs)
    found = [
        (
            {name for name, hidden in branch.hidden.items() if hidden},
            {name: float(scale) for name, scale in branch.scale.items()},
        )
        for branch in branches
    ]
    assert found == [
        ({"text"}, {"audio": 2.0, "image": 3.0, "text": 1.0}),
        ({"label"}, {"audio": 1.0, "image": 1.0, "text": 1.5}),
    ]


def test_one_scale_hides_all_that_is_given(model):
    for given, hidden in ((["text", "audio"], {"text", "audio", "label"}), ([], {"label"})):
        (branch,) = guidance_branches(model.task, given, 2.5)
        assert {name for name, hides in branch.hidden.items() if hides} == hidden
        assert {float(scale) for scale in branch.scale.values()} == {2.5}
    assert (
        guidance_branches(model.task, ["text"], 1.0)
        == ()
        == guidance_branches(model.task, ["text"], None)
    )


def test_guidance_changes_what_it_is_for(model):
    want = {"want": ["text"], "given": {"label": [1, 2, 3, 7]}}
    plain = model.sample(4, **want, **SIZE)["text"]
    one = model.sample(4, guidance={"text:label": 1.0}, **want, **SIZE)["text"]
    assert agreement(one, plain) == 1.0
    strong = model.sample(4, guidance={"text:label": 8.0}, **want, **SIZE)["text"]
    scalar = model.sample(4, guidance=8.0, **want, **SIZE)["text"]  # the label is all there is
    np.testing.assert_array_equal(strong, scalar)
    away = model.sample(4, guidance={"text:label": -8.0}, **want, **SIZE)["text"]
    assert agreement(away, plain) < 1.0


# What is refused.


PICTURE = np.zeros((8, 8, 1), np.uint8)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"given": {"image": PICTURE}, "want": ["text", "image"]},
            "'image' is both in `given` and in `want`; remove it from one of them",
        ),
        (
            {"want": ["text", "label"]},
            "'label' can only be given to this model; it generates audio, image, text",
        ),
        (
            {"want": ["video"]},
            "unknown modality 'video'; this model knows: audio, image, text, label",
        ),
        (
            {"given": {"texts": "six"}},
            "unknown modality 'texts'; this model knows: audio, image, text, label",
        ),
        (
            {"given": {"image": PICTURE, "text": "six", "audio": np.zeros(800, np.int16)}},
            "nothing is left to generate: want is empty, or all targets of this model "
            "(audio, image, text) are given; its conditions are label",
        ),
        (
            {"given": {"image": np.zeros((4, 4, 1), np.uint8)}},
            "'image': values must have the shape [8, 8, 1] or [n, 8, 8, 1], got [4, 4, 1]",
        ),
        ({"given": {"image": PICTURE / 255}}, "'image': values must be uint8, got float64"),
        (
            {"given": {"audio": np.zeros(700, np.int16)}},
            "'audio': values must have the shape [800] or [n, 800], got [700]",
        ),
        (
            {"given": {"text": "eleven"}},
            "'text': the text 'eleven' has 6 bytes, more than the limit of 5; shorten it, or set a "
            "larger length",
        ),
        (
            {"given": {"text": ["six", "a\0b"]}},
            "'text': the text 'a\\x00b' has a byte 0, which is reserved for padding",
        ),
        (
            {"given": {"text": "Six!"}},
            "'text' contains 'S!', which does not occur in the training data; use these "
            "characters: 'efghinorstuvwxz'",
        ),
        (
            {"given": {"text": "é"}},
            "'text' contains 'é', which does not occur in the training data; use these characters: "
            "'efghinorstuvwxz'",
        ),
        (
            {"guidance": {"image-text": 2.0}},
            "guidance takes pairs such as image:text, got 'image-text'",
        ),
        (
            {"guidance": {"picture:text": 2.0}},
            "unknown modality 'picture'; this model knows: audio, image, text, label",
        ),
        (
            {"guidance": {"image:": 2.0}},
            "unknown modality ''; this model knows: audio, image, text, label",
        ),
        (
            {"given": {"image": PICTURE}, "guidance": {"image:text": 2.0}},
            "guidance 'image:text' is for 'image', which is not generated; generated: audio, text",
        ),
        (
            {"guidance": {"label:text": 2.0}},
            "guidance 'label:text' is for 'label', which is not generated; generated: audio, "
            "image, text",
        ),
        (
            {"want": ["image"], "guidance": {"image:text": 2.0}},
            "guidance 'image:text' cannot use the source 'text'; 'image' can be guided by: label",
        ),
        (
            {"want": ["image"], "given": {"text": "six"}, "guidance": {"image:image": 2.0}},
            "guidance 'image:image' cannot use the source 'image'; 'image' can be guided by: "
            "label, text",
        ),
        (
            {"samplers": {"audio": Unmasking(steps=4)}},
            "Unmasking decodes the Masked process, got Flow; use Euler for latents",
        ),
        (
            {"samplers": {"label": Euler()}},
            "a sampler is given for 'label', but this model generates audio, image, text",
        ),
        (
            {"samplers": {"audio": Euler(steps=9)}},
            "samplers of targets that are generated together must take the same number of steps; "
            "got audio 9, image 4, text 4; give them the same number",
        ),
    ],
)
def test_what_cannot_be_sampled_is_refused(kwargs, message, model):
    with pytest.raises(ValueError) as error:
        model.sample(2, **kwargs)
    assert str(error.value) == message


def test_nothing_wanted_is_nothing_to_do(model):
    with pytest.raises(ValueError, match="nothing is left to generate"):
        model.sample(2, want=[])


@pytest.fixture(scope="module")
def symbols():
    """A model of labels and texts that has not been trained."""
    targets = Named(
        label=CodeTarget(modality=Label(classes=10), sampler=Unmasking(steps=2)),
        text=CodeTarget(modality=Text(length=5), sampler=Unmasking(steps=2)),
    )
    task = DiffusionTask(targets=targets)
    frozen = {
        "label": {"occurs": jnp.ones(10, bool)},
        "text": {"occurs": jnp.arange(256) < 128},
    }
    experiment = tiny.generator(task=task)
    return Generator(Restored(experiment, task, {}, {}, frozen, 0))


def test_no_label_is_none_that_a_generated_label_could_have(symbols):
    for call in (
        lambda: symbols.sample(2, given={"label": [3, -1]}),
        lambda: symbols.score({"text": "six"}, {"label": [0, -1]}),
    ):
        with pytest.raises(ValueError) as error:
            call()
        assert str(error.value) == (
            "'label' has -1, which means no value and is allowed only for conditions; "
            "leave 'label' out"
        )


def test_guidance_towards_nothing_is_refused(symbols):
    with pytest.raises(ValueError, match="guidance 2.0 needs given values, but none are given"):
        symbols.sample(2, guidance=2.0)
    symbols.prepare({"label": 1}, None, {}, 2.0)
    symbols.prepare({}, None, {}, {"text:label": 2.0})


# Scores.


@pytest.fixture(scope="module")
def names(model):
    """How well every name fits every label: [10, 10]."""
    return model.score({"label": np.arange(10)}, {"text": list(WORDS)}, rounds=8, batch_size=20)


def test_the_right_candidate_fits_best(names):
    assert names.shape == (10, 10) and names.dtype == np.float32
    assert np.mean(names.argmax(axis=1) == np.arange(10)) >= 0.9
    assert (names <= 0.0).all()  # bounds on log-probabilities
    right, wrong = np.diag(names), names[~np.eye(10, dtype=bool)]
    assert right.mean() > wrong.mean() + 5.0


def test_a_score_is_minus_the_evidence(model, names):
    task, rows = model.task, np.asarray([2, 7, 7, 0])
    words = np.asarray([2, 2, 7, 9])
    given = {name: blank(task, name, 4) for name in TARGETS}
    given |= {"label": jnp.asarray(rows, jnp.int32)}
    given |= {"text": jnp.asarray(model.pack("text", list(np.asarray(WORDS)[words])))}
    never = Named({name: jnp.asarray(False) for name in TARGETS})
    request = Request(Named(given), never, never | {"text": jnp.asarray(True)})
    keys = per_example(jax.random.key(0), jnp.asarray(rows))  # the item's key, for any candidate
    scoring_loss = jax.jit(
        lambda keys: task.scoring_loss(model.params, model.frozen, keys, request, "text", rounds=8)
    )
    np.testing.assert_allclose(names[rows, words], -scoring_loss(keys), rtol=1e-4, atol=1e-4)


def test_a_candidate_has_its_score_whatever_the_others_are(model, names):
    order = [7, 3, 3, 0]
    some = model.score(
        {"label": np.arange(10)},
        {"text": [WORDS[number] for number in order]},
        rounds=8,
        batch_size=20,
    )
    np.testing.assert_allclose(some, names[:, order], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(some[:, 1], some[:, 2])  # twice the same, the same noise
    (alone,) = model.score({"label": 0}, {"text": "three"}, rounds=8, batch_size=20)
    np.testing.assert_allclose(alone, names[0, 3:4], rtol=1e-4, atol=1e-4)


def test_an_item_has_the_noise_of_its_number_and_the_seed(model, names):
    two = {"label": [4, 4]}
    scores = model.score(two, {"text": ["one", "four"]}, rounds=8, batch_size=20)
    assert (scores[0] != scores[1]).all()
    other = model.score(two, {"text": ["one", "four"]}, rounds=8, batch_size=20, seed=1)
    assert (other != scores).all()


def test_latents_are_scored_by_their_error(model, held_out):
    scores = model.score(
        {"image": held_out["image"][:2], "text": "six"},
        {"audio": held_out["audio"][:3]},
        measure="likelihood",
        rounds=4,
        batch_size=4,
    )
    assert scores.shape == (2, 3) and (scores < 0.0).all() and (scores > -10.0).all()
    # The given text serves both images, and the last batch of four is filled up.
    one = model.score(
        {"image": held_out["image"][0], "text": "six"},
        {"audio": held_out["audio"][:3]},
        measure="likelihood",
        rounds=4,
        batch_size=4,
    )
    np.testing.assert_allclose(one[0], scores[0], rtol=1e-4)
    # Sounds are compared by how much better they are predicted than without what is given.
    alone = model.score({}, {"audio": held_out["audio"][:3]}, rounds=4, batch_size=4)
    gained = model.score(
        {"image": held_out["image"][0], "text": "six"},
        {"audio": held_out["audio"][:3]},
        rounds=4,
        batch_size=4,
    )
    np.testing.assert_allclose(gained, one - alone, rtol=1e-3, atol=1e-5)


class Known(DiffusionTask):
    """A network that knows p(label | text) and p(label) of texts "a" and "b" exactly."""

    def predict(self, params):
        del params
        table = jnp.asarray([SHARES["a"], SHARES["b"], SHARES[None]])

        def predict(x, t):
            del t
            row = jnp.where(x["text"] < 0, 2, x["text"] - ord("a"))[:, 0, 0]
            return Named(label=jnp.log(table[row])[:, None], text=jnp.zeros((len(row), 1, 256)))

        return predict


SHARES = {"a": (0.6, 0.3, 0.05, 0.05), "b": (0.75, 0.05, 0.15, 0.05), None: (0.7, 0.1, 0.1, 0.1)}


def test_the_information_is_the_likelihood_beyond_how_likely_a_candidate_is_at_all():
    targets = Named(
        label=CodeTarget(modality=Label(classes=4)), text=CodeTarget(modality=Text(length=1))
    )
    known = helper.generator(Known(targets=targets), params={})
    asked = {"text": ["a", "b"]}, {"label": np.arange(4)}
    p, alone = np.asarray([SHARES["a"], SHARES["b"]]), np.asarray(SHARES[None])
    found = {
        None: (np.log(p), [0, 0]),  # of labels, the likelihood
        "likelihood": (np.log(p), [0, 0]),
        "information": (np.log(p / alone), [1, 2]),
    }
    for measure, (expected, best) in found.items():
        scores = known.score(*asked, measure=measure, rounds=2000)
        assert scores.argmax(axis=1).tolist() == best
        ratio = scores / expected  # which codes are hidden is drawn, alike for all candidates
        np.testing.assert_allclose(ratio, ratio[:, :1].repeat(4, axis=1), rtol=1e-3)
        np.testing.assert_allclose(ratio, 1.0, atol=0.2)


def test_data_are_compared_by_information_and_names_by_likelihood(model):
    task = model.task
    assert chosen_measure(task, "image", ["text"], None) == "information"
    assert chosen_measure(task, "audio", ["label"], None) == "information"
    assert chosen_measure(task, "text", ["image"], None) == "likelihood"
    assert chosen_measure(task, "image", [], None) == "likelihood"
    with pytest.raises(ValueError, match="the measure information needs given values"):
        chosen_measure(task, "image", [], "information")
    never = dataclasses.replace(task.conditions["label"], drop=0.0)
    task = dataclasses.replace(task, conditions=Named(label=never))
    with pytest.raises(ValueError, match=r"training with conditions.label.drop=0 never hid this"):
        chosen_measure(task, "image", ["label"], None)
    assert chosen_measure(task, "image", ["label"], "likelihood") == "likelihood"


@pytest.mark.parametrize(
    ("given", "candidates", "more", "message"),
    [
        ({"label": 3}, {}, {}, "score compares candidates of one modality, got none"),
        (
            {"label": 3},
            {"text": "six", "image": PICTURE},
            {},
            "score compares candidates of one modality, got text, image",
        ),
        (
            {"text": "six"},
            {"text": "six"},
            {},
            "'text' is both in `given` and in `want`; remove it from one of them",
        ),
        (
            {"text": "six"},
            {"label": 3},
            {},
            "'label' can only be given to this model; it generates audio, image, text",
        ),
        (
            {"label": 3},
            {"texts": "six"},
            {},
            "unknown modality 'texts'; this model knows: audio, image, text, label",
        ),
        (
            {"label": 3},
            {"text": "six"},
            {"rounds": 0},
            "rounds must be at least 1, got 0",
        ),
        ({"label": 3}, {"text": "six"}, {"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"label": 3}, {"text": "six"}, {"seed": -1}, "seed must be from 0 to 2^32 - 1, got -1"),
        (
            {"label": 3},
            {"text": []},
            {},
            "'text': the value must be a text or a list of texts, got []",
        ),
        (
            {"label": [1, 2, 3], "image": np.stack([PICTURE] * 2)},
            {"text": "six"},
            {},
            "image has 2 given items, but another modality has 3",
        ),
        ({"label": 3}, {"text": "seventy"}, {}, "'text': the text 'seventy' has 7 bytes, more"),
        (
            {"label": 30},
            {"text": "six"},
            {},
            "'label': label 30 is out of range; use 0 to 9, or -1 for no label",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused(given, candidates, more, message, model):
    with pytest.raises(ValueError) as error:
        model.score(given, candidates, **more)
    assert str(error.value).startswith(message)


def test_texts_are_checked_against_what_occurs(symbols):
    """Here the first half of all bytes, and no others."""
    assert symbols.pack("text", "Six!").shape == (1, 5)
    with pytest.raises(ValueError, match="'text' contains 'é'"):
        symbols.pack("text", "é")
    blank = dataclasses.replace(symbols.task.targets["text"].modality, length=2)
    assert blank.pack("ab").tolist() == [[97, 98]]
