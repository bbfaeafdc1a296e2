"""Losses of tokenizers; those of diffusion belong to their process."""

from vqdit.losses.reconstruction import l1, l2

__all__ = ["l1", "l2"]
