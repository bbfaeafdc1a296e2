"""`vqdit bench --model=XL/2 --batch=N`: measures how fast a DiT trains or samples."""

from typing import Annotated

from vqdit.cli.options import BATCH, EDGE, NUMBER, ROUNDS, choice, text
from vqdit.files import to_text

REMAT = {None: False, "nothing": True, "attention": "attention", "dots": "dots"}
"""`DiT.remat` by the values of --remat."""


def bench(
    *,
    model: Annotated[str, text("SIZE/PATCH")],
    batch: Annotated[int, BATCH],
    sample: bool = False,
    steps: Annotated[int, ROUNDS] = 20,
    guidance: Annotated[float | None, NUMBER] = None,
    dtype: Annotated[str | None, choice("bfloat16", "float32")] = None,
    remat: Annotated[str | None, choice("nothing", "attention", "dots")] = None,
    size: Annotated[int, EDGE] = 32,
    channels: Annotated[int, EDGE] = 4,
) -> int:
    """Time the training and sampling of a DiT.

    The DiT runs on random latents on this machine. Prints one line of JSON: step_ms, images_s, mfu
    (fraction of the chips' bfloat16 peak), memory_gb, compile_s, gflops_image and the device.

    Args:
        model: Size S, B, L or XL, and patch 1, 2, 4 or 8, such as XL/2.
        batch: Examples per step, over all devices.
        sample: Time sampling, on one device, instead of training.
        steps: Number of training steps to measure; with --sample, number of sampler steps.
        guidance: Guidance scale of sampling; 1 disables guidance. Default: 1.5.
        dtype: Data type of matrix products. Default: bfloat16, and float32 on a CPU.
        remat: What each block stores for the gradient: nothing, attention, or dots (attention and
            matrix products); everything else is recomputed. Default: it stores everything.
        size: Edge of the latents in positions; 32 corresponds to 256x256 pixels.
        channels: Channels of the latents.
    """
    if guidance is not None and not sample:
        raise ValueError(
            "--guidance is an option for sampling: add --sample, or leave --guidance out"
        )

    import jax

    from vqdit.models import DiT
    from vqdit.profiling.benchmark import Latents, bench_sampling, bench_training

    dtype = dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
    network = DiT.named(model, dtype=dtype, remat=REMAT[remat])
    task = Latents(model=network, size=size, channels=channels)
    network.check(task.inputs)
    if sample:
        found = bench_sampling(task, batch, steps, 1.5 if guidance is None else guidance)
    else:
        found = bench_training(task, batch, steps)
    what = "sampling" if sample else "training"
    record = {"model": model, "what": what, "batch": batch, "dtype": dtype, **found}
    print(to_text(record, indent=None))
    return 0
