"""Targets that are generated block by block: bounds, losses, sampling, scores."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vqdit
from tests import chain, joint, tiny
from vqdit.cli import given
from vqdit.cli.main import main
from vqdit.data.batch import Batch
from vqdit.inference.explanation import explain
from vqdit.modalities import Label, Text
from vqdit.models import DiT
from vqdit.nn.embeddings import positions
from vqdit.processes import Flow, Masked, UniformState
from vqdit.random import per_example, streams
from vqdit.samplers import Branch, DiscreteAncestral, Euler, Unmasking
from vqdit.samplers.blockwise import BlockNetwork, generate_blocks
from vqdit.tasks import CodeTarget, Condition, DiffusionTask, blockwise
from vqdit.tasks.request import Request
from vqdit.typing import Named

LENGTH, COUNT = 8, 4
MODEL = DiT(depth=2, dim=16, heads=2, patch=1)


def target(block, **fields):
    return CodeTarget(
        **{"modality": Text(length=LENGTH), "block": block, "sampler": Unmasking(steps=2), **fields}
    )


def alone(block, **fields):
    return DiffusionTask(targets=Named(text=target(block, **fields)), model=MODEL)


def request(task, text, known=(), wanted=("text",), **given):
    names = [*task.targets]
    return Request(
        Named(text=text, **given),
        Named({name: jnp.asarray(name in known) for name in names}),
        Named({name: jnp.asarray(name in wanted) for name in names}),
    )


@pytest.fixture(scope="module")
def text():
    random = np.random.default_rng(0)
    return jnp.asarray(random.integers(1, 256, (COUNT, LENGTH)), jnp.uint8)


@pytest.fixture(scope="module")
def params():
    return joint.randomized(alone(0))


def keys(count=COUNT, seed=0):
    return per_example(jax.random.key(seed), jnp.arange(count))


def batch(text, **more):
    data = Named(text=text, **more)
    every = jnp.ones(len(text), bool)
    return Batch(data, Named({name: every for name in data}), Named(), jnp.arange(len(text)), every)


def bound(task, params, text, rounds=3):
    frozen = task.frozen_like()
    run = jax.jit(
        lambda p: task.scoring_loss(p, frozen, keys(), request(task, text), "text", rounds=rounds)
    )
    return np.asarray(run(params))


def test_one_block_of_all_codes_is_masked_diffusion(monkeypatch, params, text):
    one, plain = alone(LENGTH), alone(0)
    np.testing.assert_allclose(bound(one, params, text), bound(plain, params, text), rtol=1e-5)
    same = lambda key, t, *rest: jnp.repeat(t, LENGTH, axis=1)  # noqa: E731
    monkeypatch.setattr(blockwise, "own_times", same)  # the time that ordinary diffusion draws

    def loss(task):
        each = {}, task.frozen_like(), batch(text), jax.random.key(3), jnp.asarray(0)
        return jax.jit(lambda params: jax.value_and_grad(lambda p: task.loss(p, *each)[0])(params))(
            params
        )

    (found, gradient), (expected, other) = loss(one), loss(plain)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(other))
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a / scale, b / scale, atol=1e-5)


def norm(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def dense(part, x):
    return x @ part["kernel"] + part["bias"]


def silu(x):
    return x / (1 + np.exp(-x))


def causal_log_p(params, codes):
    """log p of one sequence by an autoregressive model, in NumPy: one code after the other.

    Keys and values of the codes before are kept. A mask in the place of the next code attends to
    them and to itself; then the code itself does.
    """
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    table, place = p["text_embed"]["table"][0], positions((LENGTH,), 16).astype(np.float64)
    frequency = np.exp(-np.log(1e4) * np.arange(128) / 128)

    def condition(t):
        angle = t * frequency
        c = np.concatenate([np.cos(angle), np.sin(angle)])
        return silu(dense(p["text_time"]["Dense_1"], silu(dense(p["text_time"]["Dense_0"], c))))

    def run(row, place, t, kept):
        h, c, new = row + place, condition(t), []
        for number in range(2):
            block = jax.tree.map(lambda leaf, n=number: leaf[n], p["blocks"])
            m = np.split(dense(block["modulation"], c), 6)
            q, k, v = (
                part.reshape(2, 8)
                for part in np.split(dense(block["qkv"], norm(h) * (1 + m[1]) + m[0]), 3)
            )
            new.append((k, v))
            ks, vs = (
                np.stack([*(old[number][i] for old in kept), part]) for i, part in enumerate((k, v))
            )
            score = np.einsum("hd,mhd->hm", q, ks) / np.sqrt(8)
            share = np.exp(score - score.max(-1, keepdims=True))
            share /= share.sum(-1, keepdims=True)
            h = h + m[2] * dense(block["out"], np.einsum("hm,mhd->hd", share, vs).reshape(16))
            u = dense(block["mlp_in"], norm(h) * (1 + m[4]) + m[3])
            u = 0.5 * u * (1 + np.tanh(np.sqrt(2 / np.pi) * (u + 0.044715 * u**3)))
            h = h + m[5] * dense(block["mlp_out"], u)
        shift, scale = np.split(dense(p["text_modulation"], c), 2)
        return dense(p["text_head"], norm(h) * (1 + scale) + shift), new

    total, kept = 0.0, []
    for i, code in enumerate(codes):
        logits, _ = run(table[256], place[i], 1000.0, kept)
        total += logits[code] - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        kept.append(run(table[code], place[i], 0.0, kept)[1])
    return total


def test_blocks_of_one_code_are_an_autoregressive_model(params, text):
    found = bound(alone(1), params, text, rounds=1)
    expected = [-causal_log_p(params, row) for row in np.asarray(text)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


class Oracle(DiffusionTask):
    """A task over the chain whose network is the perfect predictor."""

    def predict(self, params):
        process, block = self.process("text"), self.targets["text"].block

        def predict(x, t):
            x_t, at = x["text"][:, : chain.LENGTH], t["text"]
            if not block:
                pi = chain.belief(process, x_t, jnp.broadcast_to(at, x_t.shape[:2]), False, False)
                return Named(text=pi)
            x_0, found = x["text"][:, chain.LENGTH :], []
            for start in range(0, chain.LENGTH, block):
                place = jnp.arange(chain.LENGTH)
                seen = jnp.where((place < start)[None, :, None], x_0, x_t)
                each = jnp.broadcast_to(at[:, -1:], x_t.shape[:2])
                pi = chain.belief(process, seen, each, place < start, place >= start + block)
                found.append(pi[:, start : start + block])
            return Named(text=jnp.concatenate(found, axis=1))

        return predict


class Letters(Text):
    """Texts of as many letters as the chain has."""

    @property
    def vocabulary(self):
        return chain.CODES


@pytest.mark.parametrize("block", [0, 1, 2, 4])
@pytest.mark.parametrize("process", [Masked(), UniformState()])
def test_the_bound_of_the_oracle_is_the_entropy(process, block):
    """Its estimate is within its own interval of 95 %; the bound of a perfect network is tight."""
    own = target(
        block,
        modality=Letters(length=chain.LENGTH),
        process=process,
        sampler=DiscreteAncestral(steps=2),
    )
    task = Oracle(targets=Named(text=own), model=MODEL)
    count = 4000
    data = chain.drawn(count, seed=1)[..., 0].astype(jnp.uint8)
    run = jax.jit(
        lambda: task.scoring_loss(
            None,
            task.frozen_like(),
            keys(count),
            request(task, data),
            "text",
            rounds=8,
            random_times=True,
        )
    )
    losses = np.asarray(run(), np.float64)
    error = losses.std(ddof=1) / np.sqrt(count)
    assert abs(losses.mean() - chain.ENTROPY) < 1.96 * error
    assert error < 0.1


def beside(**fields):
    """A text in blocks beside a label that can be generated, and a given one."""
    targets = Named(
        label=CodeTarget(modality=Label(classes=4), sampler=Unmasking(steps=3)),
        text=target(4, sampler=Unmasking(steps=2, order="random")),
    )
    conditions = Named(style=Condition(modality=Label(classes=3)))
    return DiffusionTask(
        targets=targets,
        conditions=conditions,
        model=dataclasses.replace(MODEL, registers=1),
        **fields,
    )


def mild(task):
    """Random parameters with which many codes are likely."""
    return jax.tree.map(lambda leaf: 0.5 * leaf, joint.randomized(task))


def uncached(task, params, x, t, branches):
    """Blocks without a cache: the whole sequence of noised and clean codes for each evaluation."""
    from vqdit.samplers import guided

    def predict(kept, start):
        def plain(x, t):
            batch = len(x["text"])
            both = jnp.tile(jnp.concatenate([kept, kept], axis=1), (batch // len(kept), 1, 1))
            both = jax.lax.dynamic_update_slice_in_dim(both, x["text"], start, 1)
            at = jnp.zeros((batch, LENGTH // 4))
            at = jax.lax.dynamic_update_slice_in_dim(at, t["text"], start // 4, 1)
            out = task.predict(params)(x | {"text": both}, t | {"text": at})
            return Named(text=jax.lax.dynamic_slice_in_dim(out["text"], start, 4, 1))

        return guided(plain, x, branches, task.guide, task.processes)

    return BlockNetwork(
        others=lambda: jnp.zeros((COUNT, LENGTH, 1), jnp.int32),
        predict=predict,
        keep=lambda kept, x_0, start: jax.lax.dynamic_update_slice_in_dim(kept, x_0, start, 1),
        with_room=lambda kept, room, more: kept,
    )


def test_sampling_with_a_cache_gives_the_codes_of_the_whole_network(text):
    """Guided: given label, hidden in the branch. The other network has no cache."""
    task = beside()
    params, frozen = mild(task), task.frozen_like()
    hidden = Named(label=jnp.asarray(True), style=jnp.asarray(True), text=jnp.asarray(False))
    branch = Branch(hidden, Named(label=jnp.float32(1.0), text=jnp.float32(2.0)))
    given = {
        "label": jnp.arange(COUNT, dtype=jnp.int32),
        "style": jnp.asarray([0, 1, 2, -1], jnp.int32),
    }
    asked = request(task, text, known=("label",), **given)._replace(branches=(branch,))
    found = jax.jit(lambda p: task.trajectory(p, frozen, keys(), asked)[0])(params)
    np.testing.assert_array_equal(found["label"][:, 0, 0], given["label"])

    @jax.jit
    def other(params):
        x = task.start(frozen, keys(), asked)
        unknown = task._unknown(streams(keys(), "hidden"), asked)
        t = {"label": jnp.zeros(3), "style": jnp.zeros(3), "text": jnp.linspace(1.0, 0.0, 3)}
        network = uncached(
            task, params, unknown | {"text": unknown["text"][:, :4]}, None, (branch,)
        )
        each = "text", task.targets["text"].sampler, task.process("text"), x, Named(t), 4
        return generate_blocks(keys(), network, *each, end=0)

    np.testing.assert_array_equal(found["text"], other(params))
    assert len(np.unique(found["text"])) > 8


def test_what_is_wanted_beside_a_text_comes_first_and_guides_it(text):
    """Both are generated; the text is that which the generated label alone gives."""
    task = beside()
    params, frozen = mild(task), task.frozen_like()
    given = {"label": jnp.zeros(COUNT, jnp.int32), "style": jnp.full(COUNT, -1, jnp.int32)}
    run = jax.jit(lambda p, r: task.sample(p, frozen, keys(), r))
    both = run(params, request(task, text, wanted=("label", "text"), **given))
    again = request(task, text, known=("label",), **(given | {"label": both["label"]}))
    np.testing.assert_array_equal(run(params, again)["text"], both["text"])
    other = request(task, text, known=("label",), **(given | {"label": (both["label"] + 1) % 4}))
    score = jax.jit(lambda p, r: task.scoring_loss(p, frozen, keys(), r, "text", rounds=2))
    difference = score(params, other) - score(params, again)
    assert (np.abs(difference) > 1e-3).all()  # the text depends on the label
    labels = request(task, text, known=("text",), wanted=("label",), **given)
    np.testing.assert_array_equal(run(params, labels)["text"], text)


def test_an_explanation_is_refused_before_anything_is_generated(monkeypatch, tmp_path, capsys):
    model, message = joint.generator(alone(4)), "'text' is generated block by block, and such"
    with pytest.raises(ValueError, match=message):
        explain(model, 1)
    monkeypatch.setattr(given, "load_generator", lambda workdir: model)
    options = ["sample", "--workdir=any", "--explain", f"--out={tmp_path / 'out'}"]
    assert main(options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_training_draws_a_time_for_each_block(text):
    """Known and unknown texts stay so; the times of two blocks of the others are independent."""
    count, index = 512, jnp.arange(512)
    t = jnp.where(index % 4 == 0, 0.0, jnp.where(index % 4 == 1, 1.0, 0.5))[:, None]
    own = blockwise.own_times(jax.random.key(0), t, target(4).time, index, count, (2, 4))
    assert own.shape == (count, 8)
    first, second = np.asarray(own[:, 0]), np.asarray(own[:, 4])
    np.testing.assert_array_equal(own, np.stack([first] * 4 + [second] * 4, axis=1))
    assert (own[::4] == 0.0).all() and (own[1::4] == 1.0).all()
    drawn = (index % 4) > 1
    for each in (first, second):
        np.testing.assert_allclose(
            np.quantile(each[drawn], [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.02
        )
    assert abs((first - second)[drawn]).std() > 0.1


def test_loss_and_evaluation_beside_other_modalities(text):
    task = beside()
    params, frozen = joint.randomized(task), task.frozen_like()
    data = batch(text, label=jnp.arange(COUNT, dtype=jnp.int32), style=jnp.zeros(COUNT, jnp.int32))

    @jax.jit
    def both(params):
        each = {}, frozen, data, jax.random.key(1)
        loss = jax.value_and_grad(lambda p: task.loss(p, *each, jnp.asarray(0))[0])(params)
        return loss, task.evaluate(params, *each)

    (loss, gradient), metrics = both(params)
    assert np.isfinite(loss) and set(metrics) == {"loss_label", "loss_text"}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"block": -1}, "block >= 0, got -1"),
        (
            {"process": Flow(), "sampler": Euler()},
            "needs a process over codes for block=4, got Flow",
        ),
        (
            {"modality": Text(length=8, variable=True)},
            "block=4 needs a modality of fixed length, .* variable=False",
        ),
    ],
)
def test_what_cannot_have_blocks_is_refused(fields, message):
    kind = vqdit.tasks.Target if "process" in fields else CodeTarget
    with pytest.raises(ValueError, match=message):
        kind(**{"block": 4, **fields})


@pytest.mark.slow
def test_a_trained_model_has_previews_samples_and_scores(tmp_path):
    tiny.run(tiny.tokenizer(), tmp_path / "tokenizer")
    folder = tmp_path / "blocks"
    tiny.run(tiny.block_generator(preview_every=3), folder, tokenizer=tmp_path / "tokenizer")
    assert list(folder.rglob("*.png"))
    model = vqdit.load(folder)
    samples = model.sample(3, guidance=2.0, seed=1)
    assert samples["image"].shape == (3, 8, 8, 1)
    np.testing.assert_array_equal(
        model.sample(2, guidance=2.0, seed=1)["image"], samples["image"][:2]
    )
    scores = model.score({"label": [1, 2]}, {"image": samples["image"]}, rounds=2)
    assert scores.shape == (2, 3) and np.isfinite(scores).all()
