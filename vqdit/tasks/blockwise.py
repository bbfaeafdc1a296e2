"""Targets that are generated block by block; each block is conditioned on all earlier ones.

With blocks x^1, x^2, ... of a sequence, log p(x) = sum over k of log p(x^k | x^1 ... x^(k-1)). Each
term is bounded by diffusion over the codes of one block. Training computes all terms in one pass:
the input has the noised blocks, each with its own time, followed by the clean blocks (see
`vqdit.models.visibility`). Blocks of one code give an autoregressive model, and a single block
gives ordinary diffusion. Arriola et al., "Block Diffusion", arXiv:2503.09573, eq. 3 and 6.

Other modalities see such a target only if it is completely known, so all other wanted targets are
generated first. Generated sequences have the number of codes of the training data, not more.
"""

import functools

import jax
import jax.numpy as jnp

from vqdit.modalities import Modality, Text
from vqdit.models.cached import CachedDiT
from vqdit.processes import Process, TimeDistribution
from vqdit.processes.base import Codes, Index, Loss, Prediction, X, strata
from vqdit.processes.categorical import Categorical
from vqdit.samplers import Branch, Guide, Sampler, guided
from vqdit.samplers.base import Predict
from vqdit.samplers.blockwise import BlockNetwork, Kept, generate_blocks
from vqdit.samplers.guidance import with_branches
from vqdit.tasks import lengths
from vqdit.tasks.multimodal import MultimodalTask, NetworkView
from vqdit.tasks.request import Request
from vqdit.typing import Array, Bool, Float, Int, Key, Named, Params

Times = Named[Float[Array, "b _"]]
END = 0
"""The code that pads texts, and ends documents."""


def own_times(
    key: Key[Array, ""],
    t: Float[Array, "b 1"],
    distribution: TimeDistribution,
    index: Index,
    size: int,
    shape: tuple[int, int],
) -> Float[Array, "b l"]:
    """Draws a time for each block of every example, independently of the other blocks.

    Args:
        key: the key of the step.
        t: the time of the whole target; 0 (known) and 1 (unknown) are kept for all blocks.
        distribution: the distribution of times.
        index: the row of each example in the global batch.
        size: number of examples in the global batch.
        shape: number of blocks, and codes in each.

    Returns:
        The time of every position.
    """
    numbers = jnp.arange(shape[0])
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
    u = jax.vmap(strata, (0, None, None), 1)(keys, index % size, size)
    drawn = jnp.where((t > 0.0) & (t < 1.0), distribution.quantile(u), t)
    return jnp.repeat(drawn, shape[1], axis=1)


def shown(x_t: X, x_0: X) -> X:
    """Returns the network's input in training: the noised codes, followed by the clean codes."""
    return jnp.concatenate([x_t, x_0], axis=1)


def surprise(process: Process, prediction: Prediction, x_0: Codes) -> Loss:
    """Returns -log p(x_0) in nats of blocks of one code, each predicted from pure noise."""
    if not isinstance(process, Categorical):
        raise TypeError(
            f"blocks need a process over codes, got {type(process).__name__}; use Masked"
        )
    log_p = jax.nn.log_softmax(process.logits(prediction, x_0.shape[-1]), axis=-1)
    log_p = jnp.take_along_axis(log_p, jnp.maximum(x_0, 0)[..., None], axis=-1)[..., 0]
    return -jnp.sum(jnp.where(x_0 < 0, 0.0, log_p), axis=-1)


def end_code(modality: Modality) -> int | None:
    """Returns the code that ends examples of a modality, if it has such a code."""
    return END if isinstance(modality, Text) and not modality.variable else None


def together(task: MultimodalTask, samplers: Named[Sampler]) -> Named[Sampler]:
    """Returns the samplers of the targets without blocks, which are generated together."""
    return Named({name: each for name, each in samplers.items() if not task.targets[name].block})


def with_blocks(
    task: MultimodalTask,
    params: Params,
    keys: Key[Array, " b"],
    request: Request,
    samplers: Named[Sampler],
    x: Named[X],
    *,
    unknown: Named[X],
    known: Named[Bool[Array, "b _"]],
    guide: Guide,
) -> Named[X]:
    """Generates the targets that are divided into blocks, block by block; returns all targets.

    Args:
        task: the task of the model.
        params: parameters of the network.
        keys: one key per sample.
        request: the given values and the wanted targets.
        samplers: samplers of the targets.
        x: all modalities, after the targets without blocks have been generated.
        unknown: all modalities as pure noise (t = 1), for guidance.
        known: True at positions of edited targets that are kept.
        guide: options of guidance.
    """
    for name, target in task.targets.items():
        if not target.block:
            continue
        is_there = {n: request.known[n] | request.wanted[n] for n in task.targets}
        for later in [*task.targets][[*task.targets].index(name) :]:
            if task.targets[later].block:  # not generated yet
                is_there[later] = request.known[later]
        t = {n: jnp.where(there, 0.0, 1.0) for n, there in is_there.items() if n != name}
        t |= {condition: jnp.zeros(()) for condition in task.conditions}
        t |= {lengths.of(n): t[n] for n in task.variable}  # unknown where the target is
        sampler = samplers[name]
        times = sampler.times(target.process, jnp.linspace(1.0, 0.0, sampler.steps + 1))
        if name in request.edits:
            times = times * request.edits[name].strength
        generated = functools.partial(
            generate_target,
            *(task, params, keys, name, sampler),
            t=Named(t),
            times=times,
            unknown=unknown,
            branches=request.branches,
            guide=guide,
            known=known.get(name),
        )
        own = jax.lax.cond(request.wanted[name], generated, lambda x, name=name: x[name], x)
        x = x | {name: own}
    return Named({name: x[name] for name in task.targets})


def generate_target(
    task: MultimodalTask,
    params: Params,
    keys: Key[Array, " b"],
    name: str,
    sampler: Sampler,
    x: Named[X],
    *,
    t: Named[Float[Array, ""]],
    times: Float[Array, " times"],
    unknown: Named[X],
    branches: tuple[Branch, ...],
    guide: Guide,
    known: Bool[Array, "b l"] | None,
) -> Codes:
    """Generates one target of a task block by block.

    Args:
        task: the task of the model.
        params: parameters of the network.
        keys: one key per sample.
        name: the target.
        sampler: sampler of each block.
        x: values of all modalities; those of the target are noise or known codes.
        t: times of the other modalities, which are constant.
        times: times before and after each step of a block.
        unknown: all modalities as pure noise (t = 1), for guidance.
        branches: branches of guidance.
        guide: options of guidance.
        known: True at codes that are given.
    """
    block = task.targets[name].block
    cached = functools.partial(CachedDiT, model=task.model, name=name)
    unknown = unknown | {name: unknown[name][:, :block]}
    clean = Named(
        {n: jnp.full((len(keys), 1), t[n]) for n in t} | {name: jnp.zeros((len(keys), 1))}
    )

    def others() -> Kept:
        view = seen(x[name][:, :block])
        return cached(inputs=view.inputs).others(params, view.x, view.t, view.mask)

    def seen(own: X) -> NetworkView:
        """Returns the network's input with the clean codes `own` of a block, for all branches."""
        return task.seen(*with_branches(x | {name: own}, clean, unknown, branches))

    def predict(kept: Kept, start: Int[Array, ""]) -> Predict:
        def plain(x: Named[X], t: Times) -> Named[Prediction]:
            view = task.seen(x, t)
            network = cached(inputs=view.inputs)
            prediction, _ = network.step(params, kept, view.x, view.t, start, view.mask)
            return Named({name: prediction})

        return guided(plain, unknown, branches, guide, task.processes)

    def keep(kept: Kept, x_0: Codes, start: Int[Array, ""]) -> Kept:
        view = seen(x_0)
        network = cached(inputs=view.inputs)
        return network.keep(params, kept, view.x, view.t, start, view.mask)

    blocks = BlockNetwork(others, predict, keep, cached(inputs=task.inputs).with_room)
    every = {n: jnp.full_like(times, t[n]) for n in t} | {name: times}
    end = end_code(task.modality(name))
    how = sampler, task.process(name), x, Named(every), block
    return generate_blocks(keys, blocks, name, *how, known=known, end=end)
