"""Scoring with a trained DiT: how well a modality matches the known modalities.

For codes, the score is a bound on -log p(x | known): the mean over times of the process's scoring
loss. For masked diffusion it is eq. 10 of Sahoo et al., "Simple and Effective Masked Diffusion
Language Models", arXiv:2406.07524. For an example of variable length, -log p(length) is added to
the bound of its tokens.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vqdit.processes import Process
from vqdit.processes.base import X
from vqdit.processes.categorical import MASK
from vqdit.random import streams
from vqdit.tasks import blockwise, documents, lengths
from vqdit.tasks.base import Frozen
from vqdit.tasks.generation import GenerationTask
from vqdit.tasks.request import Request
from vqdit.typing import Array, Bool, Float, Int, Key, Named, Params


class Scored(NamedTuple):
    """The tokens of the scored target.

    Attributes:
        x_0: codes [b, l, q], or latents [b, l, d].
        real: True at tokens that are not padding; None if there is no padding.
        length: number of tokens of each example, if it is variable.
    """

    x_0: X
    real: Bool[Array, "b l"] | None
    length: Int[Array, " b"] | None


class ScoringTask(GenerationTask):
    """Scoring with a trained DiT."""

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
        """Returns the scoring loss of a target, given the known modalities; lower is better.

        For a discrete process this is an upper bound on -log p(x | known) in nats, estimated at
        `rounds` equally spaced times; for a continuous process it is the mean squared denoising
        error, which is not a likelihood.

        Args:
            params: parameters of the network.
            frozen: arrays of the tokenizers.
            keys: one key per example. Equal keys draw equal noise, so that candidates or conditions
                can be compared under the same noise.
            request: the known values; `given[name]` is scored and must not be known.
            name: name of the scored target.
            rounds: number of network evaluations.
            hidden: positions of known targets that the network does not see.
            x_0: scored tokens, such as generated ones, which may differ from the encoding of their
                decoded data; None encodes `given[name]`. Codes of -1 are unknown: the bound is on
                -log p(the other codes).
            random_times: True uses random times, for which the estimate is unbiased. False uses the
                midpoints of equal intervals. Random times t are the squares of equally spaced
                numbers that are shifted by one random number per example (Kingma et al.,
                arXiv:2107.00630, appendix I.1), and have the weight 2 sqrt(t). The loss of a rare
                code that is hidden at a small t is proportional to 1 / t, so the variance of the
                estimate would be infinite for uniform t.
        """
        process, block = self.process(name), self.targets[name].block
        scored = self._scored(frozen, request, name, x_0)
        data = scored.x_0
        x, t = self._partly_hidden(frozen, keys, request, hidden or Named())
        predict, of_length = self.predict(params), jnp.zeros(len(keys))
        if self.is_packed(name):
            numbers = Named({name: documents.shown(documents.of_codes(jnp.asarray(data)))})
            predict = functools.partial(self._outputs, params, documents=numbers)
        if scored.length is not None:
            of_length, x, t = self._length_surprise(params, x, t, name, scored.length)

        def add(total: Array, number: Array) -> tuple[Array, None]:
            now, weight = _time(keys, number, rounds, random_times=random_times)
            now = jnp.ones_like(now) if block == 1 else now  # at t = 1 the bound is the likelihood
            noise_keys = jax.vmap(jax.random.fold_in, (0, None))(streams(keys, "evidence"), number)
            x_t, noise = process.noise(noise_keys, data, now)
            if block:
                shown, at = blockwise.shown(x_t, data), now
            else:
                shown, at = x_t, _time_seen(process, scored, now)
            prediction = predict(x | {name: shown}, t | {name: at})[name]
            if block == 1:
                return total + blockwise.surprise(process, prediction, jnp.asarray(data)), None
            loss = process.scoring_loss(prediction, data, x_t, noise, now)
            return total + weight * loss, None

        total, _ = jax.lax.scan(add, jnp.zeros(jnp.shape(data)[:2]), jnp.arange(rounds))
        if scored.real is not None:
            total = jnp.where(scored.real, total, 0.0)
        if process.is_discrete:
            return jnp.sum(total / rounds, axis=-1) + of_length
        if scored.real is None:
            return jnp.mean(total / rounds, axis=-1)
        count = jnp.maximum(jnp.sum(scored.real, axis=1), 1)
        return jnp.sum(total / rounds, axis=-1) / count

    def _scored(self, frozen: Frozen, request: Request, name: str, x_0: X | None) -> Scored:
        """Returns the scored tokens: `x_0`, or the tokens of `given[name]` if `x_0` is None."""
        length, mask = None, request.mask.get(name)
        if mask is not None:
            stored = jnp.sum(mask, axis=1)
            given = x_0 is not None
            length = request.lengths[name] if given else self.space(name).token_lengths(stored)
        if x_0 is None:
            x_0 = self.space(name).encode(frozen[name], request.given[name], mask)
        tokens = jnp.asarray(x_0)
        real = None if length is None else lengths.real(length, tokens.shape[1])
        if self.is_packed(name):
            real = documents.of_codes(tokens) >= 0
        return Scored(tokens, real, length)

    def _length_surprise(
        self,
        params: Params,
        x: Named[X],
        t: Named[Float[Array, "b _"]],
        name: str,
        length: Int[Array, " b"],
    ) -> tuple[Float[Array, " b"], Named[X], Named[Float[Array, "b _"]]]:
        """Returns -log p(length) in nats, and x and t in which the length is known."""
        code, zeros = lengths.of(name), jnp.zeros((len(length), 1))
        x = x | {code: lengths.codes(jnp.full_like(length, lengths.UNKNOWN))}
        outputs = self._outputs(params, x, t | {code: zeros + 1.0})
        surprise = lengths.surprise(outputs[code], length)
        return surprise, x | {code: lengths.codes(length)}, t | {code: zeros}

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
                    # In training, all codes had one time, which corresponds to the fraction of
                    # masked codes.
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


def _time(
    keys: Key[Array, " b"], number: Array, rounds: int, *, random_times: bool
) -> tuple[Float[Array, "b 1"], Float[Array, "b 1"]]:
    """Returns the time of a round and the weight of its loss; see `ScoringTask.scoring_loss`."""
    if not random_times:
        middle = jnp.full((len(keys), 1), (number + 0.5) / rounds)
        return middle, jnp.ones_like(middle)
    shift = 1.0 - jax.vmap(jax.random.uniform)(streams(keys, "shift"))  # t = 0 has no loss
    root = (number + shift[:, None]) / rounds
    return root**2, 2.0 * root


def _time_seen(process: Process, scored: Scored, t: Float[Array, "b 1"]) -> Float[Array, "b 1"]:
    """Returns the time that the network is given, in [t, 1].

    It is later (noisier) than t if some codes are masked at all times, as these add to the fraction
    of masked codes.
    """
    if not process.is_discrete:
        return t
    is_none = jnp.all(scored.x_0 == MASK, axis=-1)
    none = jnp.mean(is_none, axis=-1, keepdims=True)
    if scored.length is not None and scored.real is not None:
        count = jnp.maximum(jnp.sum(scored.real, axis=-1, keepdims=True), 1)
        none = jnp.sum(is_none & scored.real, axis=-1, keepdims=True) / count
    return jnp.where(none > 0.0, process.time_seen(t, 1.0 - none, none), t)
