"""Floating-point operations, counted from programs; a multiplication and an addition are two.

*Model FLOPs* are those of the mathematics: what is computed again to save memory is no achievement,
and does not count. Chowdhery et al., "PaLM", arXiv:2204.02311, appendix B.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import jaxprs_in_params

from vqdit.parallel.target_platform import counted


def model_flops(function: Callable[..., Any], *args: Any) -> float:
    """Returns the model FLOPs of a function of arrays, or of their shapes and dtypes.

    Blocks of networks are not recomputed; what quantizers compute again of a large codebook counts.
    """

    def fresh(*args: Any) -> Any:  # JAX would know what it traced before, for a device
        return function(*args)

    with counted():
        return count_flops(jax.make_jaxpr(fresh)(*args).jaxpr)


def count_flops(jaxpr: Any) -> float:
    """Returns the FLOPs of all matrix products and convolutions in a jaxpr, as often as they run.

    Of several branches the most expensive one counts. Kernels count what they do for each of their
    blocks; what is not written in JAX, such as those of cuDNN, is not seen.
    """
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            inner = math.prod(shape[axis] for axis in contracted)
            total += 2.0 * math.prod(equation.outvars[0].aval.shape) * inner
        elif equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            outputs = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
            each = 2.0 * math.prod(kernel) / outputs
            total += each * math.prod(equation.outvars[0].aval.shape)
        elif equation.primitive.name == "pallas_call":
            blocks = math.prod(equation.params["grid_mapping"].grid)
            total += blocks * count_flops(equation.params["jaxpr"])
        elif equation.primitive.name == "cond":
            total += max(count_flops(branch.jaxpr) for branch in equation.params["branches"])
        else:
            times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
            total += times * sum(map(count_flops, jaxprs_in_params(equation.params)))
    return total
