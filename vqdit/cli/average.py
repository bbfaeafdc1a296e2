"""`vqdit average --workdir=RUN --width=W --out=DIR`: parameters averaged after training."""

from pathlib import Path
from typing import Annotated

from vqdit.cli.invocation import command
from vqdit.cli.options import FOLDER, NUMBER, STEP, Workdir


def average(
    *,
    workdir: Workdir,
    width: Annotated[float, NUMBER],
    out: Annotated[str, FOLDER],
    step: Annotated[int | None, STEP] = None,
) -> int:
    """Make a workdir of parameters averaged after training.

    The result is a power-function average of any width. It is computed from averages that the run
    saved, so the run must be trained with --posthoc=PosthocEMA.

    Args:
        workdir: Workdir of a run; if the config has several experiments, the last one is used.
        width: Standard deviation of the average, as a fraction of the training steps: 0.02 to 0.25.
        out: New folder, which is a workdir for sample and all other commands.
        step: Step at which the average ends. Default: the last step with saved averages.
    """
    from vqdit.train import posthoc_averages

    params, step = posthoc_averages.reconstruct(Path(workdir), width, step)
    posthoc_averages.write(Path(workdir), Path(out), params, step, option="--out")
    print(f"{out}: the average of width {width:g} at step {step}")
    print(f"  sample: {command('sample')} --workdir={out} --num=64 --out=samples")
    return 0
