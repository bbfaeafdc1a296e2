"""What is read off a program is what it does."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from vqdit.parallel import Mesh
from vqdit.profiling import compiled_program

SIDE, TIMES = 128, 10


def test_traffic_counts_the_body_of_a_loop_as_often_as_it_runs():
    """Each round reads a matrix of the stack and the vectors, and writes the vectors."""

    def function(stack, x):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, stack)[0]

    shapes = jnp.ones((TIMES, SIDE, SIDE)), jnp.ones((SIDE, SIDE))
    program = compiled_program.Program(jax.jit(function).lower(*shapes).compile().as_text())
    array = 4 * SIDE * SIDE
    # A slice, a product and a tanh: up to seven arrays; the whole stack would be ten at once.
    assert 3 * TIMES * array <= program.traffic() <= 8 * TIMES * array


def test_an_update_in_place_moves_its_part():
    def function(total, rows):
        def put(total, at):
            return jax.lax.dynamic_update_slice(total, 2.0 * rows, (at, 0)), None

        return jax.lax.scan(put, total, jnp.arange(TIMES))[0]

    arguments = jnp.zeros((4096, SIDE)), jnp.ones((1, SIDE))
    compiled = jax.jit(function, donate_argnums=0).lower(*arguments).compile()
    assert compiled_program.Program(compiled.as_text()).traffic() < 4 * 4096 * SIDE


def test_collectives_count_with_their_loop():
    mesh = Mesh(fsdp=8).build(jax.devices())
    split = jax.sharding.NamedSharding(mesh, PartitionSpec(None, None, "fsdp"))
    whole = jax.sharding.NamedSharding(mesh, PartitionSpec())

    def function(stack, x):
        def layer(x, w):
            return x @ jax.lax.with_sharding_constraint(w, whole), None

        return jax.lax.scan(layer, x, stack)[0]

    stack = jax.device_put(jnp.ones((TIMES, SIDE, SIDE)), split)
    x = jax.device_put(jnp.ones((8, SIDE)), whole)
    program = compiled_program.Program(jax.jit(function).lower(stack, x).compile().as_text())
    (kind, one) = next(iter(program.collectives().items()))
    assert kind == "all-gather" and len(program.collectives()) == 1
    assert one.bytes == TIMES * SIDE * SIDE * 4
    assert one.times in (1, TIMES)  # of each layer, or of all before the loop


@pytest.mark.parametrize(
    ("line", "kind", "size"),
    [
        ("%a = f32[8,16]{1,0} all-gather(%p), dimensions={0}", "all-gather", 512),
        ("%a = (bf16[1,16], bf16[8,16]) all-gather-start(%p)", "all-gather", 256),
        ("%a = (f32[4], f32[2]) all-reduce(%p, %q), to_apply=%add", "all-reduce", 24),
    ],
)
def test_results_are_what_a_device_gets(line, kind, size):
    text = f"ENTRY %main (p: f32[1,16]) -> f32[8,16] {{\n  {line}\n}}\n"
    assert compiled_program.Program(text).exchanges() == [(kind, size, 1)]


def test_a_loop_whose_number_is_not_written_runs_as_often_as_its_condition_says():
    text = """
%body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %r = f32[4] all-reduce(%x), to_apply=%add
}

%condition (p: (s32[], f32[4])) -> pred[] {
  %c = s32[]{:T(128)} constant(28)
  ROOT %l = pred[] compare(%i, %c), direction=LT
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %w = (s32[], f32[4]) while(%t), condition=%condition, body=%body
}
"""
    found = compiled_program.Program(text).collectives()
    assert found == {"all-reduce": compiled_program.Collective(28, 28 * 16)}
