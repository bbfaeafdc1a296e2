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
from vqdit.random import streams
from vqdit.samplers import Guide, Sampler, autoguided, guided, trajectory
from vqdit.samplers.base import Predict, shared_steps
from vqdit.tasks.base import Frozen
from vqdit.tasks.editing import EditInputs
from vqdit.tasks.guidance_scales import check_hidden
from vqdit.tasks.multimodal import MultimodalTask
from vqdit.tasks.request import Request
from vqdit.typing import Array, Bool, Float, Key, Named, Params


class GenerationTask(MultimodalTask):
    """Generation and scoring with a trained DiT.

    Attributes:
        guide: where guidance acts, and how it is kept in bounds.
    """

    guide: Guide = Guide()

    def __post_init__(self) -> None:
        super().__post_init__()
        shared_steps(self._samplers)
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
            noise decodes.
        """
        x_0, _ = self.trajectory(params, frozen, keys, request, samplers=samplers, weak=weak)
        return self.decode(frozen, request, x_0)

    def decode(self, frozen: Frozen, request: Request, x_0: Named[X]) -> Named[Array]:
        """Returns every target in stored form: given data unchanged, generated tokens decoded."""
        found = {}
        for name in self.targets:
            decoded = self.space(name).decode(frozen[name], x_0[name])
            found[name] = jnp.where(request.known[name], request.given[name], decoded)
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
        """Generates tokens as `sample` does; also returns all tokens before each step."""
        samplers = samplers or self._samplers
        samplers = Named({n: sampler.bind(self.space(n).grid) for n, sampler in samplers.items()})
        x_1 = self.start(frozen, keys, request)
        processes, how = self.processes, (self.guide, self.processes)
        if weak is None:
            unknown = self._unknown(streams(keys, "hidden"))
            predict = guided(self.predict(params), unknown, request.branches, *how)
        else:
            (branch,) = request.branches
            predict = autoguided(self.predict(params), weak, branch.scale, *how)
        times = self.times(request, samplers)
        edits = request.edits.items()
        kept = Named({name: edit.keep for name, edit in edits if isinstance(edit, EditInputs)})
        noised = [
            n for n in kept if not (processes[n].is_discrete or self.targets[n].inpaint_share)
        ]
        each = samplers, processes, x_1, times
        return trajectory(keys, predict, *each, known=kept, noised=noised)

    def start(self, frozen: Frozen, keys: Key[Array, " b"], request: Request) -> Named[X]:
        """Returns x at the start of generation: known modalities' tokens, noise for the others."""
        x = dict(self._unknown(keys))
        for name in self.targets:
            x_0 = self.space(name).encode(frozen[name], request.given[name])
            x[name] = jnp.where(request.known[name], x_0, x[name])
        for name, edit in request.edits.items():
            encode = functools.partial(self.space(name).encode, frozen[name])
            x[name] = edit.start(encode, self.process(name), streams(keys, f"{name}/edit"))
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

        The reveal windows of the wanted modalities are stretched over the whole generation.
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
            # Rounding must not start a window a step early, or end it above 0.
            falling = jnp.where(falling > 1.0 - 1e-5, 1.0, falling)
            falling = jnp.where(falling < 1e-5, 0.0, falling)
            falling = samplers[name].times(self.targets[name].process, falling)
            if name in request.edits:
                falling = falling * request.edits[name].strength
            constant = jnp.where(request.known[name], 0.0, 1.0)
            times[name] = jnp.where(wanted[name], falling, jnp.full_like(falling, constant))
        zeros = {name: jnp.zeros(steps + 1) for name in self.conditions}
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
                decoded data; None encodes `given[name]`.
            random_times: take times at which the mean of the estimate is the bound itself. Without
                it they are the middles of equal intervals. Random times t are the squares of
                equally spaced numbers, shifted by one random number per example (Kingma et al.,
                arXiv:2107.00630, appendix I.1), and weighted by 2 sqrt(t): the loss of a rare code
                that is hidden at a small t is large, in proportion to 1 / t, so that with t spread
                evenly the variance of the estimate would be infinite.
        """
        process = self.process(name)
        if x_0 is None:
            x_0 = self.space(name).encode(frozen[name], request.given[name])
        x, t = self._partly_hidden(frozen, keys, request, hidden or Named())
        predict = self.predict(params)

        def time(number: Array) -> tuple[Array, Array | float]:
            if not random_times:
                return jnp.full((len(keys), 1), (number + 0.5) / rounds), 1.0
            shift = 1.0 - jax.vmap(jax.random.uniform)(streams(keys, "shift"))  # t = 0 has no loss
            root = (number + shift[:, None]) / rounds
            return root**2, 2.0 * root

        def add(total: Array, number: Array) -> tuple[Array, None]:
            now, weight = time(number)
            noise_keys = jax.vmap(jax.random.fold_in, (0, None))(streams(keys, "evidence"), number)
            x_t, noise = process.noise(noise_keys, x_0, now)
            prediction = predict(x | {name: x_t}, t | {name: now})[name]
            loss = process.scoring_loss(prediction, x_0, x_t, noise, now)
            return total + weight * loss, None

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
        """Returns x and t at the start of generation, with the hidden positions unknown."""
        x, t = dict(self.start(frozen, keys, request)), {}
        unknown = self._unknown(streams(keys, "hidden"))
        for name, target in self.targets.items():
            t[name] = jnp.full((len(keys), 1), jnp.where(request.known[name], 0.0, 1.0))
            if name in hidden:
                is_hidden = hidden[name] | ~request.known[name]
                x[name] = jnp.where(is_hidden[..., None], unknown[name], x[name])
                at = is_hidden.astype(jnp.float32)
                if target.process.is_discrete:
                    # Training gave all codes one time, which matches the share of masked codes.
                    at = target.process.time_at(jnp.mean(at, axis=1, keepdims=True))
                t[name] = at
        for name in self.conditions:
            t[name] = jnp.zeros((len(keys), 1))
        return Named(x), Named(t)
