"""Generating any modality from any other, and scoring how well one fits the others.

All wanted modalities are generated together, each by its own sampler in its own window. Joint,
conditional and unconditional generation, guidance, editing and scoring are calls of one network.
Bao et al., "One Transformer Fits All Distributions in Multi-Modal Diffusion at Scale"
(UniDiffuser), arXiv:2303.06555, for processes of any kind, mixed.
"""

import functools
import math

import jax
import jax.numpy as jnp

from vqdit.data.sources import Feature
from vqdit.processes.base import X
from vqdit.processes.categorical import MASK
from vqdit.random import streams
from vqdit.samplers import Guide, Sampler, autoguided, guided, trajectory
from vqdit.samplers.base import Predict, shared_steps
from vqdit.samplers.drawing import draw
from vqdit.tasks import blockwise, documents, lengths
from vqdit.tasks.base import Frozen
from vqdit.tasks.editing import EditInputs
from vqdit.tasks.guidance_scales import check_hidden
from vqdit.tasks.multimodal import MultimodalTask
from vqdit.tasks.request import Request
from vqdit.tasks.templates import without_end
from vqdit.typing import Array, Bool, Float, Int, Key, Named, Params


class GenerationTask(MultimodalTask):
    """Generation and scoring with a trained DiT.

    Attributes:
        guide: where guidance acts, and how it is kept in bounds.
    """

    guide: Guide = Guide()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._steps(self._samplers)
        self.guide.check(target.process for target in self.targets.values())

    def check(self, features: Named[Feature]) -> None:
        super().check(features)
        if self.guidance != 1.0:
            check_hidden(self, self.conditions)

    def sample(
        self,
        params: Params,
        frozen: Frozen,
        keys: Key[Array, " b"],
        request: Request,
        *,
        samplers: Named[Sampler] | None = None,
        weak: Predict | None = None,
    ) -> Named[Array]:
        """Generates what is wanted, all together, given what is known.

        Args:
            params: parameters of the network.
            frozen: arrays of the tokenizers.
            keys: one key per sample; a sample depends on its own key alone.
            request: what is given and wanted.
            samplers: samplers of the targets; None takes the config's.
            weak: network to guide away from, by the scale of the request's only branch; None
                guides away from predictions without the modalities that the branches hide.

        Returns:
            Every target in stored form: the given ones bit for bit, and what stays unknown as
            noise decodes. Targets of variable length are padded; see `generated_lengths`.
        """
        x_0, _ = self.trajectory(params, frozen, keys, request, samplers=samplers, weak=weak)
        return self.decode(frozen, request, x_0)

    def decode(self, frozen: Frozen, request: Request, x_0: Named[X]) -> Named[Array]:
        """Returns every target in stored form: given data unchanged, generated tokens decoded."""
        found = {}
        for name in self.targets:
            real = None
            if name in self.variable:
                real = lengths.real(self._length(request, name), x_0[name].shape[1])
            decoded = self.space(name).decode(frozen[name], x_0[name], real)
            given = request.given[name]
            decoded = decoded[:, : given.shape[1]] if real is not None else decoded
            found[name] = jnp.where(request.known[name], given, decoded)
        return Named(found)

    def trajectory(
        self,
        params: Params,
        frozen: Frozen,
        keys: Key[Array, " b"],
        request: Request,
        *,
        samplers: Named[Sampler] | None = None,
        weak: Predict | None = None,
    ) -> tuple[Named[X], Named[X]]:
        """Generates tokens as `sample` does; also returns all tokens before each step.

        Targets that are generated block by block are unknown in these steps, and come after them.
        """
        samplers = samplers or self._samplers
        samplers = Named({n: sampler.bind(self.space(n).grid) for n, sampler in samplers.items()})
        x_1 = self.start(frozen, keys, request)
        processes, how = self.processes, (self.guide, self.processes)
        unknown = self._unknown(streams(keys, "hidden"), request)
        if weak is None:
            predict = guided(self.predict(params), unknown, request.branches, *how)
        else:
            (branch,) = request.branches
            predict = autoguided(self.predict(params), weak, branch.scale, *how)
        times = self.times(request, samplers)
        edits = {n: edit for n, edit in request.edits.items() if isinstance(edit, EditInputs)}
        kept = Named({name: edit.keep for name, edit in edits.items()})
        unended = {n: edit.unended for n, edit in edits.items() if edit.unended is not None}
        predict = without_end(predict, unended)
        noised = [
            n for n in kept if not (processes[n].is_discrete or self.targets[n].inpaint_share)
        ]
        padding = Named(
            {n: ~lengths.real(x_1[lengths.of(n)][:, 0, 0], x_1[n].shape[1]) for n in self.variable}
        )
        each = blockwise.together(self, samplers), processes, x_1, times
        how = {"known": kept, "noised": noised, "padding": padding}
        x_0, path = trajectory(keys, predict, *each, **how)
        how = {"unknown": unknown, "known": kept, "guide": self.guide}
        every = blockwise.with_blocks(self, params, keys, request, samplers, x_1 | x_0, **how)
        return every, path

    def draw_lengths(
        self, params: Params, frozen: Frozen, keys: Key[Array, " b"], request: Request
    ) -> Request:
        """Returns the request with a drawn length for each wanted target whose length is unknown.

        One length is drawn after the other, given those before.
        """
        for name in self.variable:
            x = self.start(frozen, keys, request)
            t = {n: jnp.full((len(keys), 1), self._constant_time(request, n)) for n in self.targets}
            t |= {n: jnp.zeros((len(keys), 1)) for n in self.conditions}
            t |= {lengths.of(n): self._length_time(x, n) for n in self.variable}
            logits = self._outputs(params, x, Named(t))[lengths.of(name)][:, 0]
            low, _ = self.modality(name).lengths or (0, 0)
            least = -(-low // self.space(name).positions_per_token)
            logits = jnp.where(jnp.arange(logits.shape[-1]) >= least, logits, -jnp.inf)
            drawn = draw(streams(keys, lengths.of(name)), logits[:, None, None])[:, 0, 0]
            told = request.lengths[name]
            is_open = (told == lengths.UNKNOWN) & request.wanted[name]
            found = request.lengths | {name: jnp.where(is_open, drawn, told)}
            request = request._replace(lengths=found)
        return request

    def _length(self, request: Request, name: str) -> Int[Array, " b"]:
        """Returns the number of tokens of a target of variable length, given or told."""
        given = self.space(name).token_lengths(jnp.sum(request.mask[name], axis=1))
        return jnp.where(request.known[name], given, request.lengths[name])

    def _length_time(self, x: Named[X], name: str) -> Float[Array, "b 1"]:
        return (x[lengths.of(name)][:, 0] == lengths.UNKNOWN).astype(jnp.float32)

    def _constant_time(self, request: Request, name: str) -> Float[Array, ""]:
        return jnp.where(request.known[name], 0.0, 1.0)

    def start(self, frozen: Frozen, keys: Key[Array, " b"], request: Request) -> Named[X]:
        """Returns x at the start of generation: known modalities' tokens, noise for the others."""
        x = dict(self._unknown(keys, request))
        for name in self.targets:
            known = request.given[name], request.mask.get(name)
            x_0 = self.space(name).encode(frozen[name], *known)
            x[name] = jnp.where(request.known[name], x_0, x[name])
            if name in self.variable:
                length = self._length(request, name)
                is_real = lengths.real(length, x[name].shape[1])[..., None]
                x[name] = jnp.where(is_real, x[name], 0)  # never the mask, which samplers count
                x[lengths.of(name)] = lengths.codes(length)
        for name, edit in request.edits.items():
            encode = functools.partial(self.space(name).encode, frozen[name])
            x[name] = edit.start(encode, self.process(name), streams(keys, f"{name}/edit"))
        for name, condition in self.conditions.items():
            x[name] = condition.codes(request.given[name], request.mask.get(name))
        return Named(x)

    def _unknown(self, keys: Key[Array, " b"], request: Request) -> Named[X]:
        """Returns every modality at t = 1, with as many tokens as those of the request."""
        x = {}
        for name, process in self.processes.items():
            shape = self.space(name).shape
            if name in self.variable:
                room = request.given[name].shape[1]
                shape = -(-room // self.space(name).positions_per_token), shape[1]
                x[lengths.of(name)] = lengths.codes(jnp.full(len(keys), lengths.UNKNOWN))
            x[name] = process.prior(streams(keys, f"{name}/prior"), shape)
        for name, condition in self.conditions.items():
            room = math.prod(request.given[name].shape[1:])
            x[name] = condition.unknown(len(keys), room)
        return Named(x)

    @property
    def _samplers(self) -> Named[Sampler]:
        return Named({name: target.sampler for name, target in self.targets.items()})

    def _steps(self, samplers: Named[Sampler]) -> int:
        """Returns the number of steps of the targets without blocks; 1 if all have blocks."""
        together = blockwise.together(self, samplers)
        return shared_steps(together) if together or not samplers else 1

    def times(
        self, request: Request, samplers: Named[Sampler] | None = None
    ) -> Named[Float[Array, " times"]]:
        """Returns the times of every modality before and after each step of the samplers.

        The reveal windows of the wanted modalities are stretched over the whole generation.
        """
        samplers = samplers or self._samplers
        steps = self._steps(samplers)
        windows = Named({name: target.reveal for name, target in self.targets.items()})
        wanted = request.wanted
        first = jnp.min(jnp.stack([jnp.where(wanted[n], w[0], 1.0) for n, w in windows.items()]))
        last = jnp.max(jnp.stack([jnp.where(wanted[n], w[1], 0.0) for n, w in windows.items()]))
        progress = first + (last - first) * jnp.linspace(0.0, 1.0, steps + 1)
        times = {}
        for name, (start, end) in windows.items():
            constant = self._constant_time(request, name)
            if self.targets[name].block:
                times[name] = jnp.full(steps + 1, constant)
                continue
            falling = 1.0 - jnp.clip((progress - start) / (end - start), 0.0, 1.0)
            # Rounding must not start a window a step early, or end it above 0.
            falling = jnp.where(falling > 1.0 - 1e-5, 1.0, falling)
            falling = jnp.where(falling < 1e-5, 0.0, falling)
            falling = samplers[name].times(self.targets[name].process, falling)
            if name in request.edits:
                falling = falling * request.edits[name].strength
            times[name] = jnp.where(wanted[name], falling, jnp.full_like(falling, constant))
        zeros = {name: jnp.zeros(steps + 1) for name in self.conditions}
        for name in self.variable:  # drawn before the first step, or unknown throughout
            is_there = wanted[name] | request.known[name]
            zeros[lengths.of(name)] = jnp.full(steps + 1, jnp.where(is_there, 0.0, 1.0))
        return Named(times | zeros)

    def scoring_loss(
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
        random_times: bool = False,
    ) -> Float[Array, " b"]:
        """Returns how badly a target is predicted from what is known; lower is better.

        For a discrete process this is an upper bound on -log p(x | known) in nats, estimated at
        `rounds` equally spaced times; for a continuous one the mean squared denoising error, which
        is no likelihood.

        Args:
            params: parameters of the network.
            frozen: arrays of the tokenizers.
            keys: one key per example. Equal keys draw equal noise, so that candidates or conditions
                can be compared under the same noise.
            request: what is known; `given[name]` is scored, and must not be known.
            name: name of the scored target.
            rounds: number of network evaluations.
            hidden: positions of known targets that the network does not see.
            x_0: scored tokens, such as generated ones, which may differ from the encoding of their
                decoded data; None encodes `given[name]`. Codes of -1 are unknown: the bound is on
                -log p(the other codes).
            random_times: take times at which the mean of the estimate is the bound itself. Without
                it they are the middles of equal intervals. Random times t are the squares of
                equally spaced numbers, shifted by one random number per example (Kingma et al.,
                arXiv:2107.00630, appendix I.1), and weighted by 2 sqrt(t): the loss of a rare code
                that is hidden at a small t is large, in proportion to 1 / t, so that with t spread
                evenly the variance of the estimate would be infinite.
        """
        process, block = self.process(name), self.targets[name].block
        mask = request.mask.get(name)
        length = None
        if name in self.variable:
            stored = jnp.sum(request.mask[name], axis=1)
            is_encoded = x_0 is not None
            length = request.lengths[name] if is_encoded else self.space(name).token_lengths(stored)
        if x_0 is None:
            x_0 = self.space(name).encode(frozen[name], request.given[name], mask)
        shape: tuple[int, ...] = jnp.shape(x_0)  # pyright: ignore[reportArgumentType]
        x, t = self._partly_hidden(frozen, keys, request, hidden or Named())
        predict, real, surprise = self.predict(params), None, 0.0
        if self.is_packed(name):
            numbers = documents.of_codes(jnp.asarray(x_0))
            real, packed = numbers >= 0, Named({name: documents.shown(numbers)})
            predict = functools.partial(self._outputs, params, documents=packed)
        if length is not None:
            real = lengths.real(length, shape[1])
            x = x | {lengths.of(name): lengths.codes(jnp.full_like(length, lengths.UNKNOWN))}
            t = t | {lengths.of(name): jnp.ones((len(keys), 1))}
            surprise = lengths.surprise(self._outputs(params, x, t)[lengths.of(name)], length)
            x = x | {lengths.of(name): lengths.codes(length)}
            t = t | {lengths.of(name): jnp.zeros((len(keys), 1))}

        def time(number: Array) -> tuple[Array, Array | float]:
            if not random_times:
                return jnp.full((len(keys), 1), (number + 0.5) / rounds), 1.0
            shift = 1.0 - jax.vmap(jax.random.uniform)(streams(keys, "shift"))  # t = 0 has no loss
            root = (number + shift[:, None]) / rounds
            return root**2, 2.0 * root

        def seen(now: Array) -> Array:
            """Returns the time at which as many codes are hidden; see `_partly_hidden`."""
            if not process.is_discrete or length is not None:
                return now
            none = jnp.mean(jnp.all(x_0 == MASK, axis=-1), axis=-1, keepdims=True)
            share = none + (1.0 - none) * process.noise_share(now)
            return jnp.where(none > 0.0, process.time_at(share), now)

        def add(total: Array, number: Array) -> tuple[Array, None]:
            now, weight = time(number)
            now = jnp.ones_like(now) if block == 1 else now  # at t = 1 the bound is the likelihood
            noise_keys = jax.vmap(jax.random.fold_in, (0, None))(streams(keys, "evidence"), number)
            x_t, noise = process.noise(noise_keys, x_0, now)
            shown, at = (blockwise.shown(x_t, x_0), now) if block else (x_t, seen(now))
            prediction = predict(x | {name: shown}, t | {name: at})[name]
            if block == 1:
                return total + blockwise.surprise(process, prediction, jnp.asarray(x_0)), None
            loss = process.scoring_loss(prediction, x_0, x_t, noise, now)
            return total + weight * loss, None

        total, _ = jax.lax.scan(add, jnp.zeros(shape[:2]), jnp.arange(rounds))
        if real is not None:
            total = jnp.where(real, total, 0.0)
            share = 1.0 if process.is_discrete else 1.0 / jnp.maximum(jnp.sum(real, axis=1), 1)
            known = surprise if process.is_discrete else 0.0
            return jnp.sum(total / rounds, axis=-1) * share + known
        reduce = jnp.sum if process.is_discrete else jnp.mean
        return reduce(total / rounds, axis=-1)

    def _partly_hidden(
        self,
        frozen: Frozen,
        keys: Key[Array, " b"],
        request: Request,
        hidden: Named[Bool[Array, "b _"]],
    ) -> tuple[Named[X], Named[Float[Array, "b _"]]]:
        """Returns x and t at the start of generation, with the hidden positions unknown."""
        x, t = dict(self.start(frozen, keys, request)), {}
        unknown = self._unknown(streams(keys, "hidden"), request)
        for name, target in self.targets.items():
            t[name] = jnp.full((len(keys), 1), self._constant_time(request, name))
            if name in hidden:
                is_hidden = hidden[name] | ~request.known[name]
                x[name] = jnp.where(is_hidden[..., None], unknown[name], x[name])
                at = is_hidden.astype(jnp.float32)
                if target.process.is_discrete:
                    # Training gave all codes one time, which matches the share of masked codes.
                    real = jnp.ones_like(is_hidden)
                    if name in self.variable:
                        real = lengths.real(x[lengths.of(name)][:, 0, 0], is_hidden.shape[1])
                    share = jnp.sum(at * real, axis=1) / jnp.maximum(jnp.sum(real, axis=1), 1)
                    at = target.process.time_at(share[:, None])
                t[name] = jnp.zeros_like(t[name]) if target.block else at  # else others see nothing
        for name in self.conditions:
            t[name] = jnp.zeros((len(keys), 1))
        t |= {lengths.of(name): self._length_time(Named(x), name) for name in self.variable}
        return Named(x), Named(t)
