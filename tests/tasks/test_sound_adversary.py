"""Sounds against discriminators of several networks, with balanced losses, in the train step."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from vqdit.losses import Balance, Distillation, Mel
from vqdit.losses.adversarial import feature_matching, generator_loss
from vqdit.models import MultiPeriod, PatchGAN
from vqdit.models.features import Features
from vqdit.quantizers import RVQ, VQ
from vqdit.random import stream
from vqdit.tasks import Adversary

QUICK = {"xla_backend_optimization_level": 0}
JUDGE = MultiPeriod(channels=2, periods=(2, 3))


def task(**fields):
    plain = tiny.audio_tokenizer().task
    defaults = {
        "quantizer": dataclasses.replace(plain.quantizer, start=0),
        "perceptual": (Mel(rate=8000, windows=(64,), weight=2.0),),
        "adversary": Adversary(discriminator=JUDGE, matching=3.0, weight=0.5, loss="least_squares"),
        "balance": Balance(decay=0.5),
    }
    return dataclasses.replace(plain, **{**defaults, **fields})


@pytest.fixture(scope="module")
def batch():
    return jax.tree.map(jnp.asarray, tiny.audio_tokenizer().data.first_batch(0))


def test_the_decoder_gets_the_balanced_gradients_of_all_losses(batch):
    ours, key, step = task(), jax.random.key(1), jnp.int32(2)
    params, stats = jax.jit(ours.init, compiler_options=QUICK)(jax.random.key(0), {}, batch)
    params = jax.tree.map(lambda leaf: leaf + 0.02, params)

    def run(params, stats):
        (loss, aux), gradient = jax.value_and_grad(ours.loss, has_aux=True)(
            params, stats, {"mel": {}}, batch, key, step
        )
        x = ours.modality.standardize(jnp.asarray(batch.data["audio"]))
        h = ours.model.encode(params, x, 4)
        z = ours.quantizer.quantize(
            params["quantizer"], stats["bottleneck"], h, key=stream(key, "quantize"), step=step
        ).z_q

        def losses(y):
            fakes, reals = (JUDGE.judge(params["discriminator"], data) for data in (y, x))
            pairs = zip(reals, fakes, strict=True)
            matching = [feature_matching(one.features, two.features) for one, two in pairs]
            return {
                "reconstruction": jnp.mean((x - y) ** 2),
                "mel": jnp.mean(ours.perceptual[0].distance({}, x, y)),
                "generator": jnp.mean(
                    jnp.stack([generator_loss("least_squares", fake.logits) for fake in fakes])
                ),
                "matching": jnp.mean(jnp.stack(matching)),
            }

        y, back = jax.vjp(
            lambda p: ours.model.decode({**params, "decoder": p}, z, 1), params["decoder"]
        )
        gradients = jax.jacrev(losses)(y)
        weights = {"reconstruction": 1.0, "mel": 2.0, "generator": 0.5, "matching": 3.0}
        norms = {
            name: jnp.mean(jnp.sqrt(jnp.sum(gradients[name] ** 2, axis=(1, 2)))) for name in weights
        }
        total = sum(w / 6.5 * gradients[name] / norms[name] for name, w in weights.items())
        return gradient["decoder"], back(total)[0], aux, norms, losses(y), gradient["discriminator"]

    found, expected, aux, norms, values, judge = jax.jit(run, compiler_options=QUICK)(params, stats)
    chex.assert_trees_all_close(found, expected, rtol=1e-3, atol=1e-5)
    for name, value in values.items():
        assert float(aux.metrics[name]) == pytest.approx(float(value), rel=1e-4)
    shares = {name: float(aux.metrics[f"gradient_share_{name}"]) for name in values}
    assert sum(shares.values()) == pytest.approx(1.0, rel=1e-4)
    assert max(map(float, map(jnp.max, map(jnp.abs, jax.tree.leaves(judge))))) > 0
    _, new = ours.update(params, stats, aux.update, key, step)
    assert set(new) == {"bottleneck", "adversary", "balance"}
    for name, norm in norms.items():
        assert float(new["balance"].total[name]) == pytest.approx(float(norm), rel=1e-4)


def test_features_are_compared_relative_to_their_size_at_real_positions():
    drawn = np.random.default_rng(0)
    first, second = jnp.asarray(drawn.normal(size=(2, 2, 6, 3, 4)), jnp.float32)
    mask = jnp.arange(6) < jnp.asarray([6, 4])[:, None]
    other = jnp.asarray(drawn.normal(size=(2, 5, 2)), jnp.float32)
    found = feature_matching([(first, mask), (other, None)], [(second, mask), (2 * other, None)])
    for row, length in enumerate((6, 4)):
        a, b = np.asarray(first[row, :length]), np.asarray(second[row, :length])
        expected = (np.abs(a - b).mean() / np.abs(a).mean() + 1.0) / 2
        assert float(found[row]) == pytest.approx(expected, rel=1e-5)


def test_a_run_without_balance_or_adversary_starts_one_with_both(batch):
    """And the other way; what is new starts fresh."""
    both = task()
    abstract = jax.eval_shape(both.init, jax.random.key(0), {}, batch)
    params, stats = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract)
    asked = []

    def load(params, stats):
        asked.append((set(params), set(stats) if isinstance(stats, dict) else stats))
        return jax.tree.map(lambda leaf: leaf + 1, (params, stats))

    for source in (task(adversary=None, balance=None), task(balance=None), task(adversary=None)):
        found, new = both.warm_start(source, params, stats, load)
        assert set(found) == set(params) and set(new) == set(stats)
        assert float(jax.tree.leaves(found["encoder"])[0].max()) == 1.0
        assert float(jax.tree.leaves(new["balance"])[0]) == 0.0
        has = source.adversary is not None
        assert float(jax.tree.leaves(found["discriminator"])[0].max()) == float(has)
    bare = task(adversary=None, balance=None)
    found, new = bare.warm_start(both, params, stats["bottleneck"], load)
    assert asked[-1][1] == {"bottleneck"}
    assert jax.tree.structure(new) == jax.tree.structure(stats["bottleneck"])
    assert both.without_training.balance is None
    found, new = both.warm_start(both, params, stats, load)
    assert asked[-1] == (set(params), {"bottleneck", "adversary", "balance"})


class Loudness(Features):
    """Two features of every 40 samples: their mean, and a parameter times their mean square."""

    def load(self):
        return {"scale": np.asarray([3.0], np.float32)}

    def like(self):
        return {"scale": jnp.zeros(1)}

    def apply(self, params, x):
        parts = x.reshape(len(x), -1, 40)
        square = params["scale"] * jnp.mean(parts**2, axis=-1)
        return [parts, jnp.stack([jnp.mean(parts, axis=-1), square], axis=-1)]


def nowhere(reference):
    raise AssertionError(f"no run is needed, asked for {reference}")


def test_the_first_codes_learn_what_a_frozen_network_knows(batch):
    ours = task(
        adversary=None,
        balance=None,
        quantizer=RVQ(quantizer=VQ(codebook_size=8, dim=4, start=0), depth=3),
        distillation=Distillation(teacher=Loudness(), weight=2.0),
    )
    ours, frozen = ours.load(nowhere, list)
    key, step = jax.random.key(1), jnp.int32(2)
    create = jax.jit(ours.init, compiler_options=QUICK)
    params, stats = create(jax.random.key(0), frozen, batch)
    assert params["distillation"]["kernel"].shape == (4, 2)

    def run(params):
        (loss, aux), gradient = jax.value_and_grad(ours.loss, has_aux=True)(
            params, stats, frozen, batch, key, step
        )
        x = ours.input(batch.data["audio"])
        h, codes, _ = aux.update[0]
        first = ours.quantizer.quantizer.lookup(params["quantizer"][0], stats[0], codes[..., :1])
        features = Loudness().apply(frozen["distillation"], x)[-1]
        return loss, aux.metrics, gradient, first, features

    loss, metrics, gradient, first, features = jax.jit(run, compiler_options=QUICK)(params)
    seen = np.asarray(features).reshape(32, 5, 4, 2)
    # Linear resizing to a quarter with antialiasing is a triangle of eight, cut off at the ends.
    rows = np.asarray([max(0.0, 1 - abs(n - 9.5) / 4) for n in range(20)])
    middle = np.einsum("n,bnc->bc", rows / rows.sum(), seen.reshape(32, 20, 2))
    projected = np.asarray(first @ params["distillation"]["kernel"])[:, 2]
    cosine = np.sum(projected * middle, axis=-1)
    cosine /= np.linalg.norm(projected, axis=-1) * np.linalg.norm(middle, axis=-1)
    one = ours.distillation.loss(
        params["distillation"], frozen["distillation"], ours.input(batch.data["audio"]), first,
        jnp.arange(5) == jnp.full((32, 1), 2),
    )  # fmt: skip
    np.testing.assert_allclose(one, 1.0 - cosine, atol=1e-4)
    parts = metrics["reconstruction"] + 2.0 * metrics["mel"] + 0.25 * metrics["commitment"]
    expected = float(parts + 2.0 * metrics["distillation"])
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert float(jnp.abs(gradient["distillation"]["kernel"]).max()) > 0
    bare, kept, _ = ours.for_inference(params, stats)
    assert bare.distillation is None and set(kept) == {"encoder", "decoder", "quantizer"}


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match="has a balance and an adaptive adversary"):
        task(adversary=Adversary(discriminator=JUDGE, adaptive=True))
    with pytest.raises(ValueError, match="PatchGAN has no features for matching; use matching=0"):
        Adversary(discriminator=PatchGAN(), matching=1.0)
