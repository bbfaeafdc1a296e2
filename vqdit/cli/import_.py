"""`vqdit import SOURCE --out=WORKDIR`: a public tokenizer or DiT as a workdir."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqdit.cli.options import COUNT, parse, with_help

USAGE = """usage: vqdit import SOURCE --out=WORKDIR [OPTIONS]

Makes a workdir of a public tokenizer, which `vqdit reconstruct`, `vqdit.load`, --init-from and a
DiT's --task.targets.image.tokenizer take, or of a public DiT, which `vqdit sample`, `vqdit.load`
and --init-from take. SOURCE is one of

  a folder of diffusers     with a VQModel, an AutoencoderKL or a DiTTransformer2DModel: config.json
                            and safetensors
  a checkpoint (.ckpt)      of taming-transformers or latent-diffusion, also a whole LDM
  a checkpoint (.pt)        of LlamaGen's VQ tokenizers, of DiT or of SiT

  --out=WORKDIR             a new folder
  --size=PIXELS             edge of a tokenizer's images (default: 256)
  --data=FOLDER             of pictures, which `vqdit reconstruct` shows (default: pictures)

and for a DiT

  --tokenizer=WORKDIR       of the tokenizer whose latents it was trained on, imported before
  --scaling-factor=NUMBER   what the latents are multiplied by (default: 0.18215)
  --kind=sit                a checkpoint of SiT, which its names do not tell from one of DiT
  --heads=N                 of attention, if a checkpoint is of none of the published sizes

Files are read without torch, and nothing in them is run."""
OPTIONS = {
    "out": str,
    "size": COUNT,
    "data": str,
    "tokenizer": str,
    "scaling-factor": float,
    "kind": str,
    "heads": COUNT,
}
KINDS = ("dit", "sit")


@with_help(USAGE)
def main(argv: list[str]) -> int:
    """Runs the command."""
    options = parse(argv, OPTIONS, words=("source",), required=("out",))
    if "source" not in options:
        raise ValueError("vqdit import needs a SOURCE, as in vqdit import vae --out=runs/vae")

    kind = options.get("kind", KINDS[0])
    if kind not in KINDS:
        raise ValueError(f"--kind must be one of {', '.join(KINDS)}, got {kind!r}")
    for option in ("kind", "heads"):
        if option in options and Path(options["source"]).is_dir():
            raise ValueError(
                f"--{option} is for a checkpoint, and {options['source']} is a folder, whose "
                "config.json says it; leave it out"
            )

    from vqdit import pretrained

    size, heads = options.get("size", pretrained.SIZE), options.get("heads", 0)
    imported = pretrained.convert(options["source"], size=size, kind=kind, heads=heads)
    if isinstance(imported, pretrained.Pretrained):
        for option in ("size", "data"):
            if option in options:
                raise ValueError(f"--{option} is for a tokenizer, and {options['source']} is a DiT")
        return _write_dit(imported, options)
    for option in ("tokenizer", "scaling-factor"):
        if option in options:
            raise ValueError(f"--{option} is for a DiT, and {options['source']} is a tokenizer")
    return _write_tokenizer(imported, options)


def _write_tokenizer(imported: Any, options: Mapping[str, Any]) -> int:
    from vqdit import pretrained

    folder = Path(options["out"])
    pictures = options.get("data", "pictures")
    pretrained.write(imported, folder, pictures=pictures, option="--out")
    task = imported.task
    sizes = task.codebook_sizes
    tokens = f"codes of {sizes[0]:,}, {task.dim} dimensions" if sizes else ""
    tokens = tokens or f"latents of {task.dim} channels"
    print(f"{type(task.model).__name__}, {_count(imported.params):,} parameters: {tokens}")
    print(
        f"  {'x'.join(map(str, task.modality.grid))} pixels, grid {'x'.join(map(str, task.grid))}"
    )
    print(f"  workdir: {folder}")
    return 0


def _write_dit(found: Any, options: Mapping[str, Any]) -> int:
    from vqdit.pretrained import generator

    if "tokenizer" not in options:
        raise ValueError(
            f"{options['source']} is a DiT, and needs the workdir of the tokenizer whose latents "
            "it was trained on: --tokenizer=WORKDIR, made by vqdit import vae --out=WORKDIR"
        )
    folder = Path(options["out"])
    generator.write(
        found,
        folder,
        tokenizer=options["tokenizer"],
        scaling=options.get("scaling-factor", generator.SCALING),
        pictures=options.get("data", "pictures"),
        option="--out",
    )
    image, label = found.inputs["image"], found.inputs["label"]
    print(f"DiT, {_count(found.params):,} parameters, {label.codes:,} classes")
    print(
        f"  latents {'x'.join(map(str, image.grid))}, {image.width} channels; "
        f"{type(found.process).__name__}"
    )
    print(f"  workdir: {folder}")
    return 0


def _count(params: Any) -> int:
    from vqdit.runs.array_trees import flatten

    return sum(leaf.size for leaf in flatten(params).values())
