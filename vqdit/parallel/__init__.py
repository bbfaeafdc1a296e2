"""Support for several devices and processes: mesh, layouts, compilation, placement of arrays."""

from vqdit.parallel.compilation import (
    abstract,
    compile_on,
    compile_step,
    compile_whole,
    create,
    use_compilation_cache,
)
from vqdit.parallel.constraints import activations, per_device, several_weights, weights
from vqdit.parallel.distributed import all_agree, process, together
from vqdit.parallel.layout import of_state, one_device, over_batch, replicated
from vqdit.parallel.mesh import Mesh, check_batch, divisible, of_process
from vqdit.parallel.placement import host, put_batch, put_examples, put_replicated

__all__ = [
    "Mesh",
    "abstract",
    "activations",
    "all_agree",
    "check_batch",
    "compile_on",
    "compile_step",
    "compile_whole",
    "create",
    "divisible",
    "host",
    "of_process",
    "of_state",
    "one_device",
    "over_batch",
    "per_device",
    "process",
    "put_batch",
    "put_examples",
    "put_replicated",
    "replicated",
    "several_weights",
    "together",
    "use_compilation_cache",
    "weights",
]
