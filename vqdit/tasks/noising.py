"""Noising of a training batch: what the network sees of each modality, and at which time.

The joint distribution draws a time for each target of each example. A target is noised by its
process to that time, parts of it may be known, and its length may be hidden; a missing modality is
unknown. A condition is shown, partly hidden, or dropped.
"""

from typing import Any

import jax
import jax.numpy as jnp

from vqdit.data.batch import GIVEN, Batch
from vqdit.processes import Independent, JointTimeDistribution
from vqdit.processes.base import X
from vqdit.random import per_example, stream, streams
from vqdit.tasks import blockwise, lengths
from vqdit.tasks.base import Frozen
from vqdit.tasks.editing import some_tokens
from vqdit.tasks.scoring import ScoringTask
from vqdit.typing import Array, Bool, Float, Int, Key, Named


class NoisingTask(ScoringTask):
    """A DiT with the noising of its training batches.

    Attributes:
        joint: joint distribution of the targets' times in training.
    """

    joint: JointTimeDistribution = Independent()

    def __post_init__(self) -> None:
        super().__post_init__()
        strange = sorted(set(self.joint.names) - set(self.targets))
        if strange:
            raise ValueError(
                f"joint names {strange[0]!r}, which is not a target; the targets are "
                f"{', '.join(self.targets)}"
            )
        for name, target in self.targets.items():
            if target.inpaint_share and self.model.block in ("in_context", "cross_attention"):
                raise ValueError(
                    f"inpaint={target.inpaint_share} of {name!r} needs a time for every position, "
                    f"but block={self.model.block!r} has one time per modality; use adaln_zero or "
                    "mm_dit, or inpaint=0"
                )

    def noised(
        self, frozen: Frozen, batch: Batch, key: Key[Array, ""]
    ) -> tuple[Named[X], Named[Float[Array, "b _"]], dict[str, tuple[Any, ...]]]:
        """Returns the network's inputs, their times, and (x_0, x_t, noise, t) of each target."""
        x, states = {}, {}
        distributions = Named({name: target.time for name, target in self.targets.items()})
        present = Named({name: batch.present[name] for name in self.targets})
        t = dict(self.joint.sample(key, batch.index, distributions, present, batch.size))
        processes = self.processes
        for name, process in processes.items():
            raw, mask = batch.data[name], batch.mask.get(name)
            if name + GIVEN in batch.data:
                is_given = (t[name] == 0.0).reshape(-1, *(1,) * (raw.ndim - 1))
                raw = jnp.where(is_given, batch.data[name + GIVEN], raw)
            drawn = per_example(stream(key, f"{name}/posterior"), batch.index)
            x_0 = jax.lax.stop_gradient(self.space(name).draw(frozen[name], raw, drawn, mask))
            t[name] = self._partly_known(name, t[name], stream(key, f"{name}/inpaint"), batch)
            block = self.targets[name].block
            if block:
                each = self.targets[name].time, batch.index, batch.size or len(batch.index)
                shape = x_0.shape[1] // block, block
                t[name] = blockwise.own_times(stream(key, f"{name}/blocks"), t[name], *each, shape)
            keys = per_example(stream(key, f"{name}/noise"), batch.index)
            x_t, noise = process.noise(keys, x_0, t[name])
            # A missing modality is unknown: it is noise at t = 1 and has no loss.
            unknown_keys = per_example(stream(key, f"{name}/unknown"), batch.index)
            unknown = process.prior(unknown_keys, x_0.shape[1:])
            x[name] = jnp.where(present[name][:, None, None], x_t, unknown)
            if mask is not None:
                is_unknown = jnp.max(t[name], axis=1) >= 1.0
                length = self._length_shown(name, is_unknown | ~present[name], mask, batch, key)
                x[lengths.of(name)] = lengths.codes(length)
                t[lengths.of(name)] = (length == lengths.UNKNOWN).astype(jnp.float32)[:, None]
            states[name] = (x_0, x[name], noise, t[name])
            if block:
                x[name], t[name] = blockwise.shown(x[name], x_0), t[name][:, ::block]
        for name, condition in self.conditions.items():
            codes = condition.codes(batch.data[name], batch.mask.get(name))
            keys = per_example(stream(key, f"{name}/hidden"), batch.index)
            codes = condition.partly_hidden(codes, keys)
            keys = per_example(stream(key, f"{name}/drop"), batch.index)
            dropped = jax.vmap(jax.random.uniform)(keys) < condition.drop
            dropped = dropped | ~batch.present[name]
            unknown = condition.unknown(*codes.shape[:2])
            x[name] = jnp.where(dropped[:, None, None], unknown, codes)
            t[name] = dropped.astype(jnp.float32)[:, None]
        return Named(x), Named(t), states

    def _length_shown(
        self,
        name: str,
        is_unknown: Bool[Array, " b"],
        mask: Bool[Array, "b n"],
        batch: Batch,
        key: Key[Array, ""],
    ) -> Int[Array, " b"]:
        """Returns the lengths that the network sees; hides some, so that it learns to predict them.

        Args:
            name: the target.
            is_unknown: True where all of the target is unknown.
            mask: True at stored positions that are not padding.
            batch: the batch.
            key: key of the step.
        """
        keys = per_example(stream(key, lengths.of(name)), batch.index)
        teaches = jax.vmap(jax.random.uniform)(keys) < self.targets[name].length_share
        length = self.space(name).token_lengths(jnp.sum(mask, axis=1))
        return jnp.where(is_unknown | teaches, lengths.UNKNOWN, length)

    def _partly_known(
        self, name: str, t: Float[Array, "b 1"], key: Key[Array, ""], batch: Batch
    ) -> Float[Array, "b #l"]:
        """Sets t to 0 at random positions of random examples, to train in-painting."""
        share = self.targets[name].inpaint_share
        if not share:
            return t
        keys = per_example(key, batch.index)
        chosen = jax.vmap(lambda k: jax.random.uniform(stream(k, "coin")))(keys) < share
        known = some_tokens(streams(keys, "box"), self.space(name).grid)
        return jnp.where(chosen[:, None] & known & batch.present[name][:, None], 0.0, t)
