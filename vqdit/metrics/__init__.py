"""Metrics: accumulators of sums, which are added over batches and devices."""

from vqdit.metrics.audio import si_sdr
from vqdit.metrics.base import Mean, Metrics, compute, merge
from vqdit.metrics.codebook import COUNTABLE, BitRate, CodeUse, codebook_health
from vqdit.metrics.reconstruction import SSIM_WINDOW, psnr, ssim

__all__ = [
    "COUNTABLE", "SSIM_WINDOW", "BitRate", "CodeUse", "Mean", "Metrics", "codebook_health",
    "compute", "merge", "psnr", "si_sdr", "ssim",
]  # fmt: skip
