"""Imports VQGAN checkpoints of taming-transformers and latent-diffusion, also from whole LDMs.

Esser et al., arXiv:2012.09841; Rombach et al., arXiv:2112.10752. The architecture is inferred from
the names and shapes of the tensors, so no YAML file is needed. The weights of the losses are not
imported. (Unless `legacy=False`, both projects apply beta to the codebook loss instead of the
commitment loss.)

For a VQGAN with Gumbel softmax (`GumbelVQ`), taming samples codes even at inference; `encode` here
returns the most probable codes.
"""

from collections.abc import Mapping

from vqdit.pretrained.layout import Imported, Names, build, gumbel, nearest
from vqdit.pretrained.mismatch import size_of
from vqdit.pretrained.stored import Stored

NAMES = Names(
    block=("down.{level}.block.{number}", "up.{level}.block.{number}"),
    attention=("down.{level}.attn.{number}", "up.{level}.attn.{number}"),
    resample=("down.{level}.downsample.conv", "up.{level}.upsample.conv"),
    middle=("mid.block_1", "mid.attn_1", "mid.block_2"),
    norm="norm_out",
    shortcut="nin_shortcut",
    attention_parts=("norm", "q", "k", "v", "proj_out"),
)
FIRST_STAGE = "first_stage_model."
CODEBOOK = "quantize.embedding.weight"
GUMBEL_CODEBOOK, GUMBEL_LOGITS = "quantize.embed.weight", "quantize.proj"
EMA = tuple(f"quantize.embedding.{name}" for name in ("cluster_size", "embed_avg"))
TRAINING = ("loss.", "model_ema.", *EMA)
"""Prefixes of tensors used only in training: losses, averages and codebook statistics."""


def is_taming(tensors: Mapping[str, Stored]) -> bool:
    """Returns whether tensors have the names of taming or latent-diffusion, also inside an LDM."""
    return any(name.startswith(("encoder.down.0.", FIRST_STAGE)) for name in tensors)


def convert(tensors: Mapping[str, Stored], size: int) -> Imported:
    """Returns the tokenizer of a checkpoint: with a quantizer if it has a codebook, else with KL.

    Args:
        tensors: tensors of the checkpoint.
        size: edge of the images in pixels.

    Raises:
        PretrainedMismatch: if tensors are missing, unexpected or of another shape.
    """
    if any(name.startswith(FIRST_STAGE) for name in tensors):
        tensors = {
            name.removeprefix(FIRST_STAGE): tensor
            for name, tensor in tensors.items()
            if name.startswith(FIRST_STAGE)
        }
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(TRAINING)}
    model = NAMES.infer(tensors)
    if any(name.startswith((GUMBEL_CODEBOOK, GUMBEL_LOGITS)) for name in tensors):
        codebook = gumbel(tensors, codes=GUMBEL_CODEBOOK, logits=GUMBEL_LOGITS)
        return build(model, NAMES, tensors, size=size, codebook=codebook)
    if CODEBOOK in tensors or not model.double_z:
        return build(model, NAMES, tensors, size=size, codebook=nearest(tensors, CODEBOOK))
    last = "post_quant_conv.weight" if model.quant_conv else "decoder.conv_in.weight"
    return build(model, NAMES, tensors, size=size, dim=size_of(tensors, last, 1))
