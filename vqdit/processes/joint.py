"""How the times of several modalities go together in training.

Each modality has a time of its own, so the network learns every conditional at once: what is
known is at t = 0, what is wholly unknown at t = 1. Which of these situations training visits, and
how often, decides what the network is good at. Independent times are those of Bao et al., "One
Transformer Fits All Distributions" (UniDiffuser), arXiv:2303.06555.
"""

import functools

import jax
import jax.numpy as jnp

from vqdit.processes.base import TimeDistribution, strata
from vqdit.random import per_example, stream
from vqdit.typing import Array, Bool, Component, Float, Int, Key, Named


class JointTimeDistribution(Component):
    """The joint distribution of all modalities' times.

    Attributes:
        p_one_known: share of the examples in which at most one modality is known: any of those
            present, or none, each as likely. The others are all wholly unknown or all at their
            own times, as a coin falls. In these situations one is generated from another, and
            everything from nothing.
        weights: how often a modality is that one, in proportion; 1 for those not named, and for
            none: more for what is hard to understand.
        p_known: probability with which a modality of the other examples is known (t = 0), each for
            itself; one of them, any, never is.
        max_known_time: in half of the examples what is known is known entirely (t = 0); in the
            other half it is at a time uniform in [0, max_known_time], so that the network does
            not rely on every detail of what it is given. 0 always shows all of it.
        p_dropped: probability with which a modality that is not known is entirely unknown
            (t = 1), which trains marginals and the unconditional branch of guidance.
    """

    p_one_known: float = 0.0
    weights: Named[float] = Named()
    p_known: float = 0.0
    max_known_time: float = 0.0
    p_dropped: float = 0.0

    def __post_init__(self) -> None:
        for field in ("p_one_known", "p_known", "max_known_time", "p_dropped"):
            if not 0.0 <= getattr(self, field) <= 1.0:
                raise ValueError(
                    f"{type(self).__name__} needs {field} in [0, 1], got {getattr(self, field)}"
                )

        if not all(weight > 0.0 for weight in self.weights.values()):
            raise ValueError(f"{type(self).__name__} needs weights > 0, got {self.weights}")

    @property
    def names(self) -> tuple[str, ...]:
        """The modalities that the law speaks of; a task must have them."""
        return tuple(self.weights)

    def together(
        self, key: Key[Array, ""], index: Int[Array, " b"], laws: Named[TimeDistribution], size: int
    ) -> Named[Float[Array, "b 1"]]:
        """Draws the times before any modality is known or dropped."""
        raise TypeError(f"{type(self).__name__} must define together")

    def sample(
        self,
        key: Key[Array, ""],
        index: Int[Array, " b"],
        laws: Named[TimeDistribution],
        present: Named[Bool[Array, " b"]],
        size: int | None = None,
    ) -> Named[Float[Array, "b 1"]]:
        """Draws one time per modality and example of a global batch.

        Args:
            key: the step's key.
            index: the index of each example.
            laws: of the modalities.
            present: which modalities an example has; what it lacks is at t = 1.
            size: of the global batch; None if these examples are all of it.
        """
        times = self.together(key, index, laws, size or len(index))
        is_single = self._coin(key, "single", index, self.p_one_known)
        one, none = self._one_present(key, index, present)
        all_unknown = self._coin(key, "others", index, 0.5)
        drawn = {}
        for name, t in times.items():
            is_one = one == list(times).index(name)
            clamped = self._coin(key, f"{name}/clamp", index, self.p_known) & ~is_one
            dropped = self._coin(key, f"{name}/drop", index, self.p_dropped)
            known = jnp.where(is_single, is_one & ~none, clamped)
            unknown = jnp.where(is_single, all_unknown, dropped) | ~present[name]
            near_0 = self.max_known_time * jnp.maximum(
                0.0, 2.0 * _uniform(key, f"{name}/part", index) - 1.0
            )
            t = jnp.where(unknown[:, None], 1.0, t)
            drawn[name] = jnp.where((known & present[name])[:, None], near_0[:, None], t)
        return Named(drawn)

    def _coin(
        self, key: Key[Array, ""], name: str, index: Int[Array, " b"], probability: float
    ) -> Bool[Array, " b"]:
        return _uniform(key, name, index) < probability

    def _one_present(
        self, key: Key[Array, ""], index: Int[Array, " b"], present: Named[Bool[Array, " b"]]
    ) -> tuple[Int[Array, " b"], Bool[Array, " b"]]:
        """Draws one present modality of each example, and whether it is none, by the weights."""
        keys = per_example(stream(key, "one"), index)
        u = jax.vmap(lambda key: jax.random.uniform(key, (len(present) + 1,)))(keys)
        # The largest of u^(1 / w) is each one's with a probability in proportion to its w.
        weights = jnp.asarray([*(self.weights.get(name, 1.0) for name in present), 1.0])
        scores = u ** (1.0 / weights)
        there = jnp.stack(list(present.values()), axis=1)
        best = jnp.where(there, scores[:, :-1], -1.0)
        return jnp.argmax(best, axis=1), scores[:, -1] > jnp.max(best, axis=1)


def _uniform(key: Key[Array, ""], name: str, index: Int[Array, " b"]) -> Float[Array, " b"]:
    return jax.vmap(jax.random.uniform)(per_example(stream(key, name), index))


class Independent(JointTimeDistribution):
    """Every modality draws its time by its own law, regardless of the others."""

    def together(
        self, key: Key[Array, ""], index: Int[Array, " b"], laws: Named[TimeDistribution], size: int
    ) -> Named[Float[Array, "b 1"]]:
        return Named(
            {n: law.sample(stream(key, f"{n}/time"), index % size, size) for n, law in laws.items()}
        )


class Shared(JointTimeDistribution):
    """All modalities have the same time, each mapped by its own law: joint generation alone."""

    def together(
        self, key: Key[Array, ""], index: Int[Array, " b"], laws: Named[TimeDistribution], size: int
    ) -> Named[Float[Array, "b 1"]]:
        u = strata(stream(key, "time"), index % size, size)
        return Named({name: law.quantile(u)[:, None] for name, law in laws.items()})


class Unbalanced(JointTimeDistribution):
    """Shared times in a share of the examples; in the others one modality is ahead of the rest.

    With t the shared time, the modality that is ahead is at a uniform share of its t, nearer to
    data. The law of JointDiT (50 % shared) in Byung-Ki et al., "JointDiT", arXiv:2505.00482.

    Attributes:
        shared: share of the examples with the same time for all.
    """

    shared: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.shared <= 1.0:
            raise ValueError(f"Unbalanced needs shared in [0, 1], got {self.shared}")

    def together(
        self, key: Key[Array, ""], index: Int[Array, " b"], laws: Named[TimeDistribution], size: int
    ) -> Named[Float[Array, "b 1"]]:
        all_same = self._coin(key, "shared", index, self.shared)
        pick = functools.partial(jax.random.randint, shape=(), minval=0, maxval=len(laws))
        ahead = jax.vmap(pick)(per_example(stream(key, "ahead"), index))
        less = jax.vmap(jax.random.uniform)(per_example(stream(key, "less"), index))
        u = strata(stream(key, "time"), index % size, size)
        drawn = {}
        for number, (name, law) in enumerate(laws.items()):
            is_ahead = (ahead == number) & ~all_same
            drawn[name] = (law.quantile(u) * jnp.where(is_ahead, less, 1.0))[:, None]
        return Named(drawn)


class Conditional(JointTimeDistribution):
    """Some modalities are always known, the others at times of their own: one conditional alone.

    Attributes:
        given: names of what is known.
    """

    given: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.weights, *self.given)

    def together(
        self, key: Key[Array, ""], index: Int[Array, " b"], laws: Named[TimeDistribution], size: int
    ) -> Named[Float[Array, "b 1"]]:
        times = Independent().together(key, index, laws, size)
        return times | {name: jnp.zeros((len(index), 1)) for name in self.given}
