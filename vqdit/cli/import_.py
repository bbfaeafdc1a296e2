"""`vqdit import SOURCE --out=WORKDIR`: converts a public tokenizer, codec or DiT to a workdir."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional

from vqdit.cli.options import EDGE, FOLDER, NUMBER, RUN, choice, path


def import_(
    source: Positional[Annotated[str, path("SOURCE")]],
    *,
    out: Annotated[str, RUN],
    size: Annotated[int | None, EDGE] = None,
    data: Annotated[str | None, FOLDER] = None,
    tokenizer: Annotated[str | None, RUN] = None,
    scaling_factor: Annotated[float | None, NUMBER] = None,
    kind: Annotated[Literal["dit", "sit"] | None, choice("dit", "sit")] = None,
    heads: Annotated[int | None, EDGE] = None,
    seconds: Annotated[float | None, NUMBER] = None,
    frames: Annotated[int | None, EDGE] = None,
) -> int:
    """Convert a public tokenizer or DiT to a workdir.

    The workdir of a tokenizer can be used by vqdit reconstruct, vqdit.load, --init-from, and as
    --task.targets.image.tokenizer of a DiT. The workdir of a DiT can be used by vqdit sample,
    vqdit.load and --init-from. Files are read without torch, and no code in them is run.

    Args:
        source: A diffusers folder with a VQModel, an AutoencoderKL, a causal AutoencoderVidTok or a
            DiTTransformer2DModel (config.json and safetensors); a checkpoint (.ckpt) of
            taming-transformers or latent-diffusion, which may be a whole LDM; or a checkpoint (.pt)
            of LlamaGen's VQ tokenizers, of DiT or of SiT; a transformers folder with an
            EncodecModel, a DacModel or a MimiModel; or a file (.pth) of DAC's own code.
        out: New folder.
        size: For tokenizers: edge of the images or frames in pixels. Default: 256.
        data: For tokenizers: folder of pictures, sounds or videos for vqdit reconstruct. Default:
            pictures, recordings, or videos.
        tokenizer: For DiTs: workdir of the imported tokenizer on whose latents the DiT was trained.
        scaling_factor: For DiTs: factor by which latents are multiplied. Default: 0.18215.
        kind: For DiT checkpoints: dit, or sit for SiT, which has the same parameter names. Default:
            dit.
        heads: For DiT checkpoints: number of attention heads, needed if the width is none of the
            published sizes.
        seconds: For audio codecs: longest duration of a recording in seconds, in data sets and in
            DiTs that generate the codes. Default: 30.
        frames: For video tokenizers: number of frames of each clip in data sets. Default: 17.
    """
    for option, value in (("kind", kind), ("heads", heads)):
        if value is not None and Path(source).is_dir():
            raise ValueError(
                f"--{option} is only for checkpoints, and {source} is a folder, which has this "
                f"value in config.json; leave --{option} out"
            )

    from vqdit import pretrained
    from vqdit.modalities import Audio, Video
    from vqdit.pretrained import generator
    from vqdit.pretrained.codec import SECONDS
    from vqdit.pretrained.vidtok import FRAMES

    imported = pretrained.convert(
        source,
        size=size or pretrained.SIZE,
        kind=kind or "dit",
        heads=heads or 0,
        seconds=seconds or SECONDS,
        frames=frames or FRAMES,
    )
    is_dit = isinstance(imported, pretrained.Pretrained)
    if not is_dit:
        modality = imported.task.modality
        found = {Audio: "sounds", Video: "videos"}.get(type(modality), "pictures")
        for option, value, kinds in (
            ("size", size, ("pictures", "videos")),
            ("seconds", seconds, ("sounds",)),
            ("frames", frames, ("videos",)),
        ):
            if value is not None and found not in kinds:
                of = " or ".join(kinds)
                raise ValueError(
                    f"--{option} is for tokenizers of {of}, but {source} is for {found}; "
                    "leave it out"
                )
    of_tokenizer = {"size": size, "data": data, "seconds": seconds, "frames": frames}
    of_dit = {"tokenizer": tokenizer, "scaling-factor": scaling_factor}
    wanted, found = ("tokenizer", "DiT") if is_dit else ("DiT", "tokenizer")
    for option, value in (of_tokenizer if is_dit else of_dit).items():
        if value is not None:
            raise ValueError(
                f"--{option} is only for a {wanted}, but {source} is a {found}; leave it out"
            )
    folder = Path(out)
    if not isinstance(imported, pretrained.Pretrained):
        pretrained.write(imported, folder, pictures=data or "", option="--out")
        _print_tokenizer(imported)
    elif tokenizer is None:
        raise ValueError(
            f"{source} is a DiT and needs the tokenizer on whose latents it was trained; add "
            "--tokenizer=WORKDIR, which `vqdit import VAE --out=WORKDIR` makes"
        )
    else:
        scaling = generator.SCALING if scaling_factor is None else scaling_factor
        generator.write(
            imported,
            folder,
            tokenizer=tokenizer,
            scaling=scaling,
            pictures=data or "pictures",
            option="--out",
        )
        _print_dit(imported)
    print(f"  workdir: {folder}")
    return 0


def _print_tokenizer(imported: Any) -> None:
    from vqdit.modalities import Audio

    task = imported.task
    sizes = task.codebook_sizes
    tokens = f"codes of {sizes[0]:,}, {task.dim} dimensions" if sizes else ""
    tokens = tokens or f"latents of {task.dim} channels"
    print(f"{type(task.model).__name__}, {_count(imported.params):,} parameters: {tokens}")
    if isinstance(task.modality, Audio):
        rate, channels = task.modality.rate, "stereo" if task.channels > 1 else "mono"
        bits = sum(math.log2(size) for size in sizes)
        per_second = rate / task.model.downsampling
        print(
            f"  {rate:,} Hz, {channels}, {per_second:g} tokens per second of {len(sizes)} codes: "
            f"{bits * per_second / 1000:.3g} kbit/s"
        )
        return
    *frames, height, width = task.modality.grid
    clip = f"{frames[0]} frames of " if frames else ""
    print(f"  {clip}{height}x{width} pixels, grid {'x'.join(map(str, task.grid))}")


def _print_dit(imported: Any) -> None:
    image, label = imported.inputs["image"], imported.inputs["label"]
    print(f"DiT, {_count(imported.params):,} parameters, {label.codes:,} classes")
    print(
        f"  latents {'x'.join(map(str, image.grid))}, {image.width} channels; "
        f"{type(imported.process).__name__}"
    )


def _count(params: Any) -> int:
    from vqdit.runs.array_trees import flatten

    return sum(leaf.size for leaf in flatten(params).values())
