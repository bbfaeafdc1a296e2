"""Generating any modality from any other.

All wanted modalities are generated together, each with its own sampler in its own reveal window.
One network serves joint, conditional and unconditional generation, guidance and editing. Bao et
al., "One Transformer Fits All Distributions in Multi-Modal Diffusion at Scale" (UniDiffuser),
arXiv:2303.06555, generalised to a mixture of processes.
"""

import functools
import math

import jax.numpy as jnp

from vqdit.data.sources import Feature
from vqdit.processes.base import X
from vqdit.random import streams
from vqdit.samplers import Guide, Sampler, autoguided, guided, trajectory
from vqdit.samplers.base import Predict, shared_steps
from vqdit.samplers.drawing import draw, tempered
from vqdit.tasks import blockwise, lengths
from vqdit.tasks.base import Frozen
from vqdit.tasks.editing import EditInputs
from vqdit.tasks.guidance_scales import check_hidden
from vqdit.tasks.multimodal import MultimodalTask
from vqdit.tasks.request import Request
from vqdit.tasks.templates import without_end
from vqdit.typing import Array, Float, Int, Key, Named, Params


class GenerationTask(MultimodalTask):
    """Generation with a trained DiT.

    Attributes:
        guide: options of guidance, such as the times at which it is used.
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
        """Generates all wanted targets together, given the known modalities.

        Args:
            params: parameters of the network.
            frozen: arrays of the tokenizers.
            keys: one key per sample; a sample depends only on its own key.
            request: what is given and wanted.
            samplers: samplers of the targets; None uses the config's.
            weak: network to guide away from, with the scale of the request's only branch; None
                guides away from predictions in which the modalities of the branches are hidden.

        Returns:
            Every target in stored form. Given targets are unchanged bit for bit. Targets that are
            neither given nor wanted are decoded noise. Targets of variable length are padded.
        """
        x_0, _ = self.trajectory(params, frozen, keys, request, samplers=samplers, weak=weak)
        return self.decode(frozen, request, x_0)

    def decode(self, frozen: Frozen, request: Request, x_0: Named[X]) -> Named[Array]:
        """Returns every target in stored form: given data, and decoded generated tokens."""
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

        Targets with blocks are unknown in these steps, and are generated afterwards.
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
        self,
        params: Params,
        frozen: Frozen,
        keys: Key[Array, " b"],
        request: Request,
        samplers: Named[Sampler] | None = None,
    ) -> Request:
        """Returns the request with a drawn length for each wanted target whose length is unknown.

        Lengths are drawn one after the other, each given the previous ones, with the temperature of
        the target's sampler; None uses the samplers of the config.
        """
        samplers = samplers or self._samplers
        for name in self.variable:
            x = self.start(frozen, keys, request)
            t = {n: jnp.full((len(keys), 1), self._constant_time(request, n)) for n in self.targets}
            t |= {n: jnp.zeros((len(keys), 1)) for n in self.conditions}
            t |= {lengths.of(n): self._length_time(x, n) for n in self.variable}
            logits = self._outputs(params, x, Named(t))[lengths.of(name)][:, 0]
            low, _ = self.modality(name).lengths or (0, 0)
            least = -(-low // self.space(name).positions_per_token)
            logits = jnp.where(jnp.arange(logits.shape[-1]) >= least, logits, -jnp.inf)
            temperature = samplers[name].length_temperature
            logits = tempered(logits[:, None, None], temperature, 1.0)
            drawn = draw(streams(keys, lengths.of(name)), logits)[:, 0, 0]
            told = request.lengths[name]
            is_open = (told == lengths.UNKNOWN) & request.wanted[name]
            found = request.lengths | {name: jnp.where(is_open, drawn, told)}
            request = request._replace(lengths=found)
        return request

    def _length(self, request: Request, name: str) -> Int[Array, " b"]:
        """Returns the number of tokens of a target of variable length, or -1 if it is not known."""
        given = self.space(name).token_lengths(jnp.sum(request.mask[name], axis=1))
        return jnp.where(request.known[name], given, request.lengths[name])

    def _length_time(self, x: Named[X], name: str) -> Float[Array, "b 1"]:
        return (x[lengths.of(name)][:, 0] == lengths.UNKNOWN).astype(jnp.float32)

    def _constant_time(self, request: Request, name: str) -> Float[Array, ""]:
        return jnp.where(request.known[name], 0.0, 1.0)

    def start(self, frozen: Frozen, keys: Key[Array, " b"], request: Request) -> Named[X]:
        """Returns x at the start of generation: tokens of known modalities, noise for others."""
        x = dict(self._unknown(keys, request))
        for name in self.targets:
            known = request.given[name], request.mask.get(name)
            x_0 = self.space(name).encode(frozen[name], *known)
            x[name] = jnp.where(request.known[name], x_0, x[name])
            if name in self.variable:
                length = self._length(request, name)
                is_real = lengths.real(length, x[name].shape[1])[..., None]
                x[name] = jnp.where(is_real, x[name], 0)  # not the mask code, which samplers count
                x[lengths.of(name)] = lengths.codes(length)
        for name, edit in request.edits.items():
            encode = functools.partial(self.space(name).encode, frozen[name])
            x[name] = edit.start(encode, self.process(name), streams(keys, f"{name}/edit"))
            if name in self.variable:
                is_real = lengths.real(x[lengths.of(name)][:, 0, 0], x[name].shape[1])
                x[name] = jnp.where(is_real[..., None], x[name], 0)
        for name, condition in self.conditions.items():
            x[name] = condition.codes(request.given[name], request.mask.get(name))
        return Named(x)

    def _unknown(self, keys: Key[Array, " b"], request: Request) -> Named[X]:
        """Returns noise (t = 1) for every modality, with the shapes of the request's tokens."""
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

        The reveal windows are stretched so that the wanted modalities together fill all steps.
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
