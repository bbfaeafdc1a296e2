"""`vqdit bench --model=XL/2 --batch=N`: how fast a DiT trains or samples on this machine."""

import json

from vqdit.cli.options import COUNT, parse, with_help

USAGE = """usage: vqdit bench --model=XL/2 --batch=N [OPTIONS]

Times a DiT over latents that are there already, and prints one line of JSON: step_ms, images_s,
mfu (share of the chips' bfloat16 peak), memory_gb, compile_s, gflops_image and the device.

  --model=SIZE/PATCH   S, B, L or XL, and 1, 2, 4 or 8
  --batch=N            examples of a step, over all devices
  --sample             times sampling, on one device, instead of training
  --steps=N            measured training steps, or steps of a sample (default: 20)
  --guidance=W         of sampling; 1 is none (default: 1.5)
  --dtype=TYPE         of the matrix products: bfloat16 or float32 (default: bfloat16, on a CPU
                       float32)
  --remat=WHAT         what of a block is kept for the gradient, the rest being computed again:
                       nothing, attention or dots (the products too); default: all of it
  --size=EDGE          of the latents (default: 32, of 256x256 pixels)
  --channels=C         of the latents (default: 4)"""
OPTIONS = {
    "model": str,
    "batch": COUNT,
    "sample": bool,
    "steps": COUNT,
    "guidance": float,
    "dtype": str,
    "remat": str,
    "size": COUNT,
    "channels": COUNT,
}
DTYPES = ("bfloat16", "float32")
REMAT = {"nothing": True, "attention": "attention", "dots": "dots"}
"""What `DiT.remat` is, by what is kept."""


@with_help(USAGE)
def main(argv: list[str]) -> int:
    """Runs the command."""
    options = parse(argv, OPTIONS, required=("model", "batch"))
    if "guidance" in options and "sample" not in options:
        raise ValueError("--guidance is of sampling: add --sample, or leave it out")
    if options.get("dtype", "float32") not in DTYPES:
        raise ValueError(f"--dtype must be {' or '.join(DTYPES)}, got {options['dtype']!r}")
    if options.get("remat", "dots") not in REMAT:
        raise ValueError(f"--remat must be {', '.join(REMAT)}, got {options['remat']!r}")

    import jax

    from vqdit.models import DiT
    from vqdit.profiling.benchmark import Latents, bench_sampling, bench_training

    batch, steps = options["batch"], options.get("steps", 20)
    usual = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    dtype = options.get("dtype", usual)
    model = DiT.named(
        options["model"], dtype=dtype, remat=REMAT.get(options.get("remat", ""), False)
    )
    sizes = {name: options[name] for name in ("size", "channels") if name in options}
    task = Latents(model=model, **sizes)
    model.check(task.inputs)
    if "sample" in options:
        found = bench_sampling(task, batch, steps, options.get("guidance", 1.5))
    else:
        found = bench_training(task, batch, steps)
    what = "sampling" if "sample" in options else "training"
    asked = {"model": options["model"], "what": what, "batch": batch, "dtype": dtype}
    print(json.dumps({**asked, **found}))
    return 0
