"""`vqdit plan --config=X --target=v5e:4x4`: what a training needs, before anything is rented."""

import os
from typing import Any

from vqdit.cli.options import take, with_help

USAGE = """usage: vqdit plan --config=CONFIG --target=TARGET [--price=P] [--any.field=value ...]

Compiles the real training step for accelerators that are not here, and says what it needs of each
of them: memory by what it is for, arithmetic, traffic with it, exchanges, and the time of a step by
a roofline: that at the chip's peak, if all else is hidden behind it. It is no measurement.

  --config=CONFIG       a Python file with config(), or the name of a shipped config
  --target=TARGET       a topology of a TPU, such as v5e:4x4, v6e:2x4 or v5p:2x2x2 (needs
                        `pip install 'vqdit[tpu]'`), or GPUs, such as h100:8, h200:1 or a100:8
                        (`pip install 'vqdit[cuda]'`); neither needs the accelerator itself
  --price=P             of one chip for an hour, in any currency: adds the cost of 1,000 steps
  --any.field=value     overrides a field of the config, such as --mesh.fsdp=8

Exit codes: 0 it fits, 1 it does not, 2 bad input."""


@with_help(USAGE)
def main(argv: list[str]) -> int:
    """Runs the command."""
    name, rest = take(argv, "--config")
    target, rest = take(rest, "--target")
    price, overrides = take(rest, "--price")
    if name is None or target is None:
        missing = "--config" if name is None else "--target"
        raise ValueError(f"{missing} is missing; see vqdit plan --help")
    cost = _number(price)

    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # where it compiles is not what it compiles for
    from vqdit import config as configs
    from vqdit.cli.overrides import override
    from vqdit.profiling.plan import DoesNotFit, finder, plan

    stem, config = configs.load(name)
    config = override(config, overrides)
    experiments = config if isinstance(config, dict) else {stem: config}
    fits = True
    for label, experiment in experiments.items():
        try:
            found = plan(experiment, target, finder(experiments))
        except DoesNotFit as error:
            print(f"{label} on {target}: DOES NOT FIT\n  {error}")
            fits = False
            continue
        print(f"{label} on {target}: {found.chips} x {found.kind}")
        print("\n".join(f"  {line}" for line in report(found, experiment, cost)))
        fits = fits and found.fits
    return 0 if fits else 1


def report(plan: Any, experiment: Any, price: float | None) -> list[str]:
    """Returns lines for a person, of a plan of an experiment."""
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


def _number(price: str | None) -> float | None:
    try:
        value = None if price is None else float(price)
    except ValueError:
        value = -1.0
    if value is not None and not value > 0.0:
        raise ValueError(f"--price must be a number above 0, got {price!r}; it is for a chip-hour")
    return value
