"""Compiles functions for a mesh; results are sharded by the layout rules.

Functions are written for one device. Under `jax.jit` on global arrays, their sums are global.
"""

import hashlib
import logging
import os
import platform
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax

from vqdit.parallel.layout import of_state, replicated
from vqdit.parallel.target_platform import compiled_for

T = TypeVar("T")
log = logging.getLogger(__name__)


def use_compilation_cache() -> None:
    """Caches compiled programs in the user's cache folder, so that resumed runs need not compile.

    Compiled programs are machine code that will be executed. They are read only from this folder,
    which no other user may access, and never from a workdir. There is a folder per kind of
    processor. If JAX's own setting names a folder, that folder is used.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # pyright: ignore[reportAttributeAccessIssue]
        return
    try:
        given = Path(os.environ.get("XDG_CACHE_HOME", ""))  # relative paths are ignored
        base = given if given.is_absolute() else Path.home() / ".cache"
        folder = base / "vqdit" / f"compiled-{os.getuid()}-{_processor()}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        is_private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
        if not is_private or found.st_uid != os.getuid():
            raise OSError(
                f"{folder} must be a folder that only its user can read and write; correct its "
                "permissions"
            )
    except (OSError, RuntimeError) as error:  # for example, without a home folder
        log.warning("compiled programs are not cached: %s", error)
    else:
        jax.config.update("jax_compilation_cache_dir", str(folder))


def _processor() -> str:
    """Returns eight digits that identify the kind of processor, for the name of the cache."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = [platform.processor()]
    kinds = sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    kind = "\n".join([platform.system(), platform.machine(), *(kinds or lines[:1])])
    return hashlib.sha256(kind.encode()).hexdigest()[:8]


def abstract(function: Callable[..., T], mesh: jax.sharding.Mesh, *args: Any) -> T:
    """Returns shapes, dtypes and shardings of a function's results, without computing them."""
    shapes = jax.eval_shape(function, *args)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        of_state(shapes, mesh),
    )


def create(function: Callable[..., T], mesh: jax.sharding.Mesh, *args: Any) -> T:
    """Computes `function` with sharded results, which are never whole on one device."""
    shardings = of_state(jax.eval_shape(function, *args), mesh)
    # It runs only once: on a CPU, full optimisation would take ten times as long as the run.
    is_cpu = mesh.devices.flat[0].platform == "cpu"
    options = {"xla_backend_optimization_level": 0} if is_cpu else None
    return jax.jit(function, out_shardings=shardings, compiler_options=options)(*args)


def compile_step(function: Callable[..., Any], state: Any) -> Callable[..., Any]:
    """Compiles (state, ...) -> (state, metrics); the state is donated and keeps its layout."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    mesh = jax.tree.leaves(shardings)[0].mesh
    return jax.jit(_for(function, mesh), donate_argnums=0, out_shardings=(shardings, None))


def compile_on(function: Callable[..., T], mesh: jax.sharding.Mesh) -> Callable[..., T]:
    """Compiles a function for the devices of the mesh; the arguments determine the layout."""
    return jax.jit(_for(function, mesh))


def compile_whole(function: Callable[..., T], mesh: jax.sharding.Mesh) -> Callable[..., T]:
    """Compiles a function with replicated results, such as metrics that every process reads."""
    return jax.jit(_for(function, mesh), out_shardings=replicated(mesh))


def _for(function: Callable[..., T], mesh: jax.sharding.Mesh) -> Callable[..., T]:
    """Returns a function that traces `function` for the devices of the mesh."""

    def traced(*args: Any) -> T:
        with compiled_for(mesh):
            return function(*args)

    return traced
