"""Metrics: accumulators whose leaves are sums, so that batches and devices merge by adding."""

from vqdit.metrics.base import Mean, Metrics, compute, merge
from vqdit.metrics.codebook import CodeUse
from vqdit.metrics.reconstruction import psnr

__all__ = ["CodeUse", "Mean", "Metrics", "compute", "merge", "psnr"]
