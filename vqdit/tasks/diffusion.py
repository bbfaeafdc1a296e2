"""Training of a DiT over the tokens of one or more modalities, each generated from any others.

Every modality has its own time t (0: known, 1: unknown), process, sampler and head. Training draws
the times from a joint distribution, noises every modality to its own time, and adds up their
losses. Noising is in `vqdit.tasks.noising`; generation with the trained network is in
`vqdit.tasks.generation`, scoring in `vqdit.tasks.scoring`.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.data.batch import Batch
from vqdit.data.sources import Feature
from vqdit.losses import REPA, uncertainty
from vqdit.masked_mean import masked_mean
from vqdit.metrics import Mean, Metrics
from vqdit.processes.base import X
from vqdit.random import per_example, stream
from vqdit.tasks import lengths
from vqdit.tasks.base import Aux, Frozen, Resolve, Task
from vqdit.tasks.documents import shown
from vqdit.tasks.noising import NoisingTask
from vqdit.tasks.previews import ROWS, draw_preview, preview_columns, preview_request
from vqdit.typing import Array, Bool, Float, Int, Key, Named, Params, Stats

ALIGNED = "repa"
"""Key of REPA's encoder among the frozen arrays, and of its projector among the parameters."""
UNCERTAINTY = "uncertainty"
"""Key of the learned loss weights among the parameters."""


class DiffusionTask(NoisingTask):
    """A DiT over the tokens of one or more modalities.

    Attributes:
        repa: alignment of the network's tokens with a frozen encoder; None disables it.
    """

    repa: REPA | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.repa is not None:
            self._check_repa(self.repa)

    def _check_repa(self, repa: REPA) -> None:
        if repa.target not in self.targets:
            raise ValueError(
                f"repa.target={repa.target!r} is not a target; choose one of "
                f"{', '.join(self.targets)}"
            )
        if ALIGNED in self.targets:
            raise ValueError(f"REPA reserves the name {ALIGNED!r}; rename the target of that name")
        if repa.after > self.model.depth:
            raise ValueError(
                f"REPA takes the tokens after block {repa.after}, but the DiT has "
                f"{self.model.depth} blocks; lower repa.after"
            )

    def load(
        self, resolve: Resolve, batches: Callable[[], Iterable[Batch]]
    ) -> "tuple[DiffusionTask, Frozen]":
        task, frozen = super().load(resolve, batches)
        return task, frozen | ({ALIGNED: self.repa.encoder.load()} if self.repa is not None else {})

    def resolve_references(self, find: Callable[[str], Task]) -> "DiffusionTask":
        task = super().resolve_references(find)
        if self.repa is not None:
            span = task.model.spans(task.inputs)[self.repa.target]
            count, _ = self.repa.size(task._clean(self.repa.target))
            if count != span.stop - span.start:
                raise ValueError(
                    f"REPA needs features for the {span.stop - span.start} tokens of "
                    f"{self.repa.target!r}, but the encoder returns {count}; change the encoder's "
                    "input size or the patch"
                )
        return task

    def _clean(self, name: str) -> Array:
        """Returns a blank example of a modality as input of an encoder: data in [-1, 1]."""
        modality = self.modality(name)
        return modality.standardize(jnp.zeros((1, *modality.shape), modality.dtype))

    def frozen_like(self) -> Frozen:
        frozen = super().frozen_like()
        return frozen | ({ALIGNED: self.repa.encoder.like()} if self.repa is not None else {})

    def check_encoded(self, name: str, feature: Feature) -> None:
        super().check_encoded(name, feature)
        if self.repa is not None and self.repa.target == name:
            raise ValueError(
                f"REPA needs the examples of {name!r}, but the data have only their tokens; train "
                "on the original data, or without REPA"
            )

    def init(self, key: Key[Array, ""], frozen: Frozen, batch: Batch) -> tuple[Params, Stats]:
        del batch
        vectors = {name: self.space(name).vectors(frozen[name]) for name in self.targets}
        found = Named({name: value for name, value in vectors.items() if value is not None})
        params = self.model.init(stream(key, "model"), self.inputs, found)
        return params | self._projector(stream(key, ALIGNED)) | self._uncertain(), {}

    def blank(self) -> tuple[Params, Stats]:
        params = self.model.init(jax.random.key(0), self.inputs)
        return params | self._projector(jax.random.key(0)) | self._uncertain(), {}

    def _projector(self, key: Key[Array, ""]) -> Params:
        if self.repa is None:
            return {}
        _, width = self.repa.size(self._clean(self.repa.target))
        return {ALIGNED: self.repa.init(key, self.model.dim, width)}

    def _uncertain(self) -> Params:
        learned = [name for name, target in self.targets.items() if target.uncertainty]
        return {UNCERTAINTY: {name: uncertainty.blank() for name in learned}} if learned else {}

    def loss(
        self,
        params: Params,
        stats: Stats,
        frozen: Frozen,
        batch: Batch,
        key: Key[Array, ""],
        step: Int[Array, ""],
    ) -> tuple[Float[Array, ""], Aux]:
        del stats, step
        metrics, counts, loss = {}, {}, jnp.zeros(())
        x, t, states = self.noised(frozen, batch, key)
        documents = self._documents(batch)
        if self.repa is None:
            predictions = self._outputs(params, x, t, documents)
        else:
            seen, after = self.seen(x, t), (self.repa.after,)
            predictions, h = self.model.features(
                params,
                seen.inputs,
                seen.x,
                seen.t,
                after=after,
                mask=seen.mask,
                documents=documents,
            )
            mean = self._alignment(self.repa, params, frozen, batch, h[self.repa.target][0])
            counts[ALIGNED] = jnp.sum(batch.valid & batch.present[self.repa.target])
            mean = batch.weighted(ALIGNED, mean)
            loss, metrics = self.repa.weight * mean, {"alignment": -mean}
        for name, losses in self._losses(predictions, states).items():
            valid = batch.valid & batch.present[name]
            real = self._counted(name, x, batch, losses.shape[1])
            counts[name] = jnp.sum(valid if real is None else real)
            counted = batch.weighted(name, _mean(losses, valid, real))
            metrics[f"loss_{name}"] = counted
            if self.targets[name].uncertainty:
                *_, at = states[name]
                weighted = uncertainty.weighted(params[UNCERTAINTY][name], losses, at)
                counted = batch.weighted(name, _mean(weighted, valid, real))
            if name in self.variable:
                surprise, hidden = self._length_loss(name, x, predictions, batch)
                length, taught = lengths.of(name), valid & hidden
                counts[length] = jnp.sum(taught)
                mean = batch.weighted(length, masked_mean(surprise, taught))
                metrics[f"loss_{length}"] = mean
                counted = counted + mean
            loss = loss + self.targets[name].weight * counted
        return loss, Aux(Named(metrics), None, Named(counts))

    def _counted(
        self, name: str, x: Named[X], batch: Batch, count: int
    ) -> Bool[Array, "b l"] | None:
        """Returns which tokens of a target contribute to the loss; None if all do."""
        valid = (batch.valid & batch.present[name])[:, None]
        if name in self.variable:
            return lengths.real(x[lengths.of(name)][:, 0, 0], count) & valid
        if name in batch.documents and self._has_documents(name):
            return (batch.documents[name] >= 0) & valid
        return None

    def _documents(self, batch: Batch) -> Named[Int[Array, "b _"]] | None:
        """Returns the document numbers of packed targets for the network."""
        each = {n: shown(own) for n, own in batch.documents.items() if self._has_documents(n)}
        return Named(each) or None

    def _has_documents(self, name: str) -> bool:
        return name in self.targets and self.is_packed(name)

    def _length_loss(
        self, name: str, x: Named[X], predictions: Named[Array], batch: Batch
    ) -> tuple[Float[Array, " b"], Bool[Array, " b"]]:
        """Returns -log p(length) of every example in nats, and where the length is unknown."""
        length = self.space(name).token_lengths(jnp.sum(batch.mask[name], axis=1))
        is_unknown = x[lengths.of(name)][:, 0, 0] == lengths.UNKNOWN
        return lengths.surprise(predictions[lengths.of(name)], length), is_unknown

    def evaluate(
        self, params: Params, stats: Stats, frozen: Frozen, batch: Batch, key: Key[Array, ""]
    ) -> Metrics:
        del stats
        x, t, states = self.noised(frozen, batch, key)
        found, predictions = {}, self._outputs(params, x, t, self._documents(batch))
        for name, losses in self._losses(predictions, states).items():
            valid = batch.valid & batch.present[name]
            real = self._counted(name, x, batch, losses.shape[1])
            if real is None:
                found[f"loss_{name}"] = Mean.of(jnp.mean(losses, axis=-1), valid)
                continue
            found[f"loss_{name}"] = Mean.of(losses.ravel(), real.ravel())
            if name not in self.variable:
                continue
            length = lengths.of(name)
            x_hidden = x | {length: jnp.full_like(x[length], lengths.UNKNOWN)}
            t_hidden = t | {length: jnp.ones_like(t[length])}
            outputs = self._outputs(params, x_hidden, t_hidden)
            surprise, _ = self._length_loss(name, x_hidden, outputs, batch)
            found[f"loss_{length}"] = Mean.of(surprise, valid)
        return Named(found)

    def _alignment(
        self, repa: REPA, params: Params, frozen: Frozen, batch: Batch, h: Float[Array, "b l d"]
    ) -> Float[Array, ""]:
        """Returns the mean alignment loss of the examples that are present."""
        x_0 = self.modality(repa.target).standardize(batch.data[repa.target])
        losses = repa.loss(params[ALIGNED], h, repa.seen(frozen[ALIGNED], x_0))
        return _mean(losses, batch.valid & batch.present[repa.target])

    def _losses(
        self, predictions: Named[Array], states: dict[str, tuple[Any, ...]]
    ) -> dict[str, Float[Array, "b _"]]:
        """Returns the loss of each example at each position, keyed by target."""
        return {
            name: process.loss(predictions[name], *states[name])
            for name, process in self.processes.items()
        }

    def preview(
        self, params: Params, stats: Stats, frozen: Frozen, batch: Batch, key: Key[Array, ""]
    ) -> Named[Array]:
        del stats, batch
        index = np.arange(ROWS * preview_columns(self))
        keys = per_example(key, jnp.asarray(index))
        request = self.draw_lengths(params, frozen, keys, preview_request(self, index))
        samples = self.sample(params, frozen, keys, request)
        each = {lengths.of(name): request.lengths[name] for name in self.variable}
        return samples | each

    def write_preview(self, preview: Named[np.ndarray], path: Path) -> Path:
        return draw_preview(self, preview, path)


def _mean(
    losses: Float[Array, "b *l"], valid: Bool[Array, " b"], real: Bool[Array, "b l"] | None = None
) -> Float[Array, ""]:
    """Returns the mean over positions and valid examples; 0 if there are none.

    If `real` is given, returns the mean over all positions of the batch where it is True.
    """
    if real is not None:
        return masked_mean(losses, real)
    return masked_mean(jnp.mean(losses, axis=tuple(range(1, losses.ndim))), valid)
