"""Compiling functions for a mesh, with results sharded by the layout rules.

Functions are written for one device; under `jax.jit` on global arrays their sums are global by
construction.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax

from vqdit.parallel.layout import of_state, replicated
from vqdit.parallel.target_platform import compiled_for

T = TypeVar("T")


def abstract(function: Callable[..., T], mesh: jax.sharding.Mesh, *args: Any) -> T:
    """Returns shapes, dtypes and shardings of a function's results, without computing them."""
    shapes = jax.eval_shape(function, *args)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        of_state(shapes, mesh),
    )


def create(function: Callable[..., T], mesh: jax.sharding.Mesh, *args: Any) -> T:
    """Computes `function` with its results sharded from the start, never whole on one device."""
    shardings = of_state(jax.eval_shape(function, *args), mesh)
    # It runs once: on a CPU, compiling it well would take ten times as long as running it.
    is_cpu = mesh.devices.flat[0].platform == "cpu"
    options = {"xla_backend_optimization_level": 0} if is_cpu else None
    return jax.jit(function, out_shardings=shardings, compiler_options=options)(*args)


def compile_step(function: Callable[..., Any], state: Any) -> Callable[..., Any]:
    """Compiles (state, ...) -> (state, metrics): the state keeps its layout and is donated."""
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
    """Returns the function, traced for the devices of the mesh."""

    def traced(*args: Any) -> T:
        with compiled_for(mesh):
            return function(*args)

    return traced
