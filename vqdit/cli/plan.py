"""`vqdit plan --config=X --target=v5e:4x4`: what a training needs, before anything is rented."""

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
        raise ValueError(f"must be a number above 0, got {word!r}; it is for a chip-hour")
    return value


def plan(
    *,
    config: Annotated[str, text("CONFIG")],
    target: Annotated[str, text("TARGET")],
    price: Annotated[float | None, parsed_by(_price, "NUMBER")] = None,
    overrides: Overrides = (),
) -> int:
    """Say what a training will need on accelerators that are not here.

    Compiles the real training step for them, and prints for one chip: memory by purpose,
    arithmetic, memory traffic, exchanges between chips, and the time of a step by a roofline. The
    roofline is a lower bound, the time at the chip's peak if everything else is hidden behind it,
    and not a measurement. Any other option overrides a field of the config, such as --mesh.fsdp=8;
    see vqdit train --help. Exit codes: 0 it fits, 1 it does not, 2 bad input.

    Args:
        config: A Python file with config(), or the name of a shipped config.
        target: Topology of a TPU, such as v5e:4x4, v6e:2x4 or v5p:2x2x2 (needs pip install
            'vqdit[tpu]'), or GPUs, such as h100:8, h200:1 or a100:8 (needs pip install
            'vqdit[cuda]'). Neither needs the accelerator itself.
        price: Price of a chip for an hour, in any currency; adds the cost of 1,000 steps.
        overrides: Fields of the config.
    """
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the host that compiles, not the target
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
