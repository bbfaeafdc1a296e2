"""Accelerators of other machines, as targets of their compilers."""

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
"""Properties of GPUs for the CUDA compiler, in addition to `vqdit.profiling.accelerators`."""
TPUS = {"v4": "TPU v4", "v5e": "TPU v5 lite", "v5p": "TPU v5", "v6e": "TPU v6 lite"}
"""The name of a TPU in `vqdit.profiling.accelerators`, by the first word of its topologies."""

MOST_CHIPS = 16_384
"""An upper bound of the number of chips, which no TPU reaches."""


def parse(target: str) -> tuple[str, str, int]:
    """Returns the kind of chip, the size as written, and the number of chips of a target.

    Raises:
        ValueError: the target is invalid.
    """
    kind, _, size = target.partition(":")
    is_tpu = re.fullmatch(r"v[0-9]\w*", kind, re.ASCII) is not None
    if not (kind in GPUS or is_tpu) or not size:
        found = difflib.get_close_matches(kind, [*GPUS, *TPUS], n=1)
        hint = f"; did you mean {found[0]}:{'1' if found[0] in GPUS else '2x4'}?" if found else ""
        raise ValueError(
            f"unknown target {target!r}{hint}; give a TPU topology such as v5e:4x4 or "
            f"v6e:2x4, or GPUs: {', '.join(f'{name}:8' for name in GPUS)}"
        )
    is_size = re.fullmatch(r"[0-9]{1,5}(x[0-9]{1,5})*" if is_tpu else "[0-9]{1,5}", size)
    chips = math.prod(map(int, size.split("x"))) if is_size else 0
    if not 1 <= chips <= MOST_CHIPS:
        example = f"{kind}:4x4" if is_tpu else f"{kind}:8"
        raise ValueError(
            f"the target {target!r} must have from 1 to {MOST_CHIPS:,} chips, as in {example}"
        )
    return kind, size, chips


def chips_of(target: str) -> tuple[str, Chip, int]:
    """Returns the name of a target's chip, its peak rates and memory, and the number of chips.

    The compiler need not be installed, so some invalid topologies are accepted.

    Raises:
        ValueError: the target is unknown.
    """
    kind, _, chips = parse(target)
    if kind not in GPUS and kind not in TPUS:
        raise ValueError(f"unknown TPU {kind!r}; give one of: {', '.join(TPUS)}")
    name = GPUS[kind][0] if kind in GPUS else TPUS[kind]
    return name, chip_of(name), chips


def devices_of(target: str) -> list[Any]:
    """Returns the devices of a target, which need not be present."""
    kind, size, _ = parse(target)
    if kind in GPUS:
        return _gpus(kind, int(size))
    if not has("libtpu"):
        raise ImportError("the TPU compiler is not installed; run pip install 'vqdit[tpu]'")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # do not wait for metadata
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # allows parallel compilation
    # By default a host has 2 x 2 chips, which must be changed for a single chip.
    small = {"chips_per_host_bounds": [1, 1, 1]} if re.fullmatch(r"1(x1)*", size) else {}
    try:
        topology = topologies.get_topology_desc(platform="tpu", topology_name=target, **small)
    except Exception as error:
        why = str(error).partition("\n")[0]
        raise ValueError(
            f"the TPU compiler does not know the topology {target!r}: {why}"
        ) from error
    return list(topology.devices)


def _gpus(kind: str, count: int) -> list[Any]:
    name, (major, minor), cores, clock = GPUS[kind]
    chip = chip_of(name)
    if not has("jax_plugins.xla_cuda13"):
        raise ImportError("the GPU compiler is not installed; run pip install 'vqdit[cuda]'")
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")  # there is no driver
    jax.local_devices()  # JAX loads its compilers when it first lists devices
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
        raise ImportError(f"the GPU compiler cannot be used: {error}") from error
    return list(topology.devices)


def has(module: str) -> bool:
    """Returns whether a module is installed; this imports the package of the module."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def chip_of(kind: str) -> Chip:
    """Returns the peak rates and memory of a chip from JAX's `device_kind`."""
    chip = accelerators.find(kind)
    if chip is None:
        raise ValueError(f"unknown chip {kind!r}; give one of: {', '.join(accelerators.CHIPS)}")
    return chip
