"""Measures weak scaling: the data that devices exchange in a training step, per number of devices.

    python -m benchmarks.scaling

The numbers are read from the step compiled for 1, 2, 4 and 8 simulated CPU devices, each with the
same number of examples; nothing is timed. P is the size of all parameters in float32, in bytes. On
a ring of n devices, each device sends (n - 1) / n of the result of an all-gather, and twice this
share of the result of an all-reduce.
"""

import functools
from typing import Any

import jax

from vqdit import parallel
from vqdit.models import DiT
from vqdit.optim import AdamW
from vqdit.optim.ema import Averaging
from vqdit.parallel import Mesh, layout
from vqdit.profiling import compiled_program
from vqdit.profiling.benchmark import Latents
from vqdit.train import state as states
from vqdit.train.step import train_step

EACH = 4
"""Examples per device."""
AXES = ("data", "fsdp", "tensor")
COUNTS = (1, 2, 4, 8)


def task() -> Latents:
    """Returns a small DiT with rematerialisation, which large DiTs need."""
    return Latents(model=DiT(depth=8, dim=64, heads=8, remat=True), size=8)


def compiled(task: Latents, mesh: Any, batch: int) -> tuple[compiled_program.Program, Any]:
    """Returns the training step for a mesh, and the shapes of its state."""
    optimizer, averaging = AdamW().build(10), Averaging(decay=0.9)
    examples = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=parallel.over_batch(mesh)),
        jax.eval_shape(lambda: task.batch(batch)),
    )
    create = functools.partial(states.create, task, optimizer, averaging)
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = parallel.abstract(create, mesh, {}, examples, key)
    step: Any = parallel.compile_step(
        functools.partial(train_step, task, optimizer, averaging), state
    )
    return compiled_program.Program(step.lower(state, {}, examples).compile().as_text()), state


def rows() -> list[dict[str, Any]]:
    """Returns the exchanged data for each mesh axis and number of devices."""
    found = []
    for axis in AXES:
        for count in COUNTS:
            fields = {"data": 1, axis: count} if axis != "data" else {"data": count}
            mesh = Mesh(**fields).build(jax.devices()[:count])
            program, state = compiled(task(), mesh, EACH * (1 if axis == "tensor" else count))
            size = sum(4 * leaf.size for leaf in jax.tree.leaves(state.params))
            exchanged = program.collectives()
            found.append({"axis": axis, "devices": count, "parameters": size, **exchanged})
    return found


def main() -> None:
    """Prints the table."""
    jax.config.update("jax_num_cpu_devices", max(COUNTS))
    layout.SMALL = 2**9  # the default would shard no array of so small a network
    found = rows()
    kinds = [kind for kind in compiled_program.KINDS if any(kind in row for row in found)]
    print(f"| mesh | devices | {' | '.join(kinds)} |")
    print("|---|---" + "|---" * len(kinds) + "|")
    for row in found:
        cells = [
            f"{row[kind].times} times, {row[kind].bytes / row['parameters']:.2f} P"
            if kind in row
            else "none"
            for kind in kinds
        ]
        print(f"| {row['axis']} | {row['devices']} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
