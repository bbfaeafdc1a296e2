"""`vqdit export WORKDIR --out=DIR`: writes a trained DiT as a folder for diffusers."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from vqdit.cli.options import FOLDER, RUN


def export(workdir: Positional[Annotated[str, RUN]], *, out: Annotated[str, FOLDER]) -> int:
    """Write a trained DiT as a folder for diffusers.

    The DiT must generate latents from a label. The folder has config.json and safetensors, which
    DiTTransformer2DModel.from_pretrained of diffusers loads. The timestep argument of the exported
    model is the value that the network embeds: 1000 t for Flow, and the step number for DDPM. If
    diffusers does not support the DiT, this is an error. In particular, the DiT must have been
    trained with --task.model.time_shift=1.

    Args:
        workdir: Workdir of the DiT.
        out: New folder.
    """
    from vqdit.pretrained import generator

    folder, moments = generator.export(Path(workdir), Path(out), option="--out")
    print(f"{folder}: DiTTransformer2DModel")
    print("  its input is x = (z - mean) / std of the tokenizer's latents z, with")
    for name, values in moments.items():
        print(f"  {name} {' '.join(f'{value:.6g}' for value in values)}")
    return 0
