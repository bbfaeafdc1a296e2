"""Accelerators that are not here, for which their own compilers compile all the same."""

import difflib
import importlib.util
import math
import os
import re
from typing import Any

import jax
from jax.experimental import topologies

from vqdit.profiling import accelerators
from vqdit.profiling.accelerators import Chip

GPUS = {
    # kind: compute capability, multiprocessors, clock in GHz
    "a100": ("NVIDIA A100", (8, 0), 108, 1.41),
    "h100": ("NVIDIA H100", (9, 0), 132, 1.98),
    "h200": ("NVIDIA H200", (9, 0), 132, 1.98),
}
"""What the CUDA compiler asks of a GPU beside what `vqdit.profiling.accelerators` has."""
TPUS = {"v4": "TPU v4", "v5e": "TPU v5 lite", "v5p": "TPU v5", "v6e": "TPU v6 lite"}
"""What `vqdit.profiling.accelerators` calls a TPU, by the first word of its topologies."""

MOST_CHIPS = 16_384
"""More than any TPU has."""


def parse(target: str) -> tuple[str, str, int]:
    """Returns the kind of chip that a target names, its size as it was written, and the chips.

    Raises:
        ValueError: it is no target.
    """
    kind, _, size = target.partition(":")
    is_tpu = re.fullmatch(r"v[0-9]\w*", kind, re.ASCII) is not None
    if not (kind in GPUS or is_tpu) or not size:
        found = difflib.get_close_matches(kind, [*GPUS, *TPUS], n=1)
        hint = f"; did you mean {found[0]}:{'1' if found[0] in GPUS else '2x4'}?" if found else ""
        raise ValueError(
            f"unknown target {target!r}{hint}; a TPU's topology such as v5e:4x4 or v6e:2x4, or "
            f"GPUs: {', '.join(f'{name}:8' for name in GPUS)}"
        )
    is_size = re.fullmatch(r"[0-9]{1,5}(x[0-9]{1,5})*" if is_tpu else "[0-9]{1,5}", size)
    chips = math.prod(map(int, size.split("x"))) if is_size else 0
    if not 1 <= chips <= MOST_CHIPS:
        example = f"{kind}:4x4" if is_tpu else f"{kind}:8"
        raise ValueError(
            f"the target {target!r} needs from 1 to {MOST_CHIPS:,} chips, such as {example}"
        )
    return kind, size, chips


def chips_of(target: str) -> tuple[str, Chip, int]:
    """Returns the name of a target's chip, its peak rates and memory, and the number of chips.

    Its compiler need not be installed, so not every topology that does not exist is refused.

    Raises:
        ValueError: the target is unknown.
    """
    kind, _, chips = parse(target)
    if kind not in GPUS and kind not in TPUS:
        raise ValueError(f"unknown TPU {kind!r}; known: {', '.join(TPUS)}")
    name = GPUS[kind][0] if kind in GPUS else TPUS[kind]
    return name, chip_of(name), chips


def devices_of(target: str) -> list[Any]:
    """Returns the devices of a target, which are not here."""
    kind, size, _ = parse(target)
    if kind in GPUS:
        return _gpus(kind, int(size))
    if not has("libtpu"):
        raise ImportError("the TPU's compiler is not installed: pip install 'vqdit[tpu]'")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # it would wait for a TPU's metadata server
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # others may compile beside this
    # A host has 2 x 2 chips unless it is told otherwise: a single one is.
    small = {"chips_per_host_bounds": [1, 1, 1]} if re.fullmatch(r"1(x1)*", size) else {}
    try:
        topology = topologies.get_topology_desc(platform="tpu", topology_name=target, **small)
    except Exception as error:
        why = str(error).partition("\n")[0]
        raise ValueError(f"the TPU's compiler has no topology {target!r}: {why}") from error
    return list(topology.devices)


def _gpus(kind: str, count: int) -> list[Any]:
    name, (major, minor), cores, clock = GPUS[kind]
    chip = chip_of(name)
    if not has("jax_plugins.xla_cuda13"):
        raise ImportError("the GPU's compiler is not installed: pip install 'vqdit[cuda]'")
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")  # there is no driver to ask
    jax.local_devices()  # JAX finds its compilers when it is first asked for devices
    description = f"""
        gpu_device_info {{
          threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
          shared_memory_per_block: 49152 shared_memory_per_core: 233472
          shared_memory_per_block_optin: 232448
          registers_per_core_limit: 65536 registers_per_block_limit: 65536
          block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
          core_count: {cores} fpus_per_core: 128 clock_rate_ghz: {clock}
          memory_bandwidth: {chip.bandwidth:.0f} device_memory_size: {chip.memory:.0f}
          l2_cache_size: 52428800
          cuda_compute_capability {{ major: {major} minor: {minor} }}
        }}
        platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 }}
        runtime_version {{ major: 13 }} device_description_str: "{name}"
    """
    try:
        topology = topologies.get_topology_desc(
            platform="cuda",
            topology_name=kind,
            target_config=description,
            topology=f"1x1x{count}",
        )
    except Exception as error:
        raise ImportError(f"the GPU's compiler cannot be used: {error}") from error
    return list(topology.devices)


def has(module: str) -> bool:
    """Returns whether a module is installed; looking for one imports the package that has it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def chip_of(kind: str) -> Chip:
    """Returns the peak rates and memory of a chip, by JAX's `device_kind`."""
    chip = accelerators.find(kind)
    if chip is None:
        raise ValueError(f"unknown chip {kind!r}; known: {', '.join(accelerators.CHIPS)}")
    return chip
