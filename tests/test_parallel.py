"""A training step over several devices: the same mathematics, and the exchanges that it needs."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import scaling
from vqdit import parallel
from vqdit.models import DiT
from vqdit.optim import AdamW
from vqdit.optim.ema import Averaging
from vqdit.parallel import Mesh, layout
from vqdit.profiling import compiled_program
from vqdit.profiling.benchmark import Latents
from vqdit.train import state as states
from vqdit.train.step import train_step

TASK = Latents(model=DiT(depth=13, dim=64, heads=4, patch=2), size=8)
MESHES = [Mesh(), Mesh(fsdp=8), Mesh(data=2, fsdp=4), Mesh(tensor=4), Mesh(fsdp=2, tensor=2)]


def compiled(task, mesh, monkeypatch, batch=16):
    """The step on a mesh, its state and its batch; nothing is too small to be divided."""
    monkeypatch.setattr(layout, "SMALL", 2**9)
    optimizer, averaging = AdamW(learning_rate=1e-3).build(10), Averaging(decay=0.9)
    examples = parallel.put_batch(task.batch(batch), mesh)
    create = functools.partial(states.create, task, optimizer, averaging)
    state = parallel.create(create, mesh, {}, examples, jax.random.key(0))
    step = parallel.compile_step(functools.partial(train_step, task, optimizer, averaging), state)
    return step.lower(state, {}, examples).compile(), state, examples


def steps(run, state, examples, count=3):
    losses = []
    for _ in range(count):
        state, metrics = run(state, {}, examples)
        losses.append(float(metrics["loss"]))
    return parallel.host(state.params), losses


@pytest.fixture(scope="module")
def alone():
    with pytest.MonkeyPatch.context() as patch:
        mesh = Mesh().build(jax.devices()[:1])
        return steps(*compiled(TASK, mesh, patch))


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_every_mesh_trains_as_one_device_does(mesh, alone, monkeypatch):
    run, state, examples = compiled(TASK, mesh.build(jax.devices()), monkeypatch)
    params, losses = steps(run, state, examples)
    np.testing.assert_allclose(losses, alone[1], rtol=1e-5)
    chex.assert_trees_all_close(params, alone[0], atol=2e-4)


@pytest.mark.slow
def test_swiglu_is_divided_too(monkeypatch):
    task = dataclasses.replace(TASK, model=dataclasses.replace(TASK.model, mlp="swiglu"))
    one = steps(*compiled(task, Mesh().build(jax.devices()[:1]), monkeypatch))
    many = steps(*compiled(task, Mesh(fsdp=2, tensor=4).build(jax.devices()), monkeypatch))
    np.testing.assert_allclose(many[1], one[1], rtol=1e-5)


def test_fsdp_divides_the_state_and_gathers_one_weight_at_a_time(monkeypatch):
    mesh = Mesh(fsdp=8).build(jax.devices())
    run, state, _ = compiled(TASK, mesh, monkeypatch, batch=56)
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(state) if leaf.dtype == jnp.float32)
    own = sum(
        leaf.addressable_shards[0].data.nbytes
        for leaf in jax.tree.leaves(state)
        if leaf.dtype == jnp.float32
    )
    assert own <= whole / 6
    largest = max(leaf.nbytes for leaf in jax.tree.leaves(state.params))
    exchanges = compiled_program.Program(run.as_text()).exchanges()
    gathered = [size for kind, size, _ in exchanges if kind == "all-gather"]
    assert gathered and max(gathered) < largest  # of a layer's, not of all layers'
    tokens = 56 * 16 * 64 * 4  # of the whole batch, once or several times
    assert not any(size % tokens == 0 for size in gathered)


def test_data_parallelism_exchanges_gradients_alone(monkeypatch):
    run, state, _ = compiled(TASK, Mesh().build(jax.devices()), monkeypatch)
    found = compiled_program.Program(run.as_text()).collectives()
    assert set(found) == {"all-reduce"}
    parameters = sum(leaf.nbytes for leaf in jax.tree.leaves(state.params))
    assert found["all-reduce"].bytes == pytest.approx(parameters, rel=0.05)


def test_tensor_parallelism_keeps_hidden_channels_apart(monkeypatch):
    mesh = Mesh(data=1, tensor=8).build(jax.devices())
    task = dataclasses.replace(TASK, model=dataclasses.replace(TASK.model, heads=8))
    run, state, _ = compiled(task, mesh, monkeypatch)
    blocks = state.params["blocks"]
    assert blocks["mlp_in"]["kernel"].sharding.spec[-1] == "tensor"
    assert blocks["mlp_out"]["kernel"].sharding.spec[-2] == "tensor"
    text = run.as_text()
    assert "f32[16,16,32]" in text  # an eighth of the hidden channels of all tokens
    assert "f32[16,16,256]" not in text  # never all of them


@pytest.mark.slow
def test_exchanges_grow_as_the_theory_says(monkeypatch):
    """Weak scaling: the table of docs/scaling.md."""
    monkeypatch.setattr(layout, "SMALL", 2**9)
    table = {(row["axis"], row["devices"]): row for row in scaling.rows()}
    for axis in scaling.AXES:
        assert not set(table[axis, 1]) & set(compiled_program.KINDS)
    for count in (2, 4, 8):
        data, fsdp, tensor = (table[axis, count] for axis in scaling.AXES)
        assert data["all-reduce"].bytes == pytest.approx(data["parameters"], rel=0.01)
        assert 1.6 < fsdp["all-gather"].bytes / fsdp["parameters"] < 2.0
        assert fsdp["all-reduce"].bytes < data["all-reduce"].bytes
        for row, axis in ((fsdp, "fsdp"), (tensor, "tensor")):
            for kind in ("all-gather", "all-reduce"):
                assert row[kind].bytes == pytest.approx(table[axis, 2][kind].bytes, rel=0.02)
