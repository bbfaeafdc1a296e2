"""The joint distribution of the times of several modalities in training.

Each modality has its own time, so the network learns every conditional distribution at once: a
known modality is at t = 0, an unknown one at t = 1. The network becomes best for the combinations
that are drawn most often in training. Independent times are those of Bao et al., "One Transformer
Fits All Distributions" (UniDiffuser), arXiv:2303.06555.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vqdit.processes.base import Index, TimeDistribution, strata
from vqdit.random import per_example, stream
from vqdit.typing import Array, Bool, Component, Float, Int, Key, Named

Distributions = Named[TimeDistribution]
Times = Named[Float[Array, "b 1"]]
Present = Named[Bool[Array, " b"]]


class Situation(NamedTuple):
    """Of one modality, for each example: whether it is known, and whether it is unknown (t = 1).

    If both are False, the modality is noisy: its time is drawn by `together`.
    """

    known: Bool[Array, " b"]
    unknown: Bool[Array, " b"]


class JointTimeDistribution(Component):
    """The joint distribution of all modalities' times.

    With n present modalities and equal weights, an example is in one of these situations::

        probability                    modalities                         times
        p_one_known / 2                one (or none) is known             t_known
                                       all others are unknown             1
        p_one_known / 2                one (or none) is known             t_known
                                       all others are at their own times  `together`
        1 - p_one_known                one, drawn uniformly, is not       1 with p_dropped,
                                       known                              else `together`
                                       each other one is known with       t_known
                                       p_known, and otherwise not         as above

    In the first two situations each present modality, or none, is the known one with probability 1
    / (n + 1). t_known is 0 with probability 1/2, else uniform in [0, max_known_time]. A modality
    that an example lacks is always unknown. "Own times" are drawn by the method `together` of a
    subclass.

    Attributes:
        p_one_known: probability of the first two situations, in which modalities are generated from
            one known modality, or unconditionally.
        weights: relative frequency with which each modality is the known one, > 0. It is 1 for
            modalities that are not named, and for "none". Larger values help the network to
            understand difficult modalities.
        p_known: probability with which a modality of the third situation is known, independently of
            the others.
        max_known_time: largest time of known modalities, in [0, 1]. Values above 0 train the
            network not to rely on every detail of its conditions; 0 always shows them completely.
        p_dropped: in the third situation, probability with which a modality is unknown (t = 1), if
            it is not known. This trains marginals and the unconditional branch of guidance.
    """

    p_one_known: float = 0.0
    weights: Named[float] = Named()
    p_known: float = 0.0
    max_known_time: float = 0.0
    p_dropped: float = 0.0

    def __post_init__(self) -> None:
        for field in ("p_one_known", "p_known", "max_known_time", "p_dropped"):
            self.require(f"{field} in [0, 1]", 0.0 <= getattr(self, field) <= 1.0)
        self.require("weights > 0", all(weight > 0.0 for weight in self.weights.values()))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the modalities that the fields mention; a task must have these modalities."""
        return tuple(self.weights)

    def together(
        self, key: Key[Array, ""], index: Index, distributions: Distributions, size: int
    ) -> Times:
        """Draws the times of all modalities that are neither known nor unknown; see `sample`."""
        raise TypeError(f"{type(self).__name__} must define the method 'together'")

    def sample(
        self,
        key: Key[Array, ""],
        index: Index,
        distributions: Distributions,
        present: Present,
        size: int | None = None,
    ) -> Times:
        """Draws one time per modality and example of a global batch.

        Args:
            key: the key of the training step.
            index: the index of each example.
            distributions: the time distribution of each modality.
            present: True where an example has the modality; missing ones are at t = 1.
            size: number of examples in the global batch; None if `index` holds all of them.
        """
        own = self.together(key, index, distributions, size or len(index))
        situations = self._situations(key, index, present, tuple(own))
        drawn = {}
        for name, (known, unknown) in situations.items():
            u = _uniform(key, f"{name}/part", index)
            t_known = self.max_known_time * jnp.maximum(0.0, 2.0 * u - 1.0)
            t = jnp.where(unknown[:, None], 1.0, own[name])
            drawn[name] = jnp.where(known[:, None], t_known[:, None], t)
        return Named(drawn)

    def _situations(
        self, key: Key[Array, ""], index: Index, present: Present, names: tuple[str, ...]
    ) -> Named[Situation]:
        """Draws a row of the table of `JointTimeDistribution` for each example."""
        coin = functools.partial(_coin, key, index)
        one_known = coin("single", self.p_one_known)  # the first two situations
        others_unknown = coin("others", 0.5)  # the first of these two
        chosen, none = self._one_present(key, index, present)
        found = {}
        for number, name in enumerate(names):
            is_chosen = chosen == number  # known in the first two situations, not in the third
            in_third = coin(f"{name}/clamp", self.p_known) & ~is_chosen
            known = jnp.where(one_known, is_chosen & ~none, in_third)
            unknown = jnp.where(one_known, others_unknown, coin(f"{name}/drop", self.p_dropped))
            found[name] = Situation(known & present[name], unknown | ~present[name])
        return Named(found)

    def _one_present(
        self, key: Key[Array, ""], index: Index, present: Present
    ) -> tuple[Int[Array, " b"], Bool[Array, " b"]]:
        """Draws the index of a present modality by the weights, and whether none is drawn."""
        keys = per_example(stream(key, "one"), index)
        u = jax.vmap(lambda key: jax.random.uniform(key, (len(present) + 1,), jnp.float32))(keys)
        # The probability that u^(1 / w) is the largest is proportional to w.
        weights = jnp.asarray([*(self.weights.get(name, 1.0) for name in present), 1.0])
        scores = u ** (1.0 / weights)
        there = jnp.stack(list(present.values()), axis=1)
        best = jnp.where(there, scores[:, :-1], -1.0)
        return jnp.argmax(best, axis=1), scores[:, -1] > jnp.max(best, axis=1)


def _coin(key: Key[Array, ""], index: Index, name: str, probability: float) -> Bool[Array, " b"]:
    return _uniform(key, name, index) < probability


def _uniform(key: Key[Array, ""], name: str, index: Index) -> Float[Array, " b"]:
    return jax.vmap(jax.random.uniform)(per_example(stream(key, name), index))


class Independent(JointTimeDistribution):
    """Every modality draws its time from its own distribution, independently of the others."""

    def together(
        self, key: Key[Array, ""], index: Index, distributions: Distributions, size: int
    ) -> Times:
        drawn = {}
        for name, distribution in distributions.items():
            drawn[name] = distribution.sample(stream(key, f"{name}/time"), index % size, size)
        return Named(drawn)


class Shared(JointTimeDistribution):
    """All modalities have the same quantile of their distributions; for joint generation only."""

    def together(
        self, key: Key[Array, ""], index: Index, distributions: Distributions, size: int
    ) -> Times:
        u = strata(stream(key, "time"), index % size, size)
        return Named({name: each.quantile(u)[:, None] for name, each in distributions.items()})


class Unbalanced(JointTimeDistribution):
    """Shared times in some examples; in all others, one modality has less noise than the rest.

    If t is the shared time, this modality has the time u t, u ~ U(0, 1). This is the training
    distribution of Byung-Ki et al., "JointDiT", arXiv:2505.00482, in which half of the examples
    have shared times.

    Attributes:
        shared: in [0, 1], fraction of the examples with the same time for all modalities.
    """

    shared: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("shared in [0, 1]", 0.0 <= self.shared <= 1.0)

    def together(
        self, key: Key[Array, ""], index: Index, distributions: Distributions, size: int
    ) -> Times:
        all_same = _coin(key, index, "shared", self.shared)
        pick = functools.partial(jax.random.randint, shape=(), minval=0, maxval=len(distributions))
        ahead = jax.vmap(pick)(per_example(stream(key, "ahead"), index))
        less = jax.vmap(jax.random.uniform)(per_example(stream(key, "less"), index))
        u = strata(stream(key, "time"), index % size, size)
        drawn = {}
        for number, (name, distribution) in enumerate(distributions.items()):
            is_ahead = (ahead == number) & ~all_same
            drawn[name] = (distribution.quantile(u) * jnp.where(is_ahead, less, 1.0))[:, None]
        return Named(drawn)


class Conditional(JointTimeDistribution):
    """Some modalities are always known, and all others have independent times.

    This trains only one conditional distribution.

    Attributes:
        given: names of the modalities that are always known.
    """

    given: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.weights, *self.given)

    def together(
        self, key: Key[Array, ""], index: Index, distributions: Distributions, size: int
    ) -> Times:
        times = Independent().together(key, index, distributions, size)
        return times | {name: jnp.zeros((len(index), 1), jnp.float32) for name in self.given}
