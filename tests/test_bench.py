"""`vqdit bench`: FLOPs are the published ones, and the record says what was measured."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest

from vqdit.cli.main import call
from vqdit.models import DiT
from vqdit.nn.attention import chosen
from vqdit.profiling.benchmark import Latents, forward_flops
from vqdit.profiling.flops import count_flops, model_flops

PUBLISHED = {"S/2": 6.06, "B/2": 23.01, "L/2": 80.71, "XL/2": 118.64, "XL/8": 7.39}
"""Of Peebles & Xie, arXiv:2212.09748, table 4: 10^9 multiplications, each with its addition."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_flops_are_the_published_ones(name):
    found = forward_flops(Latents(model=DiT.named(name)))
    assert found / 2e9 == pytest.approx(PUBLISHED[name], rel=2e-3)


def test_flops_are_those_of_every_product_as_often_as_it_runs():
    def function(x, w):
        def step(x, _):
            return jax.lax.cond(x[0, 0] > 0, lambda x: x @ w @ w, lambda x: x @ w, x), None

        x, _ = jax.lax.scan(jax.checkpoint(step), x, length=3)
        return jnp.einsum("i j, k j -> i k", x, x)

    jaxpr = jax.make_jaxpr(jax.jit(function))(jnp.ones((4, 5)), jnp.ones((5, 5)))
    assert count_flops(jaxpr.jaxpr) == 3 * 2 * (2 * 4 * 5 * 5) + 2 * 4 * 5 * 4


@pytest.mark.slow
@pytest.mark.parametrize("what", ["training", "sampling"])
def test_the_record_says_what_was_measured(what, capsys):
    argv = ["--model=S/8", "--batch=8", "--steps=2", "--size=8"]
    assert call("bench", [*argv, "--sample"] if what == "sampling" else argv) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["model"], found["what"], found["batch"]) == ("S/8", what, 8)
    calls = 1 if what == "training" else 2  # steps of one sample
    assert found["images_s"] == pytest.approx(8e3 / (calls * found["step_ms"]))
    forward = forward_flops(Latents(model=DiT.named("S/8"), size=8)) / 1e9
    per_image = {"training": 3, "sampling": 2 * 2}[what]
    assert found["gflops_image"] == pytest.approx(per_image * forward)
    assert found["memory_gb"] > 0.0 and found["compile_s"] > 0.0
    assert found["mfu"] is None and found["device"] == "cpu"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--batch=8"], "--model is missing"),
        (["--model=S/2"], "--batch is missing"),
        (["--model=S/2", "--batch=0"], "--batch must be at least 1, got 0"),
        (
            ["--model=S/2", "--batch=1", "--guidance=2"],
            "for sampling: add --sample",
        ),
        (["--model=M/2", "--batch=8"], "unknown DiT 'M/2'; use one of the sizes S, B, L, XL"),
        (["--model=S/2", "--batch=8", "--steps=0"], "--steps must be at least 1, got 0"),
        (
            ["--model=S/2", "--batch=8", "--dtype=fp8"],
            "--dtype must be one of bfloat16",
        ),
        (
            ["--model=S/2", "--batch=8", "--remat=some"],
            "--remat must be one of nothing",
        ),
        (["--model=S/2", "--batch=8", "--size=33"], "is not divisible by the DiT's patch 2"),
    ],
)
def test_bad_options_are_named(argv, message):
    with pytest.raises(ValueError, match=message):
        call("bench", argv)


def test_what_is_computed_again_or_by_kernels_is_no_model_flop():
    """Gradients of a network of products cost two forward passes, whatever is kept of them."""
    task = Latents(model=DiT(dim=32, depth=8, heads=2, patch=2), size=8)
    forward = forward_flops(task)
    assert chosen("counted", jnp.dtype("bfloat16"), (256, 256), 64) == "xla"

    def flops(remat):
        changed = dataclasses.replace(task, model=dataclasses.replace(task.model, remat=remat))
        batch = changed.batch(1)
        params = jax.eval_shape(lambda: changed.init(jax.random.key(0), {}, batch)[0])
        gradient = jax.grad(
            lambda p: changed.loss(p, {}, {}, batch, jax.random.key(0), jnp.zeros((), int))[0]
        )
        return model_flops(gradient, params)

    assert flops(False) == flops(True) == flops("dots")
    # The first products need no gradient of their inputs.
    assert 2.9 * forward < flops(False) < 3 * forward
