"""A distribution over short sequences of codes with a known entropy, and its perfect predictor."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

LENGTH, CODES = 4, 3
START = np.asarray([0.6, 0.3, 0.1])
STEP = np.asarray([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.6, 0.1]])
SEQUENCES = np.asarray(list(itertools.product(range(CODES), repeat=LENGTH)))
P = np.asarray(
    [START[s[0]] * np.prod([STEP[a, b] for a, b in itertools.pairwise(s)]) for s in SEQUENCES]
)
"""Probability of each of all sequences, those of a Markov chain."""
ENTROPY = -np.sum(P * np.log(P))
"""Nats per sequence."""


def drawn(count, seed=0):
    """Sequences from the distribution: int [n, l, 1]."""
    rows = np.random.default_rng(seed).choice(len(P), size=count, p=P)
    return jnp.asarray(SEQUENCES[rows][..., None], jnp.int32)


def belief(process, x_t, t, is_clean, is_hidden):
    """Returns log pi at every position: p(x_0 | the codes at other positions), as a network does.

    Args:
        process: the process of noisy codes.
        x_t: codes [b, l, 1].
        t: time of every position [b, l].
        is_clean: True at codes that are not noisy [l], or [b, l].
        is_hidden: True at codes that are not seen [l], or [b, l].
    """
    alpha = 1.0 - process.noise_share(t)
    gamma = process.mask_probability(t)
    beta = jnp.maximum(1.0 - alpha - gamma, 0.0) / CODES
    same = jax.nn.one_hot(x_t[..., 0], CODES)  # b l k; zeros at the mask
    likely = alpha[..., None] * same + beta[..., None]
    likely = jnp.where((x_t < 0), gamma[..., None], likely)
    likely = jnp.where(jnp.broadcast_to(is_clean, t.shape)[..., None], same, likely)
    likely = jnp.where(jnp.broadcast_to(is_hidden, t.shape)[..., None], 1.0, likely)
    every = jnp.stack([likely[:, i, SEQUENCES[:, i]] for i in range(LENGTH)], axis=1)  # b l s
    found = []
    for i in range(LENGTH):
        others = jnp.prod(jnp.delete(every, i, axis=1), axis=1) * P  # b s
        found.append(others @ jax.nn.one_hot(SEQUENCES[:, i], CODES))
    return jnp.log(jnp.maximum(jnp.stack(found, axis=1), 1e-30))  # b l k
