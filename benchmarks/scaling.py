"""What a training step exchanges as devices are added, each with as many examples: weak scaling.

    python -m benchmarks.scaling

Read off the step that is compiled for 1, 2, 4 and 8 devices, which a CPU stands in for: nothing is
timed. P are the bytes of all parameters in float32. A ring sends (n - 1)/n of what a gathering
gives, and twice that of a sum.
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
"""Examples of a device."""
AXES = ("data", "fsdp", "tensor")
COUNTS = (1, 2, 4, 8)


def task() -> Latents:
    """Returns a small DiT, with rematerialisation as large ones have it."""
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
    """Returns what is exchanged, for each axis and number of devices."""
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
    layout.SMALL = 2**9  # nothing of so small a network would be divided
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
