"""Measures the speed of training and sampling a DiT on random latents, on local devices.

MFU is the rate of model FLOPs divided by the peak of the chips in bfloat16. The model FLOPs
(`vqdit.profiling.flops`) of a training step are three times those of the forward pass.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vqdit import parallel
from vqdit.data.batch import Batch
from vqdit.models.dit import DiT, Tokens
from vqdit.optim import AdamW
from vqdit.optim.ema import Averaging
from vqdit.processes import Flow, Uniform
from vqdit.profiling import accelerators
from vqdit.profiling.flops import model_flops
from vqdit.random import per_example, stream
from vqdit.samplers import Branch, Euler, generate, guided
from vqdit.tasks.base import Aux, Frozen, Task
from vqdit.train import state as states
from vqdit.train.step import train_step
from vqdit.typing import Array, Float, Int, Key, Named, Params, Stats

CLASSES = 1000
DROP = 0.1
WARM_UP = 3
"""Number of calls before the measured ones, the same as for peers in `benchmarks/dit.py`."""


class Latents(Task):
    """A class-conditional DiT over latents [h, w, c] that are part of the batch.

    Attributes:
        model: the network.
        size: edge of the latents.
        channels: number of channels of the latents.
    """

    model: DiT
    size: int = 32
    channels: int = 4

    @property
    def inputs(self) -> Named[Tokens]:
        """The network's inputs for latents and labels."""
        grid = (self.size, self.size)
        return Named(
            image=Tokens(grid=grid, width=self.channels, output=Flow().width((self.channels,))),
            label=Tokens(route="adaln", grid=(1,), codes=CLASSES),
        )

    def batch(self, count: int) -> Batch:
        """Returns a batch of noise and labels."""
        k_image, k_label = jax.random.split(jax.random.key(0))
        data = {
            "image": jax.random.normal(k_image, (count, self.size**2, self.channels)),
            "label": jax.random.randint(k_label, (count, 1, 1), 0, CLASSES),
        }
        present = {name: jnp.ones(count, bool) for name in data}
        return Batch(Named(data), Named(present), Named(), jnp.arange(count), jnp.ones(count, bool))

    def init(self, key: Key[Array, ""], frozen: Frozen, batch: Batch) -> tuple[Params, Stats]:
        del frozen, batch
        return self.model.init(key, self.inputs), {}

    def predict(
        self, params: Params, x: Named[Array], t: Named[Float[Array, "b _"]]
    ) -> Named[Float[Array, "b l d"]]:
        """Returns the network's prediction."""
        x_t, time = Flow().network_input(x["image"], t["image"])
        return self.model.apply(params, self.inputs, x | {"image": x_t}, t | {"image": time})

    def loss(
        self,
        params: Params,
        stats: Stats,
        frozen: Frozen,
        batch: Batch,
        key: Key[Array, ""],
        step: Int[Array, ""],
    ) -> tuple[Float[Array, ""], Aux]:
        del stats, frozen, step
        x_0, label, index = batch.data["image"], batch.data["label"], batch.index
        t = Uniform().sample(stream(key, "time"), index, len(index))
        x_t, noise = Flow().noise(per_example(stream(key, "noise"), index), x_0, t)
        drop = jax.random.uniform(stream(key, "drop"), (len(index), 1, 1)) < DROP
        x = Named(image=x_t, label=jnp.where(drop, -1, label))
        prediction = self.predict(params, x, Named(image=t, label=jnp.zeros_like(t)))
        loss = jnp.mean(Flow().loss(prediction["image"], x_0, x_t, noise, t))
        return loss, Aux(Named(), None)


def bench_training(task: Latents, batch: int, steps: int) -> dict[str, Any]:
    """Measures training steps: loss, gradient, AdamW and the moving average, on all devices.

    Args:
        task: the task to train.
        batch: number of examples per step, over all devices.
        steps: number of measured steps, after a few for warm-up.

    Returns:
        The record; see `record`.

    Raises:
        ValueError: the batch is not divisible by the number of devices.
    """
    mesh = parallel.Mesh().build()
    parallel.check_batch(batch, mesh)
    optimizer = task.optimizer(AdamW(learning_rate=1e-4), 1000)
    examples = parallel.put_batch(task.batch(batch), mesh)
    averaging = Averaging(decay=0.9999)
    create = functools.partial(states.create, task, optimizer, averaging)
    state = parallel.create(create, mesh, {}, examples, jax.random.key(0))
    step = parallel.compile_step(functools.partial(train_step, task, optimizer, averaging), state)
    compiled, seconds = _compile(step, state, {}, examples)

    def run(state: Any) -> Any:
        return compiled(state, {}, examples)[0]

    elapsed = _time(run, state, steps)
    flops = 3 * forward_flops(task)
    return record(compiled, elapsed, seconds, batch, flops)


def bench_sampling(task: Latents, batch: int, evaluations: int, guidance: float) -> dict[str, Any]:
    """Measures the sampling of latents: one compiled loop of Euler steps, on one device.

    Args:
        task: the task with the network.
        batch: number of samples per batch.
        evaluations: number of steps per sample.
        guidance: scale of classifier-free guidance; values other than 1 double the network's batch.

    Returns:
        The record; see `record`. `step_ms` is for one step of the loop.
    """
    params = jax.jit(lambda: task.init(jax.random.key(0), {}, task.batch(1))[0])()
    sampler, process = Euler(steps=evaluations), Flow()
    hidden, scale = Named(label=jnp.asarray(True)), Named(image=jnp.float32(guidance))
    branches = (Branch(hidden, scale),) if guidance != 1.0 else ()
    times = jnp.linspace(1.0, 0.0, evaluations + 1)

    def sample(params: Params, keys: Key[Array, " b"], label: Int[Array, "b 1 1"]) -> Array:
        x_1 = process.prior(keys, (task.size**2, task.channels))
        unknown = Named(image=x_1, label=jnp.full_like(label, -1))
        predict = guided(functools.partial(task.predict, params), unknown, branches)
        start = Named(image=x_1, label=label)
        every = Named(image=times, label=jnp.zeros_like(times))
        return generate(keys, predict, Named(image=sampler), Named(image=process), start, every)[
            "image"
        ]

    keys = jax.random.split(jax.random.key(1), batch)
    label = task.batch(batch).data["label"]
    compiled, seconds = _compile(jax.jit(sample), params, keys, label)
    elapsed = _time(lambda _: compiled(params, keys, label), None, 1) / evaluations
    flops = forward_flops(task) * (1 + len(branches)) * evaluations
    found = record(compiled, elapsed * evaluations, seconds, batch, flops)
    return {**found, "step_ms": 1e3 * elapsed}


def record(
    compiled: Any, elapsed: float, compile_seconds: float, batch: int, flops: float
) -> dict[str, Any]:
    """Returns the results of a measurement.

    Args:
        compiled: the compiled program.
        elapsed: seconds per call.
        compile_seconds: seconds of compilation.
        batch: number of examples per call.
        flops: model FLOPs of one example.

    Returns:
        A dict of:

        - step_ms: milliseconds of one call.
        - images_s: examples per second.
        - mfu: model FLOPs utilization; None if the devices' peak is unknown.
        - memory_gb: peak memory of one device in 10^9 bytes, reported by the device or else by the
          compiler.
        - compile_s: seconds of compilation.
        - gflops_image: model FLOPs of one example, in 10^9.
        - device, devices: kind and number of devices.
    """
    devices = jax.devices()
    kind = devices[0].device_kind
    chip = accelerators.find(kind)
    rate = batch / elapsed
    return {
        "step_ms": 1e3 * elapsed,
        "images_s": rate,
        "mfu": None if chip is None else rate * flops / (chip.flops * len(devices)),
        "memory_gb": _memory(compiled) / 1e9,
        "compile_s": compile_seconds,
        "gflops_image": flops / 1e9,
        "device": kind,
        "devices": len(devices),
    }


def forward_flops(task: Latents) -> float:
    """Returns the model FLOPs of one forward pass for one example."""

    def forward(params: Params) -> Any:
        data = task.batch(1).data
        time = jnp.zeros((1, 1))
        return task.predict(params, data, Named(image=time, label=time))

    params = jax.eval_shape(lambda: task.init(jax.random.key(0), {}, task.batch(1))[0])
    return model_flops(forward, params)


def _compile(function: Any, *args: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    compiled = function.lower(*args).compile()
    return compiled, time.perf_counter() - start


def _time(run: Callable[[Any], Any], state: Any, steps: int) -> float:
    """Returns the seconds per step of several consecutive steps, after warm-up steps.

    The warm-up has several steps, because queued steps allocate additional memory.
    """
    for _ in range(WARM_UP):
        state = run(state)
    jax.block_until_ready(state)
    start = time.perf_counter()
    for _ in range(steps):
        state = run(state)
    jax.block_until_ready(state)
    return (time.perf_counter() - start) / steps


def _memory(compiled: Any) -> float:
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return float(stats["peak_bytes_in_use"])
    plan = compiled.memory_analysis()
    planned = plan.argument_size_in_bytes + plan.temp_size_in_bytes + plan.output_size_in_bytes
    return float(planned - plan.alias_size_in_bytes)
