"""A trained DiT as a Python object: generates any modalities from any others."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit import parallel, rules
from vqdit.inference.requests import (
    Inputs,
    check_edited,
    check_memory,
    check_names,
    check_samplers,
    pack,
    require_names,
    told_lengths,
    wanted_targets,
)
from vqdit.inference.scoring import Measure, chosen_measure, score_candidates
from vqdit.inference.templates import read_template
from vqdit.modalities import Modality
from vqdit.precision import in_32_bits
from vqdit.random import per_example
from vqdit.runs.restoring import Restored
from vqdit.samplers import Sampler
from vqdit.tasks.diffusion import DiffusionTask
from vqdit.tasks.editing import EditSpec, StoredEdit, stored_edit
from vqdit.tasks.guidance_scales import (
    Guidance,
    autoguidance_branches,
    check_autoguidance,
    check_guidance,
    guidance_branches,
)
from vqdit.tasks.interpolation import Interpolation, StoredInterpolation, stored_interpolation
from vqdit.tasks.request import Request
from vqdit.tasks.templates import Prompt, Template
from vqdit.typing import Named, Params

BATCH = 64
"""Default number of samples that are generated at a time."""


class Generator:
    """A trained DiT with its tokenizers; samples and scores on all devices of the process.

    `sample` takes and returns *values*: uint8 images [n, h, w, c], int16 audio [n, t], int labels
    [n], and texts as str [n]. All but texts are arrays in stored form.

    Attributes:
        task: the task of the run.
        params: averaged parameters of the network.
        frozen: arrays of the tokenizers.
        step: number of training steps.
    """

    def __init__(self, restored: Restored) -> None:
        if not isinstance(restored.task, DiffusionTask):
            raise ValueError(
                f"the run is a {type(restored.task).__name__}, not a generator; load the run of a "
                "DiT"
            )
        self.task: DiffusionTask = restored.task
        self.params, self.frozen, self.step = restored.params, restored.frozen, restored.step

    @in_32_bits
    def sample(
        self,
        num: int,
        *,
        given: Mapping[str, Any] | None = None,
        want: str | Iterable[str] | None = None,
        guidance: Guidance = None,
        samplers: Mapping[str, Sampler] | None = None,
        edits: Mapping[str, EditSpec | Interpolation | Template | Prompt] | None = None,
        autoguide: "Generator | None" = None,
        lengths: Mapping[str, Any] | None = None,
        seed: int = 0,
        batch_size: int = BATCH,
        report: Callable[[int], None] | None = None,
    ) -> dict[str, np.ndarray]:
        """Generates any modalities from any others; all wanted modalities are generated together.

        Sample i depends only on (seed, i) and on its given values. In an interpolation, all samples
        have the noise of sample 0.

        Args:
            num: number of samples.
            given: known values by name: one value for all samples, or a stack of F values, of which
                sample i uses item i mod F. A label of -1 means no label. If a condition with
                classes is not given, samples cycle through its classes, or have no label in an
                interpolation.
            want: name or names of the targets to generate; None generates every target that is not
                given. Targets neither given nor wanted stay unknown.
            guidance: one scale guides away from the unconditional prediction. A map from pairs to
                scales, such as {"image:text": 3.0}, guides the first modality of a pair away from
                its prediction without the second one. None uses the config's scale.
            samplers: samplers by target, which replace the config's.
            edits: edits of wanted targets by name: an `EditSpec`, an `Interpolation` whose samples
                are equally spaced between two pictures, a `Template` whose gaps are filled in, or a
                `Prompt` that is continued.
            autoguide: a smaller or less trained model over the same tokens. Guidance then moves
                away from the prediction of this model, and must be one scale. Karras et al.,
                arXiv:2406.02507.
            lengths: lengths of wanted targets of variable length by name: one length for all
                samples, or a list of F lengths, of which sample i uses item i mod F. The unit is
                bytes of texts and seconds of sounds. The model draws the lengths of other targets.
            seed: seed of the noise.
            batch_size: number of samples in a batch, rounded up to a multiple of the number of
                devices. The last batch is padded, so only one shape is compiled.
            report: called after every batch with the number of samples that are finished.

        Returns:
            `num` values of each wanted and given modality. Given values are unchanged bit for bit.
            Values of variable length are an array of objects.

        Raises:
            ValueError: a number is out of range, or the model does not support the request.
        """
        rules.check(rules.SAMPLES, num=num)
        rules.check(rules.BATCH, batch_size=batch_size)
        rules.check(rules.SEED, seed=seed)
        inputs = self.prepare(given, want, samplers, guidance, autoguide)
        inputs = inputs._replace(counts=told_lengths(self.task, inputs.wanted, lengths, num))
        returned = {*inputs.wanted, *inputs.stored}
        check_memory(self.task, returned, num)
        stored_edits = {
            name: self._stored_edit(name, inputs, edit, num, seed)
            for name, edit in require_names("edits", edits).items()
        }
        is_path = any(isinstance(edit, StoredInterpolation) for edit in stored_edits.values())
        if is_path:
            inputs = inputs.without_default_labels()
        task, params = (autoguide.task, autoguide.params) if autoguide else (None, None)
        mesh = parallel.of_process()
        size = parallel.divisible(min(batch_size, num), mesh)
        chosen = self.samplers(samplers)
        run = self._compiled(chosen, task, mesh)
        found: dict[str, np.ndarray] = {}
        arrays = parallel.put_replicated((self.params, self.frozen, params), mesh)
        told = {
            name: np.resize(edit.lengths, num)
            for name, edit in stored_edits.items()
            if isinstance(edit, StoredEdit) and edit.lengths is not None
        }
        inputs = inputs._replace(counts={**inputs.counts, **told})
        inputs = self.with_lengths(inputs, chosen, num, size, seed)
        for rows, request, keys in inputs.batches(np.arange(num), size, seed):
            edited = {name: edit.take(rows) for name, edit in stored_edits.items()}
            for name, edit in edited.items():
                if isinstance(edit, StoredEdit) and edit.lengths is not None:
                    room = request.given[name].shape[1]
                    tokens = -(-room // self.task.space(name).positions_per_token)
                    edited[name] = edit.cut(room, tokens)
            edit_inputs = Named({name: edit.inputs for name, edit in edited.items()})
            request = request._replace(edits=edit_inputs)
            if is_path:
                keys = per_example(jax.random.key(seed), jnp.zeros_like(rows))
            out = run(*arrays, *parallel.put_examples((keys, request), size, mesh))
            part = {name: np.asarray(out[name]) for name in out if name in returned}
            part |= {name: edit.pasted(part[name]) for name, edit in edited.items()}
            part |= {
                name: np.asarray(request.given[name])
                for name, condition in self.task.conditions.items()
                if name in returned or condition.classes
            }
            part |= {name: inputs.cut(name, part[name], rows) for name in part}
            first, end = rows[0], min(rows[0] + size, num)  # the others pad the last batch
            for name, values in part.items():
                if name not in found:
                    found[name] = np.empty((num, *values.shape[1:]), values.dtype)
                found[name][first:end] = values[: end - first]
            if report is not None:
                report(int(end))
        return {name: self.modality(name).unpack(stored) for name, stored in found.items()}

    @in_32_bits
    def with_lengths(
        self, inputs: Inputs, samplers: Named[Sampler], num: int, size: int, seed: int
    ) -> Inputs:
        """Returns inputs with the lengths of all samples; draws unknown lengths.

        Args:
            inputs: inputs of `num` samples.
            samplers: samplers of all targets.
            num: number of samples.
            size: number of samples in a batch.
            seed: seed of the samples.
        """
        counts, mesh = inputs.counts, parallel.of_process()
        unknown = [n for n in self.task.variable if n in inputs.wanted and n not in counts]
        if not unknown:
            return inputs
        drawn = {name: np.zeros(num, np.int32) for name in unknown}
        arrays = parallel.put_replicated((self.params, self.frozen), mesh)
        run = _compiled_lengths(self.task, samplers, mesh)
        for rows, request, keys in inputs.batches(np.arange(num), size, seed):
            found = run(*arrays, *parallel.put_examples((keys, request), size, mesh))
            for name in unknown:
                drawn[name][rows] = np.asarray(found[name])
        return inputs._replace(counts={**counts, **drawn})

    def _stored_edit(
        self,
        name: str,
        inputs: Inputs,
        edit: EditSpec | Interpolation | Template | Prompt,
        num: int,
        seed: int,
    ) -> StoredEdit | StoredInterpolation:
        check_edited(inputs.wanted, [name])
        if isinstance(edit, Template | Prompt):
            return read_template(inputs, self.params, self.frozen, name, edit, num, seed)
        if name in inputs.counts:
            raise ValueError(
                f"{name!r}: a sample has the length of the example that is edited; leave out the "
                "requested length"
            )
        try:
            modality = self.modality(name)
            if isinstance(edit, Interpolation):
                if modality.lengths:
                    raise ValueError(
                        "examples of variable length cannot be interpolated; vary one with --init "
                        "and --strength instead"
                    )
                first, second = self.pack(name, edit.first), self.pack(name, edit.second)
                return stored_interpolation(edit, first, second, modality, num)
            if not isinstance(edit, EditSpec):
                raise ValueError(
                    f"an edit must be an EditSpec, Interpolation, Template or Prompt, got {edit!r}"
                )
            return stored_edit(edit, self.pack(name, edit.value), modality, self.task.space(name))
        except ValueError as error:
            raise ValueError(f"{name!r}: {error}") from error

    @in_32_bits
    def score(
        self,
        given: Mapping[str, Any],
        candidates: Mapping[str, Any],
        *,
        measure: Measure | None = None,
        rounds: int = 32,
        seed: int = 0,
        batch_size: int = BATCH,
    ) -> np.ndarray:
        """Scores how well each candidate matches given values: cross-modal retrieval by likelihood.

        Li et al., "Your Diffusion Model is Secretly a Zero-Shot Classifier", arXiv:2303.16203.

        Args:
            given: known values by name: one value, or n values of each modality.
            candidates: the name of one modality, and k values.
            measure: "likelihood" scores by log p(candidate | given), "information" by log
                p(candidate | given) - log p(candidate), with the same noise. None uses information
                for pictures and sounds, as their unconditional likelihoods differ much, and
                likelihood for labels and texts, or if nothing is given.
            rounds: number of network evaluations per estimate, at equally spaced times.
            seed: seed of the noise, which is the same for all candidates of one given item.
            batch_size: number of scores in a batch.

        Returns:
            float32 [n, k], higher is better. For a discrete process log p is an estimated lower
            bound in nats; for a continuous one it is replaced by the negative denoising error,
            which is not a likelihood.

        Raises:
            ValueError: a number is out of range, the candidates are not of exactly one modality, or
                their modality is also given.
        """
        candidates = require_names("candidates", candidates)
        if len(candidates) != 1:
            raise ValueError(
                f"score compares candidates of one modality, got {', '.join(candidates) or 'none'}"
            )
        rules.check(rules.ROUNDS, rounds=rounds)
        rules.check(rules.BATCH, batch_size=batch_size)
        rules.check(rules.SEED, seed=seed)
        ((name, values),) = candidates.items()
        inputs = self.prepare(given, name, None, None)._replace(branches=())
        stack = self.pack(name, values)
        measure = chosen_measure(self.task, name, given, measure)
        how = {"measure": measure, "rounds": rounds, "seed": seed, "batch_size": batch_size}
        return score_candidates(inputs, self.params, self.frozen, stack, **how)

    @in_32_bits
    def prepare(
        self,
        given: Mapping[str, Any] | None,
        want: str | Iterable[str] | None,
        samplers: Mapping[str, Sampler] | None,
        guidance: Guidance,
        autoguide: "Generator | None" = None,
    ) -> Inputs:
        """Checks arguments of `sample`, and returns the inputs in stored form.

        Raises:
            ValueError: the model does not support the request.
        """
        given, samplers = require_names("given", given), require_names("samplers", samplers)
        names: list[str] | None = None
        if want is not None:
            names = [*want] if isinstance(want, Iterable) and not isinstance(want, str) else [want]
            if not all(isinstance(name, str) for name in names):
                raise ValueError(f"want must be a name or several names of targets, got {want!r}")
        check_names(self.task, given, names)
        check_samplers(self.task, samplers)
        wanted = wanted_targets(self.task, given, names)
        if not isinstance(autoguide, Generator | None):
            raise ValueError(f"autoguide must be a loaded Generator, got {autoguide!r}")
        if autoguide is None:
            check_guidance(self.task, [*given], wanted, guidance)
            branches = guidance_branches(self.task, given, guidance)
        else:
            check_autoguidance(self.task, autoguide.task, guidance)
            branches = autoguidance_branches(self.task, guidance)
        stored = {name: self.pack(name, values) for name, values in given.items()}
        return Inputs(self.task, stored, wanted, branches)

    def samplers(self, chosen: Mapping[str, Sampler] | None) -> Named[Sampler]:
        """Returns the samplers of all targets, from `chosen` or else from the config."""
        own = {name: target.sampler for name, target in self.task.targets.items()}
        return Named({**own, **(chosen or {})})

    def pack(self, name: str, values: Any) -> np.ndarray:
        """Returns the stored form of values; see `vqdit.inference.requests.pack`."""
        return pack(self.task, self.frozen, name, values)

    def modality(self, name: str) -> Modality:
        """Returns a modality of the model by name.

        Raises:
            ValueError: the model has no modality of this name; the message lists its modalities.
        """
        return self.task.modality(name)

    @functools.lru_cache(maxsize=8)  # noqa: B019 (a generator lives as long as the program)
    def _compiled(
        self, samplers: Named[Sampler], weak_task: DiffusionTask | None, mesh: jax.sharding.Mesh
    ) -> Any:
        def run(
            params: Params, frozen: Any, weak_params: Params, keys: Any, request: Request
        ) -> Any:
            weak = None if weak_task is None else weak_task.predict(weak_params)
            return self.task.sample(params, frozen, keys, request, samplers=samplers, weak=weak)

        return parallel.compile_on(run, mesh)


@functools.lru_cache(maxsize=8)
def _compiled_lengths(
    task: DiffusionTask, samplers: Named[Sampler], mesh: jax.sharding.Mesh
) -> Any:
    """Returns the compiled function that draws lengths, in tokens by name."""

    def run(params: Params, frozen: Any, keys: Any, request: Request) -> Any:
        return task.draw_lengths(params, frozen, keys, request, samplers).lengths

    return parallel.compile_on(run, mesh)
