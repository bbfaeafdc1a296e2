"""Metrics: accumulators of sums, which are added over batches and devices."""

from vqdit.metrics.audio import si_sdr
from vqdit.metrics.base import Mean, Metrics, compute, merge
from vqdit.metrics.codebook import COUNTABLE, BitRate, CodeUse, codebook_health
from vqdit.metrics.reconstruction import SSIM_WINDOW, psnr, ssim
from vqdit.metrics.video import flicker, frame_psnr, frame_ssim

__all__ = [
    "COUNTABLE", "SSIM_WINDOW", "BitRate", "CodeUse", "Mean", "Metrics", "codebook_health",
    "compute", "flicker", "frame_psnr", "frame_ssim", "merge", "psnr", "si_sdr", "ssim",
]  # fmt: skip
