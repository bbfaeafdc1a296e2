"""The reference scale compiles for a TPU pod slice, sharded, and fits its memory.

The TPU compiler needs no TPU: `pip install libtpu` brings it. It runs in a process of its own.
"""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason="the TPU compiler, libtpu, is missing"
    ),
]

PROGRAM = """
import dataclasses, functools, json, sys
import jax, jax.numpy as jnp
from jax.experimental import topologies
from vqdit import config, sharding
from vqdit.data import Batch
from vqdit.tasks import DiffusionTask
from vqdit.train import state as states
from vqdit.train.step import train_step
from vqdit.typing import Named

name, topology, fsdp = sys.argv[1], sys.argv[2], int(sys.argv[3])
_, experiment = config.load(name)
_, tokenizer = config.load("image/imagenet256_vqvae")
task = experiment.task
if isinstance(task, DiffusionTask):
    task = dataclasses.replace(task, tokenizers=Named(image=tokenizer.task))
devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
mesh = dataclasses.replace(experiment.mesh, fsdp=fsdp).build(list(devices))

def like(tree, sharding):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), jax.eval_shape(tree)
    )

def batch():
    b = experiment.data.batch_size
    data = {"image": jnp.zeros((b, 256, 256, 3), jnp.uint8), "label": jnp.zeros(b, jnp.int32)}
    present = {name: jnp.ones(b, bool) for name in data}
    return Batch(Named(data), Named(present), Named(), jnp.arange(b), jnp.ones(b, bool))

frozen = like(task.frozen_like, sharding.replicated(mesh))
batch = like(batch, sharding.over_batch(mesh))
optimizer = experiment.optimizer.build(experiment.steps)
create = functools.partial(states.create, task, optimizer, experiment.averaging)
state = sharding.abstract(create, mesh, frozen, batch, jax.eval_shape(lambda: jax.random.key(0)))
step = functools.partial(train_step, task, optimizer, experiment.averaging)
step = sharding.compile_step(step, state)
compiled = step.lower(state, frozen, batch).compile()
memory, text = compiled.memory_analysis(), compiled.as_text()
total = memory.argument_size_in_bytes + memory.temp_size_in_bytes
total += memory.output_size_in_bytes - memory.alias_size_in_bytes
kinds = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all")
print(json.dumps({
    "devices": len(devices), "gigabytes": total / 1e9,
    "state": memory.argument_size_in_bytes / 1e9,
    **{kind: f" {kind}(" in text or f" {kind}-start(" in text for kind in kinds},
}))
"""


def compile_for_tpu(name, topology, fsdp):
    environment = {"TPU_SKIP_MDS_QUERY": "1", "JAX_PLATFORMS": "cpu"}
    program = [sys.executable, "-c", PROGRAM, name, topology, str(fsdp)]
    out = subprocess.run(
        program, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert out.returncode == 0, out.stderr[-2000:]
    return json.loads(out.stdout.splitlines()[-1])


def test_dit_xl2_compiles_for_32_chips_of_tpu_v5e_and_fits():
    found = compile_for_tpu("image/imagenet256_dit_xl2", "v5e:4x8", fsdp=8)
    print(found)
    assert found["devices"] == 32
    assert found["gigabytes"] < 16.0
    assert found["all-gather"]  # parameters are gathered from their shards
