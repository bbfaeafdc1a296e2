"""Imports public image tokenizers, audio codecs and DiTs, into memory or as a workdir.

>>> import vqdit
>>> tokenizer = vqdit.pretrained.load("vae")  # a diffusers folder  # doctest: +SKIP
>>> latents = tokenizer.encode(images)  # float32 [b, h, w, 3] in [-1, 1]  # doctest: +SKIP
>>> dit = vqdit.pretrained.load("DiT-XL-2-256x256.pt")  # doctest: +SKIP
>>> prediction = dit.apply(latents, 500, labels)  # doctest: +SKIP
"""

import dataclasses
from pathlib import Path
from typing import get_args

from vqdit import rules
from vqdit.config import Experiment
from vqdit.data import AudioFolder, Data, ImageFolder, Source, VideoFolder
from vqdit.files import local_path
from vqdit.inference.tokenizer import Tokenizer
from vqdit.modalities import Audio, Modality, Video
from vqdit.precision import in_32_bits
from vqdit.pretrained import (
    dac,
    diffusers,
    diffusers_config,
    diffusers_dit,
    dit,
    llamagen,
    taming,
    torch_files,
    transformers_codecs,
    vidtok,
)
from vqdit.pretrained.archive import read_tensors
from vqdit.pretrained.codec import SECONDS
from vqdit.pretrained.dit import Kind
from vqdit.pretrained.layout import Imported
from vqdit.pretrained.mismatch import PretrainedMismatch
from vqdit.pretrained.stored import escaped
from vqdit.pretrained.transformer import Denoiser, Pretrained
from vqdit.runs import restoring
from vqdit.runs.restoring import Restored
from vqdit.tasks import Trained

__all__ = [
    "Denoiser",
    "Imported",
    "Pretrained",
    "PretrainedMismatch",
    "convert",
    "load",
    "write",
]

SIZE = 256
"""Default edge of the images in pixels, which cannot be inferred from weights."""
LARGEST = 2**14
"""Largest edge of the images in pixels."""


@in_32_bits
def load(
    path: str | Path,
    *,
    size: int = SIZE,
    kind: Kind = "dit",
    heads: int = 0,
    seconds: float = SECONDS,
    frames: int = vidtok.FRAMES,
) -> Tokenizer | Denoiser:
    """Returns a public tokenizer or a public DiT.

    A tokenizer is returned as a `Tokenizer`, as `vqdit.load` does for a workdir. Its `encode` takes
    float32 images [b, h, w, c] in [-1, 1] of any size that is a multiple of the downsampling
    factor, or uint8 images of `size`. It returns int32 codes [b, y, x, 1] or the float32 posterior
    mean [b, y, x, d]. `decode` returns float32 images in about [-1, 1], or uint8 images with
    `standardized=False`. A tokenizer of clips takes float32 [b, f, h, w, c] and has tokens
    [b, g, y, x, 1] or [b, g, y, x, d]; f is 1 + n s for a stride of s in time.

    The `encode` of a codec of sounds takes recordings float32 [b, t] or [b, t, c] in [-1, 1], of
    any length t, at `rate` samples per second, and returns int32 codes [b, l, q]; `decode` returns
    float32 recordings [b, t, c].

    A DiT is returned as a `Denoiser`, whose `apply(x, t, labels)` is the forward pass of the
    original, with channels last.

    Args:
        path: a diffusers folder with a VQModel, an AutoencoderKL, a causal AutoencoderVidTok or a
            DiTTransformer2DModel; or a checkpoint of taming-transformers, latent-diffusion
            (including whole LDMs), LlamaGen's VQ tokenizer, DiT, SiT or DAC; or a folder of
            transformers with an EncodecModel, a DacModel or a MimiModel.
        size: edge of a tokenizer's images in pixels.
        kind: "sit" for a checkpoint of SiT, whose tensors have the same names as in DiT.
        heads: number of attention heads of a DiT or SiT checkpoint; 0 infers it for published
            sizes.
        seconds: duration of the longest recording in data sets, and for DiTs over the codes of a
            codec; arrays may have any length.
        frames: number of frames of each clip in data sets; arrays may have other numbers.

    Raises:
        FileNotFoundError: if the path does not exist.
        PretrainedMismatch: if tensors are missing, unexpected or of another shape.
        ValueError: if the format is unknown, or the model cannot be imported.
    """
    found = convert(path, size=size, kind=kind, heads=heads, seconds=seconds, frames=frames)
    if isinstance(found, Pretrained):
        return Denoiser(found)
    task, params, stats = found
    restored = Restored(Experiment(task=task), task, params, stats, {}, 0)
    return Tokenizer(restored, standardized=True)


@in_32_bits
def convert(
    path: str | Path,
    *,
    size: int = SIZE,
    kind: Kind = "dit",
    heads: int = 0,
    seconds: float = SECONDS,
    frames: int = vidtok.FRAMES,
) -> Imported | Pretrained:
    """Returns a public tokenizer as a task with arrays, or a public DiT; see `load`."""
    if kind not in get_args(Kind):
        raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}, got {kind!r}")
    rules.check(rules.Integer(1, LARGEST), size=size)
    rules.check(rules.Integer(0), heads=heads)
    rules.check(rules.Integer(1, LARGEST), frames=frames)
    rules.check(rules.finite, seconds=seconds)
    path = local_path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file or folder {path}")
    if path.is_dir():
        config = diffusers_config.read(path)
        if config is not None:
            if diffusers_dit.is_dit(config):
                return diffusers_dit.convert(path, config)
            if vidtok.is_vidtok(config):
                return vidtok.convert(path, config, size, frames)
            return diffusers.convert(path, config, size)
        codec = transformers_codecs.read(path)
        if codec is not None:
            return _up_to(seconds, transformers_codecs.convert(path, codec))
        inner = sorted(
            escaped(found.name) for found in path.glob("*/") if diffusers_config.read(found)
        )
        hint = (
            f"choose one of its folders: {', '.join(inner)}" if inner else "choose another folder"
        )
        raise ValueError(
            f"{path} is not a model of diffusers or transformers: it has no config.json with a "
            f"_class_name or a model_type; {hint}"
        )
    tensors = read_tensors(path)
    if dit.is_dit(tensors):
        return dit.convert(tensors, kind=kind, heads=heads)
    if dac.is_dac(tensors):
        return _up_to(seconds, dac.convert_original(tensors, torch_files.metadata(path)))
    for source, is_source in ((llamagen, llamagen.is_llamagen), (taming, taming.is_taming)):
        if is_source(tensors):
            return source.convert(tensors, size)
    names = ", ".join(list(tensors)[:3])
    raise ValueError(
        f"{path} has an unknown format, with tensors such as {names}; use a checkpoint of "
        "taming-transformers, latent-diffusion, LlamaGen, DiT, SiT or DAC, or a folder of "
        "diffusers or transformers"
    )


def _up_to(seconds: float, imported: Imported) -> Imported:
    """Returns a codec whose longest recording has this duration."""
    modality = dataclasses.replace(imported.task.modality, seconds=(0.0, seconds))
    return imported._replace(task=dataclasses.replace(imported.task, modality=modality))


@in_32_bits
def write(imported: Imported, folder: Path, *, pictures: str = "", option: str = "folder") -> Path:
    """Writes a workdir for `vqdit.load`, `vqdit reconstruct` and the `tokenizer` field of a DiT.

    Args:
        imported: a tokenizer returned by `convert`.
        folder: a new or empty folder.
        pictures: folder of images, sounds or videos, which becomes the data of the workdir's
            experiment; empty means the folder `pictures`, `recordings` or `videos`, whichever fits
            the tokenizer.
        option: name of the option that sets the folder, for error messages.

    Raises:
        ValueError: if the folder already contains a run.
        OSError: if the folder cannot be written.
    """
    task, params, stats = imported
    experiment = Experiment(task=task, data=Data(source=_source(task.modality, pictures)))
    task, frozen = task.load(_nothing, lambda: ())
    run = Restored(experiment, task, params, stats, frozen, 0)
    restoring.write_run(folder, run, option=option)
    return folder


def _source(modality: Modality, folder: str) -> Source:
    if isinstance(modality, Audio):
        return AudioFolder(path=folder or "recordings", audio=modality)
    if isinstance(modality, Video):
        return VideoFolder(path=folder or "videos", video=modality)
    size, channels = modality.grid[0], modality.channels
    return ImageFolder(path=folder or "pictures", size=size, channels=channels)


def _nothing(name: str) -> Trained:
    raise ValueError(f"an imported tokenizer cannot use another run, but asks for the run {name!r}")
