"""Metrics: accumulators of sums, which are added over batches and devices."""

from vqdit.metrics.base import Mean, Metrics, compute, merge
from vqdit.metrics.codebook import COUNTABLE, CodeUse, codebook_health
from vqdit.metrics.reconstruction import SSIM_WINDOW, psnr, ssim

__all__ = [
    "COUNTABLE", "SSIM_WINDOW", "CodeUse", "Mean", "Metrics", "codebook_health", "compute", "merge",
    "psnr", "ssim",
]  # fmt: skip
