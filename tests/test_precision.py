"""Parts that are used in a program with 64-bit numbers compute with 32 bits all the same."""

import jax
import jax.numpy as jnp
import pytest

from tests.processes import test_contract as processes
from tests.quantizers import test_contract as quantizers
from tests.samplers import test_contract as samplers
from vqdit.losses import Mel, huber, l1
from vqdit.typing import Named


def kinds(function):
    """The types of all arrays that a function returns when 64 bits are allowed; nothing runs."""
    with jax.enable_x64(True):
        return {str(leaf.dtype) for leaf in jax.tree.leaves(jax.eval_shape(function))}


def data(process, batch, length):
    if process.is_discrete:
        return jnp.zeros((batch, length, 1), jnp.int32), (samplers.CODES,)
    return jnp.zeros((batch, length, 3), jnp.float32), (3,)


@pytest.mark.parametrize("quantizer", quantizers.TABLE)
def test_quantizers(quantizer):
    def use():
        keys = [jax.random.key(number) for number in range(5)]
        z = jnp.zeros((4, 3, 5, quantizer.dim), jnp.float32)
        mask = jnp.ones((4, 3, 5), bool)
        params, stats = quantizer.init(keys[0])
        of_data = quantizer.init(keys[1], z), quantizer.init(keys[2], z, mask)
        found = quantizer.quantize(params, stats, z, key=keys[3], step=jnp.int32(4), mask=mask)
        next_ones = quantizer.update(
            params, stats, z, found.codes, keys[4], jnp.int32(4), mask=mask
        )
        gradient = jax.grad(lambda z: quantizer.quantize(params, stats, z)[0].sum())(z)
        vectors = quantizer.lookup(params, stats, quantizer.encode(params, stats, z))
        return params, stats, of_data, tuple(found), next_ones, gradient, vectors

    assert kinds(use) <= {"float32", "int32"}


@pytest.mark.parametrize("process", processes.TABLE)
def test_processes(process):
    def use():
        keys, others = processes.keys(), processes.keys(1)
        t = jnp.full((len(keys), 1), 0.5, jnp.float32)
        x_0, space = data(process, len(keys), 5)
        bound = process.bind(space)
        x_t, noise = bound.noise(keys, x_0, t)
        oracle = bound.oracle(x_0, x_t, noise, t, space)
        losses = bound.loss(oracle, x_0, x_t, noise, t)
        scores = bound.scoring_loss(oracle, x_0, x_t, noise, t)
        inputs = tuple(bound.network_input(x_t, t))
        return x_t, noise, oracle, losses, scores, inputs, bound.prior(others, x_0.shape[1:])

    assert kinds(use) <= {"float32", "int32"}


@pytest.mark.parametrize(("sampler", "process"), samplers.TABLE)
def test_samplers(sampler, process):
    def use():
        x_0, space = data(process, samplers.BATCH, samplers.LENGTH)
        shape = samplers.BATCH, samplers.LENGTH, process.width(space)
        x_1 = process.prior(samplers.keys(1), x_0.shape[1:])
        times = Named(a=jnp.linspace(1.0, 0.0, sampler.steps + 1, dtype=jnp.float32))
        return samplers.generate(
            samplers.keys(),
            lambda x, t: Named(a=jnp.zeros(shape, jnp.float32)),
            Named(a=sampler),
            Named(a=process),
            Named(a=x_1),
            times,
        )

    assert kinds(use) <= {"float32", "int32"}


@pytest.mark.parametrize("masked", [False, True])
def test_losses(masked):
    def use():
        x = jnp.zeros((2, 4000, 1), jnp.float32)
        mask = jnp.ones((2, 4000), bool) if masked else None
        return Mel(rate=8000).distance({}, x, x, mask), l1(x, x, mask), huber(x, x, mask)

    assert kinds(use) == {"float32"}
