"""`vqdit export WORKDIR --out=DIR`: a trained DiT as a folder of diffusers."""

from pathlib import Path

from vqdit.cli.options import parse, with_help

USAGE = """usage: vqdit export WORKDIR --out=DIR

Writes the network of a DiT over latents, given a label, as a folder that diffusers loads by
DiTTransformer2DModel.from_pretrained: config.json and safetensors. Its timestep is what the network
embeds: 1000 t of Flow, the number of the step of DDPM. What diffusers cannot express is refused;
above all, a DiT must have been trained with --task.model.time_shift=1.

  --out=DIR                 a new folder"""
OPTIONS = {"out": str}


@with_help(USAGE)
def main(argv: list[str]) -> int:
    """Runs the command."""
    options = parse(argv, OPTIONS, words=("workdir",), required=("out",))
    if "workdir" not in options:
        raise ValueError("vqdit export needs a WORKDIR, as in vqdit export runs/dit --out=dit")

    from vqdit.pretrained import generator

    source, out = Path(options["workdir"]), Path(options["out"])
    folder, moments = generator.export(source, out, option="--out")
    print(f"{folder}: DiTTransformer2DModel")
    print("  it takes latents as x = (z - mean) / std of what the tokenizer gives, with")
    for name, values in moments.items():
        print(f"  {name} {' '.join(f'{value:.6g}' for value in values)}")
    return 0
