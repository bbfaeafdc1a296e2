"""The search for the nearest code: exact, chunked, blocked, sharded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.quantizers.nearest import chunked, nearest


def brute_force(z, codebook):
    distance = ((z[:, None].astype(np.float64) - codebook[None]) ** 2).sum(-1)
    return distance.argmin(1)


@pytest.mark.parametrize(
    ("count", "size", "shards"), [(40, 2500, 1), (1300, 520, 1), (40, 2400, 4)]
)
def test_is_the_brute_force_answer_over_chunks_blocks_and_shards(count, size, shards):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(count, 5)).astype(np.float32)
    codebook = rng.normal(size=(size, 5)).astype(np.float32)
    found = nearest(jnp.asarray(z), jnp.asarray(codebook), shards)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, brute_force(z, codebook))


@pytest.mark.parametrize("shards", [1, 2])
def test_ties_go_to_the_lowest_id_across_chunks_and_shards(shards):
    codebook = jnp.zeros((2100, 2)).at[0].set(9.0)
    np.testing.assert_array_equal(nearest(jnp.zeros((3, 2)), codebook, shards), [1, 1, 1])


def test_nan_gives_an_id_of_the_codebook():
    z = jnp.asarray([[jnp.nan, 0.0], [1.0, 1.0]])
    found = nearest(z, jnp.asarray([[0.0, 0.0], [1.0, 1.0]]))
    assert 0 <= found[0] < 2 and found[1] == 1


def test_memory_does_not_grow_with_the_codebook():
    def temporary(size):
        shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((16384, 8), (size, 8))]
        compiled = jax.jit(nearest)
        return compiled.lower(*shapes).compile().memory_analysis().temp_size_in_bytes

    codebook = 262144 * 8 * 4
    assert temporary(262144) < temporary(16384) + 3 * codebook  # copies of the codebook, no more


def test_chunks_are_filled_up_and_shards_must_divide():
    view = chunked(jnp.arange(10.0), 2, 3, fill=-1.0)
    np.testing.assert_array_equal(view, [[[0, 1, 2], [5, 6, 7]], [[3, 4, -1], [8, 9, -1]]])
    with pytest.raises(ValueError, match="10 codes cannot be divided equally among 3 shards"):
        chunked(jnp.arange(10.0), 3, 3)
