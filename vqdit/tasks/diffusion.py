"""Training a DiT over the tokens of one modality or several, and generating any from any other.

Every modality has its own time t (0: known, 1: unknown), process, sampler and head. Training draws
the times from a joint law; joint, conditional and unconditional generation, guidance and scoring
are then calls of one network. Bao et al., "One Transformer Fits All Distributions in Multi-Modal
Diffusion at Scale" (UniDiffuser), arXiv:2303.06555, for processes of any kind, mixed.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.checkpoint import fingerprint
from vqdit.data.batch import GIVEN, Batch
from vqdit.data.sources import Feature
from vqdit.losses import REPA, uncertainty
from vqdit.metrics import Mean, Metrics
from vqdit.modalities import Modality
from vqdit.modalities.drawing import overview
from vqdit.modalities.image import grid as tile
from vqdit.modalities.image import save
from vqdit.models.dit import DiT, Tokens
from vqdit.processes import Independent, JointLaw, Process
from vqdit.processes.base import X
from vqdit.random import per_example, stream, streams
from vqdit.samplers import Branch, Guide, Sampler, autoguided, guided, trajectory
from vqdit.samplers.base import Predict, shared_steps
from vqdit.tasks.autoencoder import AutoencoderTask
from vqdit.tasks.base import Aux, Frozen, Resolve, Task, Trained, require
from vqdit.tasks.editing import Edit, some_tokens
from vqdit.tasks.targets import Condition, Symbols, Target
from vqdit.tasks.token_space import SymbolSpace, TokenSpace
from vqdit.typing import Array, Bool, Float, Int, Key, Named, Params, Stats

PREVIEW_ROWS = 8
ALIGNED = "repa"
"""Name of REPA's encoder among what is frozen, and of its projector among the parameters."""
UNCERTAINTY = "uncertainty"
"""Name of the learned weights of losses among the parameters."""


class Request(NamedTuple):
    """What is given and what is wanted; a pytree, so that one compiled program answers them all.

    Attributes:
        given: stored arrays of every target and condition; whatever where a target is not known,
            and -1 for a label that is no condition.
        known: which targets are given.
        wanted: which targets are generated; those neither known nor wanted stay unknown.
        branches: of guidance.
        edits: of wanted targets, which begin at an example instead of noise.
    """

    given: Named[Array]
    known: Named[Bool[Array, ""]]
    wanted: Named[Bool[Array, ""]]
    branches: tuple[Branch, ...] = ()
    edits: Named[Edit] = Named()


class DiffusionTask(Task):
    """A DiT over the tokens of one or more modalities.

    Attributes:
        targets: the modalities that can be generated or given, by their names in the data.
        conditions: labels and texts that are only given, by their names in the data.
        joint: how the targets' times go together in training.
        model: the network.
        guidance: default scale of classifier-free guidance in sampling, away from what is
            predicted without anything given; 1 is none.
        guide: where guidance acts, and how it is kept in bounds.
        repa: alignment of the network's tokens with a frozen encoder; None is none.
        tokenizers: the tokenizers that `load` found; empty in a config.
        fingerprints: of their arrays; empty in a config.
    """

    targets: Named[Target] = Named(image=Target())
    conditions: Named[Condition] = Named()
    joint: JointLaw = Independent()
    model: DiT = DiT()
    guidance: float = 1.0
    guide: Guide = Guide()
    repa: REPA | None = None
    tokenizers: Named[AutoencoderTask] = Named()
    fingerprints: Named[str] = Named()

    def __post_init__(self) -> None:
        shared_steps(self._samplers)
        for target in self.targets.values():
            self.guide.check(target.process)
        strange = sorted(set(self.joint.names) - set(self.targets))
        if strange:
            raise ValueError(
                f"joint speaks of {strange[0]!r}; the targets are {', '.join(self.targets)}"
            )
        both = sorted(set(self.targets) & set(self.conditions))
        if both:
            raise ValueError(f"{both[0]!r} is a target and a condition; make it one of them")
        if self.repa is not None:
            self._check_repa(self.repa)

    def _check_repa(self, repa: REPA) -> None:
        if repa.target not in self.targets or ALIGNED in self.targets:
            raise ValueError(
                f"REPA aligns {repa.target!r}, which has to be a target, and no target may be "
                f"called {ALIGNED!r}; the targets are {', '.join(self.targets)}"
            )
        if repa.after > self.model.depth:
            raise ValueError(
                f"REPA takes the tokens after block {repa.after} of {self.model.depth}; "
                f"lower repa.after"
            )

    def load(
        self, resolve: Resolve, batches: Callable[[], Iterable[Batch]]
    ) -> "tuple[DiffusionTask, Frozen]":
        names = {target.tokenizer for target in self.targets.values() if target.tokenizer}
        found = {name: _stripped(resolve(name)) for name in sorted(names)}
        task = self.connect(lambda name: found[name].task)
        marks = {name: fingerprint(trained[1:]) for name, trained in found.items()}
        named = {name: target.tokenizer for name, target in self.targets.items()}
        own = {name: marks[source] for name, source in named.items() if source}
        task = dataclasses.replace(task, fingerprints=Named(own))
        frozen = {}
        for name, target in self.targets.items():
            space = task.space(name)
            if isinstance(space, SymbolSpace):
                frozen[name] = space.freeze(batches(), name)
            else:
                frozen[name] = space.freeze(found[target.tokenizer], batches(), name)
        if self.repa is not None:
            frozen[ALIGNED] = self.repa.encoder.load()
        return task, frozen

    def connect(self, find: Callable[[str], Task]) -> "DiffusionTask":
        tokenizers = {}
        for name, target in self.targets.items():
            if isinstance(target, Symbols):
                continue
            found = find(target.tokenizer)
            if not isinstance(found, AutoencoderTask):
                raise ValueError(
                    f"{target.tokenizer!r}, the tokenizer of {name!r}, is a "
                    f"{type(found).__name__}; name the workdir of a tokenizer with codes"
                )
            target.fit(found, name)
            tokenizers[name] = dataclasses.replace(found, perceptual=(), adversary=None)
        task = dataclasses.replace(self, tokenizers=Named(tokenizers))
        task.model.check(task.inputs)
        if self.repa is not None:
            span = task.model.spans(task.inputs)[self.repa.target]
            count, _ = self.repa.size(task._clean(self.repa.target))
            if count != span.stop - span.start:
                raise ValueError(
                    f"REPA needs features at the {span.stop - span.start} tokens of "
                    f"{self.repa.target!r}, and its encoder has {count}; change its input or the "
                    "patch"
                )
        return task

    def _clean(self, name: str) -> Array:
        """Returns an example of a modality as an encoder sees it: data in [-1, 1]."""
        modality = self.modality(name)
        return modality.standardize(jnp.zeros((1, *modality.shape), modality.dtype))

    def space(self, name: str) -> TokenSpace | SymbolSpace:
        """Returns what the network sees of a target."""
        target = self.targets[name]
        if isinstance(target, Symbols):
            return SymbolSpace(modality=target.modality, process=target.process, patch=target.patch)
        return TokenSpace(
            tokenizer=self.tokenizers[name],
            process=target.process,
            patch=target.patch,
            posterior=target.posterior,
        )

    def process(self, name: str) -> Process:
        """Returns the process of a target, over the tokens that it has."""
        space = self.space(name)
        return space.process.over(space.sizes)

    @property
    def processes(self) -> Named[Process]:
        """The processes of all targets, over the tokens that they have."""
        return Named({name: self.process(name) for name in self.targets})

    def modality(self, name: str) -> Modality:
        """Returns the modality of a target or condition."""
        return (
            self.conditions[name].modality if name in self.conditions else self.space(name).modality
        )

    def frozen_like(self) -> Frozen:
        frozen = {name: self.space(name).frozen_like() for name in self.targets}
        return frozen | ({ALIGNED: self.repa.encoder.like()} if self.repa is not None else {})

    @property
    def inputs(self) -> Named[Tokens]:
        """How every modality enters the network."""
        conditions = {name: condition.tokens for name, condition in self.conditions.items()}
        return Named({**conditions, **{name: self.space(name).tokens for name in self.targets}})

    def check(self, features: Named[Feature]) -> None:
        for name in [*self.conditions, *self.targets]:
            target = self.targets.get(name)
            if target is not None and target.tokenizer and name not in self.tokenizers:
                continue  # its shape is known once the tokenizer is found
            if name in features and features[name].encoded:
                self._check_encoded(name, features[name])
                continue
            modality = self.modality(name)
            require(features, name, modality.shape)
            classes = features[name].classes
            if classes and classes != modality.vocabulary:
                raise ValueError(
                    f"{name!r} has {classes} classes in the data and "
                    f"{modality.vocabulary} in the config; they must be the same"
                )

    def _check_encoded(self, name: str, feature: Feature) -> None:
        """Raises ValueError unless the tokens in the data are those of the target's tokenizer."""
        if name not in self.tokenizers:
            raise ValueError(
                f"{name!r} in the data are tokens of a tokenizer, which {name!r} in the config has "
                "none of; make it a Target with one"
            )
        if self.repa is not None and self.repa.target == name:
            raise ValueError(
                f"REPA looks at {name!r} itself, and the data have only its tokens; train from the "
                "data that were encoded, or without REPA"
            )
        own, shape = self.fingerprints.get(name, "none"), self.tokenizers[name].encoded_shape
        if (feature.encoded, feature.shape) != (own, shape):
            raise ValueError(
                f"{name!r} in the data was encoded by the tokenizer {feature.encoded} into "
                f"{feature.shape}, and {self.targets[name].tokenizer!r} is the tokenizer {own}, of "
                f"{shape}; encode the data with it (vqdit encode), or name the other one"
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
        metrics, loss = {}, jnp.zeros(())
        x, t, states = self._noised(frozen, batch, key)
        if self.repa is None:
            predictions = self.predict(params)(x, t)
        else:
            seen, after = self._seen(x, t), (self.repa.after,)
            predictions, h = self.model.features(params, self.inputs, *seen, after=after)
            mean = self._alignment(self.repa, params, frozen, batch, h[self.repa.target][0])
            loss, metrics = self.repa.weight * mean, {"alignment": -mean}
        for name, losses in self._losses(predictions, states).items():
            valid = batch.valid & batch.present[name]
            metrics[f"loss_{name}"] = counted = _mean(losses, valid)
            if self.targets[name].uncertainty:
                *_, at = states[name]
                counted = _mean(uncertainty.weighted(params[UNCERTAINTY][name], losses, at), valid)
            loss = loss + self.targets[name].weight * counted
        return loss, Aux(Named(metrics), None)

    def evaluate(
        self, params: Params, stats: Stats, frozen: Frozen, batch: Batch, key: Key[Array, ""]
    ) -> Metrics:
        del stats
        x, t, states = self._noised(frozen, batch, key)
        found = {}
        for name, losses in self._losses(self.predict(params)(x, t), states).items():
            valid = batch.valid & batch.present[name]
            found[f"loss_{name}"] = Mean.of(jnp.mean(losses, axis=-1), valid)
        return Named(found)

    def _alignment(
        self, repa: REPA, params: Params, frozen: Frozen, batch: Batch, h: Float[Array, "b l d"]
    ) -> Float[Array, ""]:
        """Returns the mean alignment loss of the examples that are present."""
        x_0 = self.modality(repa.target).standardize(batch.data[repa.target])
        losses = repa.loss(params[ALIGNED], h, repa.seen(frozen[ALIGNED], x_0))
        return _mean(losses, batch.valid & batch.present[repa.target])

    def _noised(
        self, frozen: Frozen, batch: Batch, key: Key[Array, ""]
    ) -> tuple[Named[X], Named[Float[Array, "b _"]], dict[str, tuple[Any, ...]]]:
        """Returns x at t, and per target x_0, x_t, the noise and t."""
        x, states = {}, {}
        laws = Named({name: target.time for name, target in self.targets.items()})
        present = Named({name: batch.present[name] for name in self.targets})
        t = dict(self.joint.sample(key, batch.index, laws, present, batch.size))
        processes = self.processes
        for name, process in processes.items():
            raw = batch.data[name]
            if name + GIVEN in batch.data:
                is_given = (t[name] == 0.0).reshape(-1, *(1,) * (raw.ndim - 1))
                raw = jnp.where(is_given, batch.data[name + GIVEN], raw)
            drawn = per_example(stream(key, f"{name}/posterior"), batch.index)
            x_0 = jax.lax.stop_gradient(self.space(name).draw(frozen[name], raw, drawn))
            t[name] = self._partly_known(name, t[name], stream(key, f"{name}/inpaint"), batch)
            keys = per_example(stream(key, f"{name}/noise"), batch.index)
            x_t, noise = process.noise(keys, x_0, t[name])
            # A missing modality is wholly unknown: noise at t = 1, and it has no loss.
            unknown_keys = per_example(stream(key, f"{name}/unknown"), batch.index)
            unknown = process.prior(unknown_keys, x_0.shape[1:])
            x[name] = jnp.where(present[name][:, None, None], x_t, unknown)
            states[name] = (x_0, x[name], noise, t[name])
        for name, condition in self.conditions.items():
            codes = condition.codes(batch.data[name])
            keys = per_example(stream(key, f"{name}/drop"), batch.index)
            dropped = jax.vmap(jax.random.uniform)(keys) < condition.drop
            dropped = dropped | ~batch.present[name]
            x[name] = jnp.where(dropped[:, None, None], -1, codes)
            t[name] = dropped.astype(jnp.float32)[:, None]
        return Named(x), Named(t), states

    def _partly_known(
        self, name: str, t: Float[Array, "b 1"], key: Key[Array, ""], batch: Batch
    ) -> Float[Array, "b #l"]:
        """Some latents of some examples are known, as in-painting will show them."""
        share = self.targets[name].inpaint
        if not share:
            return t
        keys = per_example(key, batch.index)
        chosen = jax.vmap(lambda k: jax.random.uniform(stream(k, "coin")))(keys) < share
        known = some_tokens(streams(keys, "box"), self.space(name).grid)
        return jnp.where(chosen[:, None] & known & batch.present[name][:, None], 0.0, t)

    def _losses(
        self, predictions: Named[Array], states: dict[str, tuple[Any, ...]]
    ) -> dict[str, Float[Array, "b _"]]:
        """Returns, per target, the loss of each example at each position."""
        return {
            name: process.loss(predictions[name], *states[name])
            for name, process in self.processes.items()
        }

    def predict(self, params: Params) -> Predict:
        """Returns the network with its parameters bound."""

        def predict(x: Named[X], t: Named[Float[Array, "b _"]]) -> Named[Float[Array, "b _ _"]]:
            return self.model.apply(params, self.inputs, *self._seen(x, t))

        return predict

    def _seen(
        self, x: Named[X], t: Named[Float[Array, "b _"]]
    ) -> tuple[Named[X], Named[Float[Array, "b _"]]]:
        """Returns what the network takes of x at t."""
        seen = {
            name: process.network_input(x[name], t[name])
            for name, process in self.processes.items()
        }
        x = x | {name: pair[0] for name, pair in seen.items()}
        t = t | {name: pair[1] for name, pair in seen.items()}
        return x, t

    def sample(
        self,
        params: Params,
        frozen: Frozen,
        keys: Key[Array, " b"],
        request: Request,
        *,
        samplers: Named[Sampler] | None = None,
        worse: Predict | None = None,
    ) -> Named[Array]:
        """Generates what is wanted, all together, given what is known.

        Args:
            params: of the network.
            frozen: the tokenizers.
            keys: one per sample; a sample depends on its own key alone.
            request: what is given and wanted.
            samplers: of the targets; default: the config's.
            worse: a network that is guided away from, by the scale of the request's one branch;
                None guides away from what the branches hide.

        Returns:
            Every target in stored form: the given ones bit for bit, and what stays unknown as
            noise decodes.
        """
        x_0, _ = self.trajectory(params, frozen, keys, request, samplers=samplers, worse=worse)
        return Named(
            {
                name: jnp.where(
                    request.known[name],
                    request.given[name],
                    self.space(name).decode(frozen[name], x_0[name]),
                )
                for name in self.targets
            }
        )

    def trajectory(
        self,
        params: Params,
        frozen: Frozen,
        keys: Key[Array, " b"],
        request: Request,
        *,
        samplers: Named[Sampler] | None = None,
        worse: Predict | None = None,
    ) -> tuple[Named[X], Named[X]]:
        """Generates tokens as `sample` does; also returns all tokens before each step."""
        samplers = samplers or self._samplers
        samplers = Named({n: sampler.on(self.space(n).grid) for n, sampler in samplers.items()})
        x_1 = self.start(frozen, keys, request)
        processes, how = self.processes, (self.guide, self.processes)
        if worse is None:
            unknown = self._unknown(streams(keys, "hidden"))
            predict = guided(self.predict(params), unknown, request.branches, *how)
        else:
            (branch,) = request.branches
            predict = autoguided(self.predict(params), worse, branch.scale, *how)
        times = self.times(request, samplers)
        kept = Named({name: edit.keep for name, edit in request.edits.items()})
        noised = [n for n in kept if not (processes[n].is_discrete or self.targets[n].inpaint)]
        each = samplers, processes, x_1, times
        return trajectory(keys, predict, *each, known=kept, noised=noised)

    def start(self, frozen: Frozen, keys: Key[Array, " b"], request: Request) -> Named[X]:
        """Returns the tokens of what is known, and noise for the rest."""
        x = dict(self._unknown(keys))
        for name in self.targets:
            x_0 = self.space(name).encode(frozen[name], request.given[name])
            x[name] = jnp.where(request.known[name], x_0, x[name])
        for name, edit in request.edits.items():
            x_0 = self.space(name).encode(frozen[name], edit.value)
            t = jnp.full((len(keys), 1), edit.strength)
            x_t, _ = self.process(name).noise(streams(keys, f"{name}/edit"), x_0, t)
            x[name] = jnp.where(edit.keep[..., None], x_0, x_t)
        for name, condition in self.conditions.items():
            x[name] = condition.codes(request.given[name])
        return Named(x)

    def _unknown(self, keys: Key[Array, " b"]) -> Named[X]:
        """Returns every modality at t = 1."""
        x = {
            name: process.prior(streams(keys, f"{name}/prior"), self.space(name).shape)
            for name, process in self.processes.items()
        }
        none = {
            name: jnp.full((len(keys), math.prod(condition.modality.grid), 1), -1, jnp.int32)
            for name, condition in self.conditions.items()
        }
        return Named(x | none)

    @property
    def _samplers(self) -> Named[Sampler]:
        return Named({name: target.sampler for name, target in self.targets.items()})

    def times(
        self, request: Request, samplers: Named[Sampler] | None = None
    ) -> Named[Float[Array, " times"]]:
        """Returns the times of every modality before and after each step of the samplers.

        The windows in which the wanted ones are revealed are stretched over the whole generation.
        """
        samplers = samplers or self._samplers
        steps = shared_steps(samplers)
        windows = Named({name: target.reveal for name, target in self.targets.items()})
        wanted = request.wanted
        first = jnp.min(jnp.stack([jnp.where(wanted[n], w[0], 1.0) for n, w in windows.items()]))
        last = jnp.max(jnp.stack([jnp.where(wanted[n], w[1], 0.0) for n, w in windows.items()]))
        progress = first + (last - first) * jnp.linspace(0.0, 1.0, steps + 1)
        times = {}
        for name, (start, end) in windows.items():
            falling = 1.0 - jnp.clip((progress - start) / (end - start), 0.0, 1.0)
            # Rounding must neither begin a window a step early nor leave a rest at its end.
            falling = jnp.where(falling > 1.0 - 1e-5, 1.0, falling)
            falling = jnp.where(falling < 1e-5, 0.0, falling)
            falling = samplers[name].times(self.targets[name].process, falling)
            if name in request.edits:
                falling = falling * request.edits[name].strength
            constant = jnp.where(request.known[name], 0.0, 1.0)
            times[name] = jnp.where(wanted[name], falling, jnp.full_like(falling, constant))
        zeros = {name: jnp.zeros(steps + 1) for name in self.conditions}
        return Named(times | zeros)

    def evidence(
        self,
        params: Params,
        frozen: Frozen,
        keys: Key[Array, " b"],
        request: Request,
        name: str,
        *,
        rounds: int,
        hidden: Named[Bool[Array, "b _"]] | None = None,
        x_0: X | None = None,
    ) -> Float[Array, " b"]:
        """Returns how badly a modality is predicted from what is known, lower is better.

        For a discrete process it is an upper bound on -log p(x | known) in nats, estimated at
        `rounds` times in equal distance; for a continuous one the mean squared error of its
        denoising, which is no likelihood.

        Args:
            params: of the network.
            frozen: the tokenizers.
            keys: one per example: the same key draws the same noise, so that two candidates or
                conditions are compared by nothing else.
            request: what is known; `given[name]` is what is scored, and must not be known.
            name: of a target.
            rounds: network evaluations.
            hidden: positions of known targets that are not seen.
            x_0: the tokens that are scored, such as generated ones, which encoding of what they
                decode to need not give again; default: those of `given[name]`.
        """
        process = self.process(name)
        if x_0 is None:
            x_0 = self.space(name).encode(frozen[name], request.given[name])
        x, t = self._partly_hidden(frozen, keys, request, hidden or Named())
        predict = self.predict(params)

        def add(total: Array, number: Array) -> tuple[Array, None]:
            now = jnp.full((len(keys), 1), (number + 0.5) / rounds)
            noise_keys = jax.vmap(jax.random.fold_in, (0, None))(streams(keys, "evidence"), number)
            x_t, noise = process.noise(noise_keys, x_0, now)
            prediction = predict(x | {name: x_t}, t | {name: now})[name]
            return total + process.evidence(prediction, x_0, x_t, noise, now), None

        total, _ = jax.lax.scan(
            add, jnp.zeros((len(keys), self.space(name).shape[0])), jnp.arange(rounds)
        )
        reduce = jnp.sum if process.is_discrete else jnp.mean
        return reduce(total / rounds, axis=-1)

    def _partly_hidden(
        self,
        frozen: Frozen,
        keys: Key[Array, " b"],
        request: Request,
        hidden: Named[Bool[Array, "b _"]],
    ) -> tuple[Named[X], Named[Float[Array, "b _"]]]:
        """Returns the start of generation with some known positions unknown, and the times."""
        x, t = dict(self.start(frozen, keys, request)), {}
        unknown = self._unknown(streams(keys, "hidden"))
        for name, target in self.targets.items():
            t[name] = jnp.full((len(keys), 1), jnp.where(request.known[name], 0.0, 1.0))
            if name in hidden:
                is_hidden = hidden[name] | ~request.known[name]
                x[name] = jnp.where(is_hidden[..., None], unknown[name], x[name])
                at = is_hidden.astype(jnp.float32)
                if target.process.is_discrete:
                    # Codes were trained at one time of all, which says how many are masked.
                    at = target.process.time_at(jnp.mean(at, axis=1, keepdims=True))
                t[name] = at
        for name in self.conditions:
            t[name] = jnp.zeros((len(keys), 1))
        return Named(x), Named(t)

    def attention(
        self,
        params: Params,
        x: Named[X],
        t: Named[Float[Array, "b _"]],
    ) -> Float[Array, "n b l l"]:
        """Returns how much each token looks at each other, in every layer; see `DiT.attend`."""
        return self.model.attend(params, self.inputs, *self._seen(x, t))

    def preview(
        self, params: Params, stats: Stats, frozen: Frozen, batch: Batch, key: Key[Array, ""]
    ) -> Named[Array]:
        del stats, batch
        columns = self._preview_columns()
        index = jnp.arange(PREVIEW_ROWS * columns)
        given = {name: self.blank_given(name, len(index)) for name in self.targets}
        for name, condition in self.conditions.items():
            given[name] = (
                index % columns % condition.classes
                if condition.classes
                else self.blank_given(name, len(index))
            )
        none = Named({name: jnp.asarray(False) for name in self.targets})
        every = Named({name: jnp.asarray(True) for name in self.targets})
        branches = ()
        if self.guidance != 1.0 and self.conditions:
            hidden = Named({name: jnp.asarray(True) for name in self.conditions})
            scale = Named({name: jnp.float32(self.guidance) for name in self.targets})
            branches = (Branch(hidden, scale),)
        request = Request(Named(given), none, every, branches)
        return self.sample(params, frozen, per_example(key, index), request)

    def blank_given(self, name: str, count: int) -> Array:
        """Returns what stands in `Request.given` for something that is not known."""
        modality = self.modality(name)
        shape = (count, *modality.shape)
        return (
            -jnp.ones(shape, jnp.int32)
            if name in self.conditions
            else jnp.zeros(shape, modality.dtype)
        )

    def write_preview(self, preview: Named[np.ndarray], path: Path) -> Path:
        file = path.with_suffix(".png")
        columns = self._preview_columns()
        if len(preview) == 1:
            ((name, stored),) = preview.items()
            save(file, tile(self.modality(name).draw(stored), columns))
        else:
            drawn = {name: self.modality(name).draw(stored) for name, stored in preview.items()}
            save(file, overview(drawn, columns))
        return file

    def _preview_columns(self) -> int:
        classes = [c.classes for c in self.conditions.values() if c.classes]
        return min(classes[0], 10) if classes else PREVIEW_ROWS


def _mean(losses: Float[Array, "b *l"], valid: Bool[Array, " b"]) -> Float[Array, ""]:
    """Returns the mean over positions and valid examples; 0 if there is none."""
    losses = jnp.mean(losses, axis=tuple(range(1, losses.ndim)))
    return jnp.sum(jnp.where(valid, losses, 0.0)) / jnp.maximum(jnp.sum(valid), 1)


def _stripped(trained: Trained) -> Trained:
    """A tokenizer without what only its training needed."""
    task, params, stats = trained
    return Trained(*task.strip(params, stats)) if isinstance(task, AutoencoderTask) else trained
