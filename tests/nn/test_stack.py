import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from vqdit.nn import stack
from vqdit.nn.dense import Dense, Projections
from vqdit.parallel.target_platform import Platform


def test_deep_stacks_are_scanned_but_on_a_gpu(monkeypatch):
    assert [stack.unroll(depth) for depth in (1, stack.SHALLOW, 28)] == [1, stack.SHALLOW, 1]
    monkeypatch.setattr(stack, "platform", lambda: Platform("cuda"))
    assert stack.unroll(28) == 28


class Wide(nn.Module):
    """Whose hidden layer is sixteen times its input."""

    @nn.compact
    def __call__(self, x):
        h = jnp.tanh(Dense(16 * x.shape[-1], "float32", name="up")(x))
        return x + Dense(x.shape[-1], "float32", name="down")(h), None


@pytest.mark.parametrize("depth", [4, 12])  # unrolled without, and scanned
def test_rematerialisation_keeps_less(depth):
    x = jnp.ones((64, 32))

    def planned(remat):
        blocks = nn.scan(
            stack.rematerialized(Wide, remat),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=depth,
            unroll=stack.unroll(depth, remat),
        )()
        params = jax.eval_shape(lambda: blocks.init(jax.random.key(0), x))
        gradient = jax.jit(jax.grad(lambda p: jnp.sum(blocks.apply(p, x)[0] ** 2)))
        return gradient.lower(params).compile().memory_analysis().temp_size_in_bytes

    hidden = 4 * 64 * 16 * 32  # bytes of one block's
    assert planned(False) - planned(True) > (depth - 2) * hidden
    assert planned(True) < planned("dots")


def test_projections_are_one_wide_product():
    x = jax.random.normal(jax.random.key(0), (2, 3, 4))
    module = Projections(3, 5, "float32")
    params = module.init(jax.random.key(1), x)
    wide = Dense(15, "float32")
    together = wide.apply(params, x)
    for number, part in enumerate(module.apply(params, x)):
        assert jnp.allclose(part, together[..., 5 * number : 5 * number + 5], atol=1e-6)
    assert jax.tree.structure(params) == jax.tree.structure(wide.init(jax.random.key(1), x))
