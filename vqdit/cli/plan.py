"""`vqdit plan --config=X --target=v5e:4x4`: memory and time of a training on other machines."""

import math
import os
from typing import Annotated, Any

from vqdit.cli.options import Overrides, parsed_by, text


def _price(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0.0 < value < math.inf:
        raise ValueError(f"must be a number above 0, got {word!r}; give the price of one chip-hour")
    return value


def plan(
    *,
    config: Annotated[str, text("CONFIG")],
    target: Annotated[str, text("TARGET")],
    price: Annotated[float | None, parsed_by(_price, "NUMBER")] = None,
    overrides: Overrides = (),
) -> int:
    """Estimate memory and time of a training on accelerators that this machine lacks.

    Compiles the training step for the target, and prints per chip: memory by purpose, arithmetic,
    memory traffic, communication between chips, and the time of a step by a roofline model. The
    roofline is not a measurement but a lower bound: the time of the slowest resource at its peak
    rate, if everything else overlaps with it. Any other option overrides a field of the config,
    such as --mesh.fsdp=8; see vqdit train --help. Exit codes: 0 if the training fits into memory, 1
    if it does not, 2 for invalid input.

    Args:
        config: A Python file with config(), or the name of a shipped config.
        target: TPU topology, such as v5e:4x4, v6e:2x4 or v5p:2x2x2 (needs pip install
            'vqdit[tpu]'), or GPUs, such as h100:8, h200:1 or a100:8 (needs pip install
            'vqdit[cuda]'). The accelerator itself is not needed.
        price: Price of one chip-hour, in any currency; adds the cost of 1,000 steps.
        overrides: Fields of the config.
    """
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # compiles on this host's CPU for the target
    from vqdit import config as configs
    from vqdit.cli.overrides import override
    from vqdit.profiling import plan as profiling

    stem, loaded = configs.load(config)
    loaded = override(loaded, overrides)
    experiments = loaded if isinstance(loaded, dict) else {stem: loaded}
    fits = True
    for label, experiment in experiments.items():
        try:
            found = profiling.plan(experiment, target, profiling.finder(experiments))
        except profiling.DoesNotFit as error:
            print(f"{label} on {target}: DOES NOT FIT\n  {error}")
            fits = False
            continue
        print(f"{label} on {target}: {found.chips} x {found.kind}")
        print("\n".join(f"  {line}" for line in report(found, experiment, price)))
        fits = fits and found.fits
    return 0 if fits else 1


def report(plan: Any, experiment: Any, price: float | None) -> list[str]:
    """Returns the lines that describe the plan of an experiment."""
    chip = plan.chip
    lines = [f"memory of a chip     {_gigabytes(plan.total)} of {_gigabytes(chip.memory)}"]
    lines[0] += ": fits" if plan.fits else ": DOES NOT FIT"
    lines += [f"  {name:18} {_gigabytes(size)}" for name, size in plan.memory.items() if size]
    lines.append(
        f"arithmetic of a step {plan.flops / 1e12:.3g} TFLOP a chip, recomputation included"
    )
    lines.append(f"memory traffic       {_gigabytes(plan.traffic)} a chip")
    for name, one in plan.exchanges.items():
        lines.append(f"  {name:18} {one.times} times, {_gigabytes(one.bytes)} a chip")
    if not plan.exchanges:
        lines.append("exchanges            none")
    for name, times in plan.kernels.items():
        lines.append(f"kernel               {name}, {times} times")
    slowest = max(plan.bounds, key=lambda name: plan.bounds[name])
    shown = ", ".join(f"{name} {1e3 * value:.3g} ms" for name, value in plan.bounds.items())
    rate = experiment.data.batch_size / plan.seconds
    lines.append(f"roofline of a step   {1e3 * plan.seconds:.3g} ms, of {slowest} ({shown})")
    lines.append(f"at that rate         {rate:.4g} examples a second")
    hours = plan.seconds * plan.chips * 1000 / 3600
    money = "" if price is None else f", {hours * price:.3g} at {price:g} an hour"
    lines.append(f"1,000 steps          {hours:.3g} chip-hours{money}")
    return lines


def _gigabytes(size: int | float) -> str:
    return f"{size / 1e9:.3g} GB"
