"""Floating-point operations (FLOPs) of programs; a multiply-add counts as two.

*Model FLOPs* exclude recomputation, which saves memory but is not useful work. Chowdhery et al.,
"PaLM", arXiv:2204.02311, appendix B.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import jaxprs_in_params

from vqdit.parallel.target_platform import counted


def model_flops(function: Callable[..., Any], *args: Any) -> float:
    """Returns the model FLOPs of a function, whose arguments are arrays, or shapes and dtypes.

    Recomputation of network blocks is excluded; recomputation in searches of large codebooks is
    included.
    """

    def fresh(*args: Any) -> Any:  # a new function, as JAX caches traces for a device
        return function(*args)

    with counted():
        return count_flops(jax.make_jaxpr(fresh)(*args).jaxpr)


def count_flops(jaxpr: Any) -> float:
    """Returns the FLOPs of all matrix products and convolutions in a jaxpr, including repetitions.

    For a conditional, the most expensive branch is counted. Pallas kernels are counted once per
    block of their grid. Kernels that are not written in JAX, such as those of cuDNN, are not
    counted.
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
