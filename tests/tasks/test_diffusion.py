"""Training and generation of several modalities: masked codes, latents and symbols together."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import vqdit
from tests import tiny
from tests.cli import trained
from vqdit.modalities import Label, Text
from vqdit.models import DiT
from vqdit.parallel import Mesh, over_batch
from vqdit.processes import Conditional, Flow, Independent
from vqdit.random import per_example, streams
from vqdit.samplers import Branch, Euler, Unmasking
from vqdit.tasks import CodeTarget, DiffusionTask, Target
from vqdit.tasks.request import Request
from vqdit.typing import Named

TARGETS = ("audio", "image", "text")
ROWS = 8


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return trained.joint(tmp_path_factory)


@pytest.fixture(scope="module")
def model(workdir):
    return vqdit.load(workdir)


@pytest.fixture(scope="module")
def batch():
    return jax.tree.map(jnp.asarray, tiny.joint().data.first_batch(0))


@pytest.fixture(scope="module")
def sample(model):
    """Generation, compiled once: what is known and wanted is data."""
    run = jax.jit(model.task.sample)
    return lambda keys, request: run(model.params, model.frozen, keys, request)


@pytest.fixture(scope="module")
def walk(model):
    run = jax.jit(model.task.trajectory)
    return lambda keys, request: run(model.params, model.frozen, keys, request)


def flags(*names):
    return Named({name: jnp.asarray(name in names) for name in TARGETS})


def ask(batch, *, known=(), wanted=(), rows=slice(ROWS), branches=()):
    """What the first rows of a batch are given; what is not known is given as zeros."""
    given = {"label": jnp.asarray(batch.data["label"][rows])}
    for name in TARGETS:
        stored = jnp.asarray(batch.data[name][rows])
        given[name] = stored if name in known else jnp.zeros_like(stored)
    return Request(Named(given), flags(*known), flags(*wanted), branches)


def keys(rows=slice(ROWS), seed=0):
    return per_example(jax.random.key(seed), jnp.arange(64)[rows])


# Training.


def test_masked_codes_latents_and_symbols_are_learned_by_one_network(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    losses = [line for line in lines if "loss" in line]
    first, last = losses[0], losses[-1]
    for line in losses:
        total = sum(line[f"loss_{name}"] for name in TARGETS)
        np.testing.assert_allclose(line["loss"], total, rtol=1e-5)
    end = {name: np.mean([line[f"loss_{name}"] for line in losses[-5:]]) for name in TARGETS}
    assert end["text"] < 0.3 * first["loss_text"]
    assert end["image"] < 0.8 * first["loss_image"]
    assert end["audio"] < 0.8 * first["loss_audio"]
    assert last["step"] == tiny.joint().steps
    assert {name for name in lines[-1] if name.startswith("validation/")} == {
        f"validation/loss_{name}" for name in TARGETS
    }


def test_every_modality_has_a_head_an_embedding_and_a_time_of_its_own(model):
    assert {name for name in model.params if name != "blocks"} == {
        *(f"{name}_{part}" for name in TARGETS for part in ("head", "modulation", "time")),
        *(f"{name}_embed" for name in ("image", "label", "text")),
        *(f"{name}_patch" for name in ("audio", "image")),
    }
    sizes = {name: model.params[f"{name}_head"]["kernel"].shape[1] for name in TARGETS}
    assert sizes == {"audio": 4, "image": 4 * 16, "text": 256}  # an image token has four codes
    heads = [model.params[f"{name}_head"]["kernel"] for name in TARGETS]
    assert all(np.abs(head).max() > 0.01 for head in heads)  # all have left the zero start


@pytest.fixture(scope="module")
def gradient(model):
    def run(params, batch):
        key, step = jax.random.key(1), jnp.zeros((), jnp.int32)
        return model.task.loss(params, {}, model.frozen, batch, key, step)

    run = jax.jit(jax.value_and_grad(run, has_aux=True))

    def ask(batch):
        (loss, aux), gradient = run(model.params, batch)
        return loss, aux.metrics, gradient

    return ask


def biggest(tree):
    return max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", TARGETS)
def test_a_modality_that_no_example_has_costs_nothing_and_moves_no_head(name, batch, gradient):
    absent = batch._replace(present=batch.present | {name: np.zeros(32, bool)})
    loss, metrics, found = gradient(absent)
    assert metrics[f"loss_{name}"] == 0.0
    others = [other for other in TARGETS if other != name]
    np.testing.assert_allclose(loss, sum(metrics[f"loss_{other}"] for other in others), rtol=1e-6)
    assert biggest(found[f"{name}_head"]) == 0.0
    assert biggest(found[f"{name}_modulation"]) == 0.0
    for other in others:
        assert biggest(found[f"{other}_head"]) > 0.0
        assert np.isfinite(biggest(found))


def test_what_stands_in_an_absent_modality_does_not_matter(batch, gradient):
    """Not to its own loss, and through attention not to the others."""
    present = batch.present | {name: np.arange(32) % 2 == 0 for name in ("audio", "text")}
    garbage = {
        name: np.where(
            np.expand_dims(present[name], tuple(range(1, batch.data[name].ndim))),
            batch.data[name],
            np.random.default_rng(0).integers(0, 99, batch.data[name].shape),
        ).astype(batch.data[name].dtype)
        for name in ("audio", "text")
    }
    one = gradient(batch._replace(present=present))
    other = gradient(batch._replace(present=present, data=batch.data | garbage))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)
    assert one[1]["loss_audio"] > 0.0


def test_rows_that_only_fill_up_a_batch_do_not_count(model, batch):
    evaluate = jax.jit(model.task.evaluate)

    def run(batch):
        return evaluate(model.params, {}, model.frozen, batch, jax.random.key(2))

    whole = run(batch)
    valid = np.arange(32) < 20
    present = Named({name: row & valid for name, row in batch.present.items()})
    part = run(batch._replace(valid=valid, present=present))
    odd = Named({**batch.present, "text": np.arange(32) % 2 == 1})
    some = run(batch._replace(present=odd))
    for name in TARGETS:
        assert whole[f"loss_{name}"].count == 32.0
        assert part[f"loss_{name}"].count == 20.0
    assert some["loss_text"].count == 16.0 and some["loss_audio"].count == 32.0


def test_a_known_modality_has_no_loss(model, batch):
    """Everything but the text is known: then there is nothing else to learn."""

    task = dataclasses.replace(model.task, joint=Conditional(given=("audio", "image")))
    found = jax.jit(task.evaluate)(model.params, {}, model.frozen, batch, jax.random.key(2))
    assert found["loss_audio"].total == 0.0 and found["loss_image"].total == 0.0
    assert found["loss_text"].total > 0.0


# The times of a generation.


def windows(model, **reveal):
    targets = {
        name: dataclasses.replace(model.task.targets[name], reveal=reveal.get(name, (0.0, 1.0)))
        for name in TARGETS
    }
    return dataclasses.replace(model.task, targets=Named(targets))


def times(task, steps, *, known=(), wanted=()):
    samplers = Named(dict.fromkeys(TARGETS, Unmasking(steps=steps)))
    found = task.times(Request(Named(), flags(*known), flags(*wanted)), samplers)
    return {name: np.asarray(time) for name, time in found.items()}


def test_one_wanted_modality_gets_the_whole_generation(model):
    for name in TARGETS:  # whatever its window
        found = times(model.task, 5, wanted=[name])
        np.testing.assert_allclose(found[name], [1.0, 0.8, 0.6, 0.4, 0.2, 0.0], atol=1e-6)
        for other in set(TARGETS) - {name}:
            assert (found[other] == 1.0).all()  # neither known nor wanted: it stays unknown
        assert (found["label"] == 0.0).all()


def test_several_windows_are_stretched_over_the_whole_generation(model):
    found = times(model.task, 8, known=["image"], wanted=["audio", "text"])
    # audio (0, 0.5) and text (0, 0.75) of what is (0, 1) in the config: 2/3 and all of it.
    progress = np.linspace(0.0, 0.75, 9)
    np.testing.assert_allclose(found["audio"], 1 - np.clip(progress / 0.5, 0, 1), atol=1e-6)
    np.testing.assert_allclose(found["text"], 1 - progress / 0.75, atol=1e-6)
    assert (found["image"] == 0.0).all()
    every = times(model.task, 8, wanted=TARGETS)
    np.testing.assert_allclose(every["image"][:3], 1.0)
    np.testing.assert_allclose(
        every["image"], 1 - np.clip((np.linspace(0, 1, 9) - 0.25) / 0.75, 0, 1), atol=1e-6
    )


def test_windows_begin_at_exactly_one_and_end_at_exactly_zero_without_a_step_too_many(model):
    """In float32 a border that falls on a step must not be missed by a bit, on either side."""
    for steps in (1, 2, 3, 7, 10, 15, 16, 20):
        for start in range(0, 20, 3):
            for end in (start + 1, start + 7, 20):
                if end > 20:
                    continue
                task = windows(model, audio=(start / 20, end / 20))
                found = times(task, steps, wanted=["audio", "text"])["audio"]
                assert found[0] == 1.0 and found[-1] == 0.0
                assert (np.diff(found) <= 0.0).all()
                progress = np.arange(steps + 1) * 20 / steps  # in twentieths, exact at borders
                assert ((found == 1.0) == (progress <= start + 1e-9)).all(), (steps, start, end)
                assert ((found == 0.0) == (progress >= end - 1e-9)).all(), (steps, start, end)


# Generation.


def test_what_is_known_comes_back_bit_for_bit(model, batch, sample):
    for known in (["image"], ["audio", "text"], ["image", "audio"]):
        wanted = [name for name in TARGETS if name not in known]
        out = sample(keys(), ask(batch, known=known, wanted=wanted))
        assert set(out) == set(TARGETS)
        for name in TARGETS:
            stored = batch.data[name][:ROWS]
            assert (out[name].dtype, out[name].shape) == (stored.dtype, stored.shape)
            if name in known:
                np.testing.assert_array_equal(out[name], stored)
            else:
                assert (np.asarray(out[name]) != stored).any()
    space = model.task.space("image")  # whose tokenizer would have changed it
    codes = space.encode(model.frozen["image"], batch.data["image"][:ROWS])
    assert (space.decode(model.frozen["image"], codes) != batch.data["image"][:ROWS]).any()


def test_the_network_is_shown_the_tokens_of_what_is_known_and_they_never_change(model, batch, walk):
    request = ask(batch, known=["image", "text"], wanted=["audio"])
    x_0, path = walk(keys(), request)
    for name in ("image", "text"):
        expected = model.task.space(name).encode(model.frozen[name], batch.data[name][:ROWS])
        for state in (*path[name], x_0[name]):
            np.testing.assert_array_equal(state, expected)
    label = batch.data["label"][:ROWS, None, None]
    np.testing.assert_array_equal(path["label"], np.broadcast_to(label, (4, ROWS, 1, 1)))
    assert (path["audio"][0] != x_0["audio"]).all()


def test_what_is_not_wanted_stays_unknown(model, batch, walk):
    x_0, path = walk(keys(), ask(batch, known=["text"], wanted=["image"]))
    noise = model.task.targets["audio"].process.prior(streams(keys(), "audio/prior"), (5, 4))
    for state in (*path["audio"], x_0["audio"]):
        np.testing.assert_array_equal(state, noise)
    x_0, path = walk(keys(), ask(batch, known=["text"], wanted=["audio"]))
    assert (np.asarray(path["image"]) == -1).all() and (np.asarray(x_0["image"]) == -1).all()


def test_every_wanted_modality_is_revealed_in_its_window_and_whole_at_the_end(model, batch, walk):
    request = ask(batch, wanted=TARGETS)
    x_0, path = walk(keys(), request)
    start = model.task.start(model.frozen, keys(), request)
    schedule = times(model.task, 4, wanted=TARGETS)
    for name in TARGETS:
        states = [*np.asarray(path[name]), np.asarray(x_0[name])]
        np.testing.assert_array_equal(states[0], start[name])  # the path begins at the noise
        for step in range(4):
            same = (states[step] == states[step + 1]).all()
            falls = schedule[name][step + 1] < schedule[name][step]
            assert same != falls, (name, step)
    assert (np.asarray(x_0["image"]) >= 0).all() and (np.asarray(x_0["text"]) >= 0).all()
    hidden = [(np.asarray(state) == -1).mean() for state in path["text"]]
    np.testing.assert_allclose(hidden, [1.0, 0.6, 0.4, 0.0])  # of 5 bytes, rounded to even


def test_a_trajectory_ends_in_what_is_sampled(model, batch, sample, walk):
    request = ask(batch, known=["audio"], wanted=["image", "text"])
    x_0, _ = walk(keys(), request)
    out = sample(keys(), request)
    for name in ("image", "text"):
        decoded = model.task.space(name).decode(model.frozen[name], x_0[name])
        near = np.mean(np.abs(np.asarray(out[name], int) - np.asarray(decoded, int)) <= 1)
        assert near >= 0.99


def test_one_program_answers_every_request(batch, model):
    traces = []

    @jax.jit
    def run(*args):
        traces.append(args)
        return model.task.start(*args)  # as little as depends on a request

    for known, wanted in ((["image"], ["text"]), ([], TARGETS), (["audio", "text"], ["image"])):
        run(model.frozen, keys(), ask(batch, known=known, wanted=wanted))
    assert len(traces) == 1


# What a sample depends on.


def change_others(request, keep):
    """The same request for some rows; others for the rest."""
    given = {}
    for name, stored in request.given.items():
        other = np.roll(np.asarray(stored), 3, axis=0)
        other[keep] = np.asarray(stored)[keep]
        given[name] = jnp.asarray(other)
    return request._replace(given=Named(given))


def test_a_sample_is_the_same_bit_for_bit_whatever_else_is_in_the_batch(batch, sample):
    keep = [1, 4, 5]
    request = ask(batch, known=["audio"], wanted=["image", "text"])
    plain = sample(keys(), request)
    others = jnp.asarray([row if row in keep else 40 + row for row in range(ROWS)])
    changed = sample(per_example(jax.random.key(0), others), change_others(request, keep))
    for name in TARGETS:
        np.testing.assert_array_equal(
            np.asarray(changed[name])[keep], np.asarray(plain[name])[keep]
        )
    assert (changed["image"] != plain["image"]).any()


def test_a_sample_moves_with_its_row(batch, sample):
    request = ask(batch, known=["image"], wanted=["audio", "text"])
    plain, order = sample(keys(), request), np.asarray([3, 0, 7, 1, 6, 2, 5, 4])
    given = jax.tree.map(lambda stored: stored[order], request.given)
    moved = sample(keys()[order], request._replace(given=given))
    for name in TARGETS:
        np.testing.assert_array_equal(moved[name], np.asarray(plain[name])[order])


def test_the_same_seed_gives_the_same_and_another_one_another(batch, sample):
    request = ask(batch, wanted=TARGETS)
    one, same, other = (sample(keys(seed=seed), request) for seed in (0, 0, 1))
    for name in TARGETS:
        np.testing.assert_array_equal(one[name], same[name])
        assert (one[name] != other[name]).any()


def agreement(one, other):
    return float(np.mean(np.asarray(one) == np.asarray(other)))


def test_samples_of_another_batch_size_agree(model, batch, walk):
    """Compiled for another shape, sums may be rounded otherwise: now and then a code differs."""
    request = ask(batch, known=["audio"], wanted=["image", "text"])
    whole, _ = walk(keys(), request)
    part = slice(2, 5)
    few, _ = walk(keys(part), ask(batch, known=["audio"], wanted=["image", "text"], rows=part))
    for name in ("image", "text"):
        assert agreement(few[name], whole[name][part]) >= 0.99


def test_samples_on_eight_devices_agree_with_those_on_one(model, batch, walk, eight_devices):
    request = ask(batch, known=["audio"], wanted=["image", "text"])
    one, _ = walk(keys(), request)
    mesh = Mesh().build()
    assert mesh.size == 8
    split = over_batch(mesh)
    given, many_keys = jax.device_put((request.given, keys()), split)
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    params, frozen = jax.device_put((model.params, model.frozen), everywhere)
    eight, _ = jax.jit(model.task.trajectory)(
        params, frozen, many_keys, request._replace(given=given)
    )
    assert len(eight["text"].sharding.device_set) == 8
    for name in ("image", "text"):
        assert agreement(eight[name], one[name]) >= 0.99


# Evidence.


@pytest.fixture(scope="module")
def scoring_loss(model):
    def run(keys, request, name, rounds=4, **more):
        return model.task.scoring_loss(
            model.params, model.frozen, keys, request, name, rounds=rounds, **more
        )

    return jax.jit(run, static_argnames=("name", "rounds"))


def scored(batch, name, known):
    """A request whose `given` holds what is scored, too."""
    request = ask(batch, known=known)
    stored = jnp.asarray(batch.data[name][:ROWS])
    return request._replace(given=request.given | {name: stored})


def by_hand(model, batch, name, known, rounds):
    """The same in a loop, with probabilities in NumPy."""
    task, total = model.task, 0.0
    request = scored(batch, name, known)
    start = task.start(model.frozen, keys(), request)
    x_0 = task.space(name).encode(model.frozen[name], batch.data[name][:ROWS])
    predict = jax.jit(task.predict(model.params))
    for number in range(rounds):
        t = (number + 0.5) / rounds
        now = jnp.full((ROWS, 1), t)
        noise_keys = jax.vmap(jax.random.fold_in, (0, None))(streams(keys(), "evidence"), number)
        x_t, noise = task.targets[name].process.noise(noise_keys, x_0, now)
        at = {other: jnp.full((ROWS, 1), 0.0 if other in known else 1.0) for other in TARGETS}
        at |= {name: now, "label": jnp.zeros((ROWS, 1))}
        out = np.asarray(predict(start | {name: x_t}, Named(at))[name], np.float64)
        if name == "audio":
            total += ((out - (np.asarray(noise) - np.asarray(x_0))) ** 2).mean(axis=(1, 2))
        else:
            log_p = out - np.log(np.exp(out).sum(axis=-1, keepdims=True))
            surprise = -np.take_along_axis(log_p, np.asarray(x_0), axis=-1)[..., 0]
            total += (surprise * (np.asarray(x_t)[..., 0] == -1)).sum(axis=1) / t
    return total / rounds


@pytest.mark.parametrize(("name", "known"), [("text", ["image"]), ("audio", ["image"])])
def test_the_scoring_loss_is_the_mean_over_rounds(model, batch, scoring_loss, name, known):
    found = scoring_loss(keys(), scored(batch, name, known), name)
    assert found.shape == (ROWS,) and found.dtype == jnp.float32
    np.testing.assert_allclose(found, by_hand(model, batch, name, known, 4), rtol=1e-4)


def test_codes_may_be_scored_instead_of_what_they_decode_to(batch, model, scoring_loss):
    request = scored(batch, "text", ["image"])
    x_0 = model.task.space("text").encode(model.frozen["text"], batch.data["text"][:ROWS])
    nothing = request._replace(given=request.given | {"text": jnp.zeros((ROWS, 5), jnp.uint8)})
    np.testing.assert_allclose(
        scoring_loss(keys(), nothing, "text", x_0=x_0),
        scoring_loss(keys(), request, "text"),
        rtol=1e-5,
    )
    assert not np.allclose(
        scoring_loss(keys(), nothing, "text"), scoring_loss(keys(), request, "text")
    )


def test_to_hide_all_of_what_is_known_is_not_to_know_it(batch, scoring_loss):
    unknown = scoring_loss(keys(), scored(batch, "text", ["audio"]), "text")
    known = scored(batch, "text", ["audio", "image"])
    hide = lambda share: Named(image=jnp.arange(16)[None] < jnp.full((ROWS, 1), share))  # noqa: E731
    np.testing.assert_allclose(
        scoring_loss(keys(), known, "text", hidden=hide(16)), unknown, rtol=1e-5
    )
    np.testing.assert_allclose(
        scoring_loss(keys(), known, "text", hidden=hide(0)),
        scoring_loss(keys(), known, "text"),
        rtol=1e-5,
    )
    half = scoring_loss(keys(), known, "text", hidden=hide(8))
    assert not np.allclose(half, unknown, rtol=1e-5)


def test_the_label_says_what_the_text_is(batch, scoring_loss):
    """After a short training; and a wrong label says that it is something else."""
    request = scored(batch, "text", [])
    right = scoring_loss(keys(), request, "text", rounds=16)
    label = jnp.asarray((batch.data["label"][:ROWS] + 1) % 10)
    wrong = request._replace(given=request.given | {"label": label})
    none = request._replace(given=request.given | {"label": jnp.full((ROWS,), -1)})
    assert (scoring_loss(keys(), wrong, "text", rounds=16) > right + 3.0).all()
    assert np.mean(right) < 1.0
    # Without a label any of ten names may come: at least log 10 on average over the classes.
    assert np.mean(scoring_loss(keys(), none, "text", rounds=16)) > np.mean(right) + 1.0


# Guidance, previews, and symbols alone.


def test_guidance_by_the_label_moves_what_is_generated(batch, walk):
    def ask_with(scale):
        hidden = Named({name: jnp.asarray(name == "label") for name in (*TARGETS, "label")})
        branch = Branch(hidden, Named(dict.fromkeys(TARGETS, jnp.float32(scale))))
        return ask(batch, wanted=TARGETS, branches=(branch,))

    plain, _ = walk(keys(), ask(batch, wanted=TARGETS))
    one, _ = walk(keys(), ask_with(1.0))
    away, _ = walk(keys(), ask_with(6.0))
    for name in ("image", "text"):
        assert agreement(one[name], plain[name]) >= 0.99  # scale 1 is no guidance
    assert agreement(away["image"], plain["image"]) < 0.99
    assert np.abs(away["audio"] - one["audio"]).max() > 1e-3


def test_previews_show_every_modality_of_a_sample_in_one_column(model, batch, tmp_path):
    columns = 10  # as many as classes
    preview = {
        name: np.zeros((8 * columns, *batch.data[name].shape[1:]), batch.data[name].dtype)
        for name in TARGETS
    }
    file = model.task.write_preview(Named(preview), tmp_path / "00000012")
    assert file == tmp_path / "00000012.png"
    picture = np.asarray(Image.open(file))
    assert picture.shape == (8 * (3 * 64 + 2) + 2, columns * (64 + 2) + 2)


def test_the_run_wrote_a_preview_of_all(workdir):
    (file,) = (workdir / "previews").glob("*.png")
    assert np.asarray(Image.open(file)).shape == (8 * (3 * 64 + 2) + 2, 10 * (64 + 2) + 2)


def test_a_law_that_speaks_of_no_target_is_refused():
    targets = Named(text=CodeTarget(modality=Text(length=5)))
    for law in (Conditional(given=("txt",)), Independent(weights=Named(txt=2.0))):
        with pytest.raises(ValueError, match="joint names 'txt', which is not a target"):
            DiffusionTask(targets=targets, joint=law)


@pytest.mark.parametrize("block", ["in_context", "cross_attention"])
def test_known_positions_need_a_block_that_takes_their_times(block):
    image = Target(process=Flow(), sampler=Euler(), inpaint=0.5)
    with pytest.raises(ValueError, match=f"inpaint=0.5 of 'image' needs .* block='{block}' has on"):
        DiffusionTask(targets=Named(image=image), conditions=Named(), model=DiT(block=block))


def test_symbols_alone_need_no_tokenizer(batch):
    """Labels and texts as targets: the loss, and each from the other."""
    task = DiffusionTask(
        targets=Named(
            label=CodeTarget(modality=Label(classes=10), sampler=Unmasking(steps=2)),
            text=CodeTarget(modality=Text(length=5), sampler=Unmasking(steps=2), weight=2.0),
        ),
        model=DiT(depth=1, dim=16, heads=2, patch=4),  # the patch is not for symbols
    )

    def resolve(name):
        raise AssertionError(name)

    found, frozen = task.load(resolve, lambda: [batch])
    assert found == task
    there = np.unique(batch.data["label"])
    np.testing.assert_array_equal(np.flatnonzero(frozen["label"]["occurs"]), there)
    params, _ = jax.jit(task.init)(jax.random.key(0), frozen, batch)
    loss, aux = jax.jit(task.loss)(
        params, {}, frozen, batch, jax.random.key(1), jnp.zeros((), jnp.int32)
    )
    parts = aux.metrics
    np.testing.assert_allclose(loss, parts["loss_label"] + 2.0 * parts["loss_text"], rtol=1e-6)
    given = Named(label=jnp.arange(4), text=jnp.zeros((4, 5), jnp.uint8))
    request = Request(
        given,
        Named(label=jnp.asarray(True), text=jnp.asarray(False)),
        Named(label=jnp.asarray(False), text=jnp.asarray(True)),
    )
    out = jax.jit(task.sample)(params, frozen, keys(slice(4)), request)
    np.testing.assert_array_equal(out["label"], given["label"])
    assert out["text"].dtype == jnp.uint8 and out["text"].shape == (4, 5)
