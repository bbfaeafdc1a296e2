"""Key streams: named, independent of order, and the same for ever."""

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.random import per_example, stream, streams


def words(key):
    return np.asarray(jax.random.key_data(key)).tolist()


def test_a_named_stream_is_what_it_always_was():
    assert words(stream(jax.random.key(0), "noise")) == [1747478164, 2027742425]
    assert words(stream(jax.random.key(0), "time")) == [227206379, 986076262]


def test_a_stream_does_not_depend_on_those_before_it():
    key = jax.random.key(7)
    alone = words(stream(key, "b"))
    assert words(stream(key, "a")) != alone
    assert words(stream(key, "b")) == alone


def test_every_name_and_every_key_has_a_stream_of_its_own():
    names = ("noise", "time", "drop", "mask", "order")
    found = {tuple(words(stream(jax.random.key(seed), name))) for seed in (0, 1) for name in names}
    assert len(found) == 10


def test_the_key_of_an_example_depends_on_its_index_alone(key):
    index = jnp.asarray([5, 0, 3])
    keys = words(per_example(key, index))
    assert keys == [words(jax.random.fold_in(key, number)) for number in (5, 0, 3)]
    assert words(per_example(key, index[2:])) == keys[2:]
    assert words(per_example(key, index[::-1])) == keys[::-1]


def test_streams_of_examples_are_the_stream_of_each(key):
    keys = per_example(key, jnp.arange(4))
    expected = [words(stream(keys[number], "noise")) for number in range(4)]
    assert words(streams(keys, "noise")) == expected


def test_streams_are_the_same_when_compiled(key):
    def both(key, index):
        return streams(per_example(key, index), "noise")

    assert words(jax.jit(both)(key, jnp.arange(3))) == words(both(key, jnp.arange(3)))
