"""Discrete processes by their transition matrices, in NumPy and float64."""

import numpy as np
import pytest

from vqdit.processes import MaskAndReplace, Masked, UniformState

K = 3
PROCESSES = [
    pytest.param(Masked(), id="Masked"),
    pytest.param(Masked(schedule="cosine"), id="Masked-cosine"),
    pytest.param(UniformState(codes=K), id="UniformState"),
    pytest.param(UniformState(codes=K, schedule="cosine"), id="UniformState-cosine"),
    pytest.param(MaskAndReplace(codes=K, mask=0.6, auxiliary=0.0), id="MaskAndReplace"),
    pytest.param(
        MaskAndReplace(codes=K, mask=0.9, schedule="cosine", auxiliary=0.0), id="MaskAndReplace-cos"
    ),
]


def mask_share(process):
    return 1.0 if isinstance(process, Masked) else process.mask_share


def transition(process, t, k=K):
    """q(x_t | x_0) as a matrix over k codes and the mask, which is never left."""
    n = t if process.schedule == "linear" else np.sin(np.pi / 2 * t)
    m = mask_share(process)
    q = np.zeros((k + 1, k + 1))
    q[:k, :k] = (1.0 - n) * np.eye(k) + (1.0 - m) * n / k
    q[:k, k] = m * n
    q[k, k] = 1.0
    return q


def softmax(x):
    p = np.exp(np.asarray(x, np.float64))
    return p / p.sum(axis=-1, keepdims=True)
