"""`vqdit average --workdir=RUN --width=W --out=DIR`: parameters averaged after training."""

from pathlib import Path

from vqdit.cli.options import command, parse, with_help

USAGE = """usage: vqdit average --workdir=RUN --width=W --out=DIR [--step=N]

Makes a workdir whose parameters are a power-function average of those that RUN trained, of any
width, from the ones that it kept (train with --posthoc=PosthocEMA).

  --workdir=RUN   of the run, or of a config with several: its last one
  --width=W       standard deviation of the average, as a share of the training: 0.02 to 0.25
  --out=DIR       a new folder, for sample.py and everything else that takes a workdir
  --step=N        at which the average ends (default: the last kept one)"""
OPTIONS = {"workdir": str, "width": float, "out": str, "step": int}


@with_help(USAGE)
def main(argv: list[str]) -> int:
    """Runs the command."""
    options = parse(argv, OPTIONS, required=("workdir", "width", "out"))
    from vqdit.train import posthoc_averages

    source, out = Path(options["workdir"]), Path(options["out"])
    params, step = posthoc_averages.reconstruct(source, options["width"], options.get("step"))
    posthoc_averages.write(source, out, params, step, option="--out")
    print(f"{out}: the average of width {options['width']:g} at step {step}")
    print(f"  sample: {command('sample')} --workdir={out} --num=64 --out=samples")
    return 0
