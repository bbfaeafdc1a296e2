"""The codebook is one, however many devices and processes share the batch or the codes."""

import re
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from vqdit.parallel import Mesh, over_batch, replicated
from vqdit.quantizers import IBQ, RVQ, VQ, SimVQ
from vqdit.runs.checkpoint_retention import Keep
from vqdit.runs.checkpoints import Checkpoints

STEPS = 50
MOVES = r"= \S+?\[([\d,]+)\]\S* (all-gather|all-to-all|collective-permute)"
"""What an instruction that moves arrays between devices looks like, and the array's shape."""
TRAINED = {
    "ema": VQ(codebook_size=32, dim=4, start=5, revive_below=0.3, decay=0.9),
    "cosine": VQ(codebook_size=32, dim=4, distance="cosine", decay=0.9),
    "residual": RVQ(quantizer=VQ(codebook_size=16, dim=4, start=5, decay=0.9), depth=2),
}


def run(quantizer, layout, steps=STEPS):
    """Returns the state after that many steps on batches that are laid out so."""

    @jax.jit
    def step(params, stats, number):
        key = jax.random.fold_in(jax.random.key(0), number)
        z = jax.random.normal(jax.random.fold_in(key, 1), (64, 4, 4)) + jnp.sin(number / 9.0)
        z = jax.lax.with_sharding_constraint(z, layout)
        codes = quantizer.quantize(params, stats, z, step=number).codes
        return quantizer.update(params, stats, z, codes, jax.random.fold_in(key, 2), number)

    params, stats = quantizer.init(jax.random.key(7))
    for number in range(steps):
        params, stats = step(params, stats, jnp.int32(number))
    return jax.tree.map(np.asarray, (params, stats))


@pytest.mark.usefixtures("eight_devices")
@pytest.mark.parametrize("name", TRAINED)
def test_eight_devices_learn_the_codebook_of_one(name):
    alone = run(TRAINED[name], replicated(Mesh().build(jax.devices()[:1])))
    shared = run(TRAINED[name], over_batch(Mesh().build()))
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(shared), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("eight_devices")
@pytest.mark.parametrize("kind", ["VQ", "SimVQ", "IBQ"])
def test_a_codebook_over_eight_devices_is_never_gathered(kind):
    """Each device searches its own codes, and only minima move; the ids are the same."""
    size, dim = 4096, 8
    make = {"VQ": VQ, "SimVQ": SimVQ, "IBQ": IBQ}[kind]
    own, whole = make(codebook_size=size, dim=dim, shards=8), make(codebook_size=size, dim=dim)
    mesh = Mesh(fsdp=8).build()
    params, stats = whole.init(jax.random.key(0))
    z = jax.random.normal(jax.random.key(1), (128, dim))

    def lay(leaf):
        split = leaf.shape[0] == size
        spec = PartitionSpec("fsdp") if split else PartitionSpec()
        return NamedSharding(mesh, spec)

    layout = jax.tree.map(lay, (params, stats))

    def step(params, stats, z):
        def loss(params):
            out = own.quantize(params, stats, z)
            return jnp.sum(out.z_q**2) + sum(out.losses.values()), out.codes

        gradient, codes = jax.grad(loss, has_aux=True)(params)
        params, stats = own.update(params, stats, z, codes, jax.random.key(3), jnp.int32(0))
        return gradient, codes, params, stats

    everywhere = NamedSharding(mesh, PartitionSpec())
    compiled = (
        jax.jit(step, out_shardings=(layout[0], everywhere, *layout))
        .lower(
            *jax.tree.map(
                lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
                (params, stats),
                layout,
            ),
            jax.ShapeDtypeStruct(z.shape, z.dtype, sharding=over_batch(mesh)),
        )
        .compile()
    )
    for line in compiled.as_text().splitlines():
        found = re.search(MOVES, line)
        if found:
            elements = np.prod([int(n) for n in found.group(1).split(",")])
            assert elements < size * dim // 2, line
    inputs = jax.device_put((params, stats), layout)
    codes = compiled(*inputs, jax.device_put(z, over_batch(mesh)))[1]
    np.testing.assert_array_equal(codes, whole.encode(params, stats, z))


@pytest.mark.parametrize("saved", [3, 5, 8])
def test_state_survives_save_and_restore(tmp_path, saved):
    """Before, at and after k-means, with codes that are revived all the time."""
    quantizer = VQ(codebook_size=32, dim=4, start=5, revive_below=0.9, decay=0.5)
    layout = replicated(Mesh().build(jax.devices()[:1]))
    state = jax.device_put(run(quantizer, layout, saved), layout)
    with Checkpoints(tmp_path / "checkpoints", Keep(last=2)) as checkpoints:
        checkpoints.save(saved, state)
        checkpoints.wait()
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=layout), state
        )
        restored = checkpoints.restore(abstract)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(restored), strict=True):
        np.testing.assert_array_equal(a, b)


PROGRAM = """
import sys
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
import numpy as np
from tests.quantizers.test_devices import TRAINED, run
from vqdit.parallel import Mesh, over_batch
params, stats = run(TRAINED["ema"], over_batch(Mesh().build()))
if jax.process_index() == 0:
    np.savez(sys.argv[3], *jax.tree.leaves(stats))
"""


@pytest.mark.slow
def test_two_processes_learn_the_codebook_of_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    file = tmp_path / "stats.npz"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, address, str(number), str(file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(2)
    ]
    output = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], output
    alone = run(TRAINED["ema"], replicated(Mesh().build(jax.devices()[:1])))
    with np.load(file) as together:
        for a, b in zip(jax.tree.leaves(alone[1]), together.values(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
