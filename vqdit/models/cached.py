"""A DiT that generates one modality block by block, with a cache of keys and values.

The tokens of a block attend to earlier blocks and other modalities. These do not attend to the
block (`vqdit.models.visibility`), so their keys and values are constant and can be cached. The cost
of a step is the cost of one block's tokens, plus attention to all earlier tokens. Arriola et al.,
"Block Diffusion", arXiv:2503.09573, section 3.2.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vqdit.models.blocks import KeysAndValues
from vqdit.models.dit import DiT
from vqdit.models.network import Cache
from vqdit.models.sequence import Mask, Times
from vqdit.models.tokens import Tokens, routed
from vqdit.processes.base import X
from vqdit.typing import Array, Bool, Component, Float, Int, Named, Params


class Kept(NamedTuple):
    """Cached tokens: first those of the generated modality, then those of all other modalities.

    Attributes:
        keys: keys and values [n, b, m, h, e] in each of the network's n transformer blocks.
        real: True at tokens that can be attended to; False at padding and unused entries.
    """

    keys: KeysAndValues
    real: Bool[Array, "b m"]


class CachedDiT(Component):
    """A DiT over several modalities, one of which is generated block by block.

    Attributes:
        model: the DiT.
        inputs: description of every modality.
        name: the generated modality; its `Tokens.block` is the number of codes in a block.
    """

    model: DiT
    inputs: Named[Tokens]
    name: str

    def others(self, params: Params, x: Named[X], t: Times, mask: Mask | None = None) -> Kept:
        """Returns a cache of the other modalities' tokens, without room for tokens of `name`.

        The arguments are those of `DiT.apply`; codes and time of the generated modality are
        ignored.
        """
        batch = len(t[self.name])
        has_others = len(routed(self.inputs, "tokens")) > 1 or self.model.registers
        if self.model.block == "mm_dit":
            has_others = has_others or routed(self.inputs, "cross")
        if not has_others:
            shape = (
                self.model.depth,
                batch,
                0,
                self.model.heads,
                self.model.dim // self.model.heads,
            )
            none = jnp.zeros(shape, self.model.dtype)
            return Kept((none, none), jnp.zeros((batch, 0), bool))
        network = self.model.network(self.inputs, record="keys", alone=self.name)
        out: Any = network.apply({"params": params}, x, t, mask)
        return Kept(*out[1])

    def step(
        self,
        params: Params,
        kept: Kept,
        x: Named[X],
        t: Times,
        start: Int[Array, ""],
        mask: Mask | None = None,
    ) -> tuple[Float[Array, "b _ w"], KeysAndValues]:
        """Returns the prediction for one block, and the keys and values of its tokens.

        Args:
            params: parameters of the DiT.
            kept: the cache of the other modalities and of all earlier blocks.
            x: all modalities; for the generated modality, the codes of the block.
            t: times of all modalities, scaled for the embedding, one per example.
            start: index of the first position of the block.
            mask: as for `DiT.apply`.
        """
        network = self.model.network(self.inputs, record="keys", alone=self.name)
        cache = Cache(kept.keys, kept.real, start)
        out: Any = network.apply({"params": params}, x, t, mask, cache=cache)
        return out[0][self.name], out[1]

    def keep(
        self,
        params: Params,
        kept: Kept,
        x: Named[X],
        t: Times,
        start: Int[Array, ""],
        mask: Mask | None = None,
    ) -> Kept:
        """Returns the cache after a block has been finished; for the arguments see `step`."""
        zeros = t | {self.name: jnp.zeros_like(t[self.name])}
        _, new = self.step(params, kept, x, zeros, start, mask)
        put = lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, start, 2)  # noqa: E731
        real = jnp.ones((len(kept.real), x[self.name].shape[1]), bool)
        real = jax.lax.dynamic_update_slice_in_dim(kept.real, real, start, 1)
        return Kept(jax.tree.map(put, kept.keys, new), real)

    def with_room(self, kept: Kept, room: int, more: int) -> Kept:
        """Enlarges a cache with room for `room` tokens of `name` by room for `more` tokens."""

        def wider(part: Array, axis: int) -> Array:
            own, others = jnp.split(part, [room], axis=axis)
            shape = (*part.shape[:axis], more, *part.shape[axis + 1 :])
            return jnp.concatenate([own, jnp.zeros(shape, part.dtype), others], axis=axis)

        return Kept(jax.tree.map(lambda part: wider(part, 2), kept.keys), wider(kept.real, 1))
