"""The mesh, the rule of shapes, and global batches, on 8 fake devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from vqdit import parallel
from vqdit.parallel import Mesh

pytestmark = pytest.mark.usefixtures("eight_devices")


@pytest.mark.parametrize(
    ("mesh", "shape"),
    [
        (Mesh(), (8, 1, 1)),
        (Mesh(fsdp=4), (2, 4, 1)),
        (Mesh(data=2, fsdp=2, tensor=2), (2, 2, 2)),
        (Mesh(tensor=2), (4, 1, 2)),
    ],
)
def test_the_mesh_takes_all_devices(mesh, shape):
    assert tuple(mesh.build().shape.values()) == shape


@pytest.mark.parametrize("mesh", [Mesh(fsdp=3), Mesh(data=3), Mesh(data=8, fsdp=2), Mesh(tensor=3)])
def test_a_mesh_that_does_not_fit_is_refused(mesh):
    with pytest.raises(ValueError, match="does not fit 8 devices"):
        mesh.build()


@pytest.mark.parametrize("fields", [{"fsdp": 0}, {"data": 0}, {"data": -2}, {"tensor": 0}])
def test_bad_fields_are_refused(fields):
    with pytest.raises(ValueError, match="Mesh needs"):
        Mesh(**fields)


def test_large_arrays_are_split_along_their_largest_axis_that_divides():
    shapes = {
        "small": (255, 256),
        "tall": (512, 256),
        "wide": (256, 512),
        "square": (256, 256),
        "odd": (1001, 256),
        "prime": (1009, 1013),
        "scalar": (),
    }
    abstract = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    found = parallel.of_state(abstract, Mesh(fsdp=8).build())
    expected = {
        "small": PartitionSpec(),
        "tall": PartitionSpec("fsdp", None),
        "wide": PartitionSpec(None, "fsdp"),
        "square": PartitionSpec(None, "fsdp"),
        "odd": PartitionSpec(None, "fsdp"),
        "prime": PartitionSpec(),
        "scalar": PartitionSpec(),
    }
    assert {name: layout.spec for name, layout in found.items()} == expected


def test_without_fsdp_everything_is_replicated():
    found = parallel.of_state(jax.ShapeDtypeStruct((4096, 4096), jnp.float32), Mesh().build())
    assert found.spec == PartitionSpec()


def test_a_batch_is_split_over_all_devices_in_order():
    mesh = Mesh(fsdp=4).build()
    rows = np.arange(16).reshape(16, 1)
    batch = parallel.put_batch({"x": rows}, mesh)["x"]
    np.testing.assert_array_equal(batch, rows)
    assert [shard.data.shape for shard in batch.addressable_shards] == [(2, 1)] * 8


@pytest.mark.parametrize(("size", "near"), [(12, "8 or 16"), (3, "8"), (17, "16 or 24")])
def test_a_batch_that_does_not_divide_names_the_nearest(size, near):
    with pytest.raises(
        ValueError, match=f"batch_size {size} is not divisible .*nearest possible sizes are {near}"
    ):
        parallel.check_batch(size, Mesh().build())


def test_a_compiled_step_keeps_the_layout_and_donates():
    mesh = Mesh(fsdp=8).build()
    state = parallel.create(lambda: {"w": jnp.ones((512, 256))}, mesh)
    step = parallel.compile_step(lambda s, x: ({"w": s["w"] + x}, x), state)
    layout = state["w"].sharding
    new, _ = step(state, 1.0)
    assert state["w"].is_deleted()
    assert new["w"].sharding == layout
    np.testing.assert_array_equal(new["w"], jnp.full((512, 256), 2.0))
