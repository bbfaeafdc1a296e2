"""Imports LlamaGen's VQ checkpoints: VQGANs whose codes are unit vectors of low dimension.

Sun et al., "Autoregressive Model Beats Diffusion", arXiv:2406.06525, section 2.1: 16,384 codes of 8
dimensions, normalised before they are compared, with 8- or 16-fold downsampling.
"""

from collections.abc import Mapping

from vqdit.pretrained.layout import Imported, Names, build, nearest
from vqdit.pretrained.stored import Stored

NAMES = Names(
    block=("conv_blocks.{level}.res.{number}", "conv_blocks.{rising}.res.{number}"),
    attention=("conv_blocks.{level}.attn.{number}", "conv_blocks.{rising}.attn.{number}"),
    resample=("conv_blocks.{level}.downsample.conv", "conv_blocks.{rising}.upsample.conv"),
    middle=("mid.0", "mid.1", "mid.2"),
    norm="norm_out",
    shortcut="nin_shortcut",
    attention_parts=("norm", "q", "k", "v", "proj_out"),
)
CODEBOOK = "quantize.embedding.weight"
USED = "quantize.codebook_used"
"""A record of recently used codes, which is used only in training."""


def is_llamagen(tensors: Mapping[str, Stored]) -> bool:
    """Returns whether the tensors have the names of LlamaGen's tokenizer."""
    return any(name.startswith("encoder.conv_blocks.0.") for name in tensors)


def convert(tensors: Mapping[str, Stored], size: int) -> Imported:
    """Returns the tokenizer of a checkpoint.

    Args:
        tensors: tensors of the checkpoint.
        size: edge of the images in pixels.

    Raises:
        PretrainedMismatch: if tensors are missing, unexpected or of another shape.
    """
    tensors = {name: tensor for name, tensor in tensors.items() if name != USED}
    model = NAMES.infer(tensors)
    codebook = nearest(tensors, CODEBOOK, is_cosine=True)
    return build(model, NAMES, tensors, size=size, codebook=codebook)
