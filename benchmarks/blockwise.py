"""Measures how the time of block-wise sampling grows with the length of the text.

    python -m benchmarks.blockwise

An untrained DiT that never ends a text samples texts of several lengths, block by block.
Compilation is not timed. The last column is the time divided by that of the shortest text and by
the ratio of the lengths: 1 if the time is proportional to the length. Attention to earlier blocks
makes it larger.
"""

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.modalities import Text
from vqdit.models import DiT
from vqdit.random import per_example
from vqdit.samplers import Unmasking
from vqdit.tasks import CodeTarget, DiffusionTask
from vqdit.tasks.blockwise import END
from vqdit.tasks.request import Request
from vqdit.typing import Named


def sampling(length: int, arguments: Any) -> Any:
    """Returns a function that samples texts of a length and waits for them."""
    sampler = Unmasking(steps=arguments.steps, order="random")
    text = CodeTarget(modality=Text(length=length), block=arguments.block, sampler=sampler)
    size = {"depth": arguments.depth, "dim": arguments.dim, "heads": arguments.heads}
    task = DiffusionTask(targets=Named(text=text), model=DiT(**size, patch=1, positions="rope"))
    params, frozen = task.blank()[0], task.frozen_like()
    head = params["text_head"]
    params["text_head"] = head | {"bias": head["bias"].at[END].set(-1e9)}
    keys = per_example(jax.random.key(0), jnp.arange(arguments.batch))
    flag = lambda value: Named(text=jnp.asarray(value))  # noqa: E731
    blank = jnp.zeros((arguments.batch, length), jnp.uint8)
    request = Request(Named(text=blank), flag(False), flag(True))
    run = jax.jit(lambda params: task.trajectory(params, frozen, keys, request)[0]["text"])
    return lambda: jax.block_until_ready(run(params))


def seconds(lengths: list[int], arguments: Any) -> dict[int, float]:
    """Returns the median time for each length, measured in turns."""
    runs = {length: sampling(length, arguments) for length in lengths}
    for run in runs.values():
        run()
    times: dict[int, list[float]] = {length: [] for length in lengths}
    for _ in range(arguments.repeats):
        for length, run in runs.items():
            start = time.perf_counter()
            run()
            times[length].append(time.perf_counter() - start)
    return {length: float(np.median(each)) for length, each in times.items()}


def main() -> None:
    """Prints one line for each length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", default="1024,2048,4096", help="codes of each text")
    parser.add_argument("--block", type=int, default=128, help="codes in a block")
    parser.add_argument("--steps", type=int, default=8, help="steps for each block")
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--batch", type=int, default=1, help="texts at a time")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    lengths = [int(length) for length in arguments.lengths.split(",")]
    found = seconds(lengths, arguments)
    print(f"{'codes':>8} {'seconds':>9} {'codes/s':>9} {'relative':>9}")
    for length, each in found.items():
        relative = each / found[lengths[0]] / (length / lengths[0])
        print(f"{length:8} {each:9.2f} {arguments.batch * length / each:9.0f} {relative:9.2f}")


if __name__ == "__main__":
    main()
