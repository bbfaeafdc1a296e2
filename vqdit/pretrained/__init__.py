"""Public tokenizers and DiTs: their weights as ours, in memory or as a workdir.

>>> import vqdit
>>> tokenizer = vqdit.pretrained.load("vae")  # a folder of diffusers  # doctest: +SKIP
>>> latents = tokenizer.encode(images)  # float32 [b, h, w, 3] in [-1, 1]  # doctest: +SKIP
>>> dit = vqdit.pretrained.load("DiT-XL-2-256x256.pt")  # doctest: +SKIP
>>> prediction = dit.apply(latents, 500, labels)  # doctest: +SKIP
"""

from pathlib import Path

from vqdit.config import Experiment
from vqdit.data import Data, ImageFolder
from vqdit.inference.tokenizer import Tokenizer
from vqdit.pretrained import diffusers, diffusers_dit, dit, llamagen, taming
from vqdit.pretrained.archive import read_tensors
from vqdit.pretrained.dit import Kind
from vqdit.pretrained.layout import Imported, PretrainedMismatch
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
"""Edge of the images, unless the caller says otherwise: weights do not tell it."""


def load(
    path: str | Path, *, size: int = SIZE, kind: Kind = "dit", heads: int = 0
) -> Tokenizer | Denoiser:
    """Returns a public tokenizer, as `vqdit.load` returns one of a workdir, or a public DiT.

    A tokenizer's `encode` takes images float32 [b, h, w, c] in [-1, 1] of any size that divides, or
    uint8 ones of `size`, and gives codes int32 [b, y, x, 1] or latents float32 [b, y, x, d], the
    posterior's mean; `decode` gives images float32, about [-1, 1], or uint8 with
    `standardized=False`. A DiT's `apply(x, t, labels)` is the original's forward pass, channels
    last.

    Args:
        path: a folder of diffusers with a VQModel, an AutoencoderKL or a DiTTransformer2DModel; a
            checkpoint of taming-transformers or latent-diffusion (also a whole LDM), of LlamaGen's
            VQ, of DiT or of SiT.
        size: edge of a tokenizer's images, in pixels.
        kind: "sit" if it is a checkpoint of SiT, which has the very names of DiT.
        heads: of the attention of such a checkpoint; 0 takes those of the published size.

    Raises:
        FileNotFoundError: there is no such path.
        PretrainedMismatch: tensors are missing, left over, or of another shape.
        ValueError: it is none of these, or cannot be imported.
    """
    found = convert(path, size=size, kind=kind, heads=heads)
    if isinstance(found, Pretrained):
        return Denoiser(found)
    task, params, stats = found
    restored = Restored(Experiment(task=task), task, params, stats, {}, 0)
    return Tokenizer(restored, standardized=True)


def convert(
    path: str | Path, *, size: int = SIZE, kind: Kind = "dit", heads: int = 0
) -> Imported | Pretrained:
    """Returns the task and arrays of a public tokenizer, or the network of a DiT; see `load`."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file or folder {path}")
    if path.is_dir():
        if diffusers.is_diffusers(path):
            if diffusers_dit.is_dit(path):
                return diffusers_dit.convert(path)
            return diffusers.convert(path, size)
        inner = sorted(found.name for found in path.glob("*/") if diffusers.is_diffusers(found))
        hint = f"; give one of its folders {', '.join(inner)}" if inner else ""
        raise ValueError(f"{path} is no model of diffusers: no config.json that names one{hint}")
    tensors = read_tensors(path)
    if dit.is_dit(tensors):
        return dit.convert(tensors, kind=kind, heads=heads)
    for source, is_source in ((llamagen, llamagen.is_llamagen), (taming, taming.is_taming)):
        if is_source(tensors):
            return source.convert(tensors, size)
    names = ", ".join(list(tensors)[:3])
    raise ValueError(
        f"{path} is nothing that is known here: its tensors are called {names}, ...; known are "
        "taming-transformers, latent-diffusion, LlamaGen, DiT and SiT, and folders of diffusers"
    )


def write(
    imported: Imported, folder: Path, *, pictures: str = "pictures", option: str = "folder"
) -> Path:
    """Writes a workdir that `vqdit.load`, `vqdit reconstruct` and a DiT's `tokenizer` take.

    Args:
        imported: what `convert` returned.
        folder: a new one, or an empty one.
        pictures: folder of images that the workdir's experiment names as its data.
        option: what the caller chooses another folder by, for messages.

    Raises:
        ValueError: there is a run in the folder.
        OSError: it cannot be written.
    """
    task, params, stats = imported
    source = ImageFolder(path=pictures, size=task.modality.grid[0], channels=task.modality.channels)
    experiment = Experiment(task=task, data=Data(source=source))
    task, frozen = task.load(_nothing, lambda: ())
    run = Restored(experiment, task, params, stats, frozen, 0)
    restoring.write_run(folder, run, option=option)
    return folder


def _nothing(name: str) -> Trained:
    raise ValueError(f"a tokenizer refers to nothing, asked for {name!r}")
