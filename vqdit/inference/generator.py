"""A trained DiT as a Python object: any modalities in, any others out."""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit import parallel
from vqdit.modalities import Modality
from vqdit.random import per_example
from vqdit.runs.restoring import Restored
from vqdit.samplers import Branch, Sampler
from vqdit.tasks import scales
from vqdit.tasks.diffusion import DiffusionTask
from vqdit.tasks.editing import EditSpec, StoredEdit, changed
from vqdit.tasks.interpolation import Interpolation, StoredInterpolation, interpolated
from vqdit.tasks.request import Request
from vqdit.tasks.scales import Guidance
from vqdit.typing import Array, Key, Named, Params

BATCH = 64
"""Samples that are generated at a time, unless the caller says otherwise."""


class Generator:
    """A trained DiT with its tokenizers, which samples and scores on all devices of its process.

    *Values* are what `sample` takes and returns: arrays as they are stored (uint8 images
    [n, h, w, c], int16 audio [n, t], int labels [n]), and texts as str [n].

    Attributes:
        task: what it is.
        params: its averaged parameters.
        frozen: its tokenizers' arrays.
        step: training steps behind it.
    """

    def __init__(self, restored: Restored) -> None:
        if not isinstance(restored.task, DiffusionTask):
            raise ValueError(f"not a generator but a {type(restored.task).__name__}")
        self.task: DiffusionTask = restored.task
        self.params, self.frozen, self.step = restored.params, restored.frozen, restored.step

    def sample(
        self,
        num: int,
        *,
        given: Mapping[str, Any] | None = None,
        want: Sequence[str] | None = None,
        guidance: Guidance = None,
        samplers: Mapping[str, Sampler] | None = None,
        edits: Mapping[str, EditSpec | Interpolation] | None = None,
        autoguide: "Generator | None" = None,
        seed: int = 0,
        batch_size: int = BATCH,
    ) -> dict[str, np.ndarray]:
        """Generates any modalities from any others, the wanted ones together.

        Sample i depends on (seed, i) and what it is given, on nothing else. On a path from one
        picture to another all samples share the noise of sample 0.

        Args:
            num: how many.
            given: values of what is known, by name: one for all samples, or a stack whose item
                i mod F sample i uses. A label of -1 is no label. Labels of a condition that are
                not given go through the classes in turn; on a path they are none.
            want: names of what to generate; None is every target that is not given. What is
                neither given nor wanted stays unknown.
            guidance: one scale moves away from what is predicted without anything given; a map
                of pairs moves each modality away from what is predicted without the other one.
                None takes the config's scale.
            samplers: by name of the target; the config's for those not named.
            edits: of wanted targets, by name: examples that are changed, in part or slightly, or
                a path from one picture to another, which the samples divide into equal parts.
            autoguide: a smaller or less trained model over the same tokens; guidance, which is then
                one scale, moves away from what it predicts of the same. Karras et al.,
                arXiv:2406.02507.
            seed: of the noise.
            batch_size: samples at a time, or as many more as the devices divide equally; the last
                batch is filled up, so one shape compiles.

        Returns:
            Values of what was wanted and given (bit for bit), `num` of each.

        Raises:
            ValueError: a number is out of range, or `check` refuses what is asked for.
        """
        if num < 1 or batch_size < 1:
            raise ValueError(f"sample needs num and batch_size >= 1, got {num=} {batch_size=}")
        given, edits = given or {}, edits or {}
        self.check(given, want, samplers or {}, guidance, autoguide)
        stored = {name: self.pack(name, values) for name, values in given.items()}
        wanted = self.wanted(given, want)
        changes = {name: self._changed(name, wanted, edit, num) for name, edit in edits.items()}
        is_path = any(isinstance(change, StoredInterpolation) for change in changes.values())
        if is_path:
            stored |= self._no_labels(stored)
        if autoguide is None:
            task, params, branches = None, None, scales.branches(self.task, given, guidance)
        else:
            task, params = autoguide.task, autoguide.params
            branches = scales.away(self.task, guidance)
        mesh = parallel.of_process()
        size = parallel.divisible(min(batch_size, num), mesh)
        run, parts = self._compiled(self.samplers(samplers), task, mesh), []
        own = parallel.put_replicated((self.params, self.frozen, params), mesh)
        asked = np.arange(num), size, stored, wanted
        for rows, request, keys in self.batches(*asked, branches=branches, seed=seed):
            edited = {name: change.take(rows) for name, change in changes.items()}
            request = request._replace(edits=Named({n: each.edit for n, each in edited.items()}))
            if is_path:
                keys = per_example(jax.random.key(seed), jnp.zeros_like(rows))
            out = run(*own, *parallel.put_examples((keys, request), size, mesh))
            shown = {name: np.asarray(out[name]) for name in out if name in (*wanted, *given)}
            shown |= {name: each.pasted(shown[name]) for name, each in edited.items()}
            shown |= {
                name: np.asarray(request.given[name])
                for name, condition in self.task.conditions.items()
                if name in given or condition.classes
            }
            parts.append(shown)
        return {
            name: self.modality(name).unpack(np.concatenate([part[name] for part in parts])[:num])
            for name in parts[0]
        }

    def _no_labels(self, given: Iterable[str]) -> dict[str, np.ndarray]:
        """Returns "none" for every condition that is not given."""
        rest = [name for name in self.task.conditions if name not in given]
        return {name: np.asarray(self.task.blank_given(name, 1)) for name in rest}

    def _changed(
        self, name: str, wanted: Sequence[str], edit: EditSpec | Interpolation, num: int
    ) -> StoredEdit | StoredInterpolation:
        modality = self.modality(name)
        if name not in wanted:
            raise ValueError(
                f"{name!r} is changed, but it is not generated; generated: {', '.join(wanted)}"
            )
        try:
            if isinstance(edit, Interpolation):
                first, second = self.pack(name, edit.first), self.pack(name, edit.second)
                return interpolated(edit, first, second, modality, num)
            space = self.task.space(name)
            values = self.pack(name, edit.value)
            return changed(edit, values, modality, space.grid, space.shape[0])
        except ValueError as error:
            raise ValueError(f"{name!r}: {error}") from error

    def score(
        self,
        given: Mapping[str, Any],
        candidates: Mapping[str, Any],
        *,
        rounds: int = 32,
        seed: int = 0,
        batch_size: int = BATCH,
    ) -> np.ndarray:
        """Says how well each candidate fits what is given: cross-modal retrieval by likelihood.

        Li et al., "Your Diffusion Model is Secretly a Zero-Shot Classifier", arXiv:2303.16203.

        Args:
            given: values of what is known, by name: one, or n of each.
            candidates: one name, and k values.
            rounds: network evaluations per score, at times in equal distance.
            seed: of the noise, which is the same for all candidates of one given item.
            batch_size: scores at a time.

        Returns:
            float32 [n, k], higher is better. For a discrete process a lower bound on
            log p(candidate | given) in nats, estimated; for a continuous one minus the error of
            its denoising, which is no likelihood.

        Raises:
            ValueError: there is not one modality of candidates, or it is given too.
        """
        if len(candidates) != 1:
            raise ValueError(
                f"score compares candidates of one modality, got {', '.join(candidates) or 'none'}"
            )
        if rounds < 1 or batch_size < 1:
            raise ValueError(f"score needs rounds and batch_size >= 1, got {rounds=} {batch_size=}")
        ((name, values),) = candidates.items()
        self.check(given, [name], {}, None)
        stored = {known: self.pack(known, value) for known, value in given.items()}
        stack = self.pack(name, values)
        count = max((len(value) for value in stored.values()), default=1)
        for known, value in stored.items():
            if len(value) not in (1, count):
                raise ValueError(f"{known} has {len(value)} items, another modality {count}")
        mesh = parallel.of_process()
        run = self._compiled_score(name, rounds, mesh)
        own = parallel.put_replicated((self.params, self.frozen), mesh)
        item, candidate = (axis.ravel() for axis in np.indices((count, len(stack))))
        scores = np.zeros(len(item), np.float32)
        stored = stored | self._no_labels(stored)
        size = parallel.divisible(min(batch_size, len(item)), mesh)
        for rows, request, keys in self.batches(item, size, stored, [name], seed=seed):
            scored = {name: jnp.asarray(stack[candidate[rows]])}
            request = request._replace(given=request.given | scored)
            out = run(*own, *parallel.put_examples((keys, request), size, mesh))
            scores[rows] = -np.asarray(out)
        return scores.reshape(count, len(stack))

    def check(
        self,
        given: Iterable[str],
        want: Sequence[str] | None,
        samplers: Mapping[str, Sampler],
        guidance: Guidance,
        autoguide: "Generator | None" = None,
    ) -> None:
        """Raises ValueError if the model cannot sample so; see `sample`."""
        targets, given = self.task.targets, list(given)
        for name in (*given, *(want or ())):
            self.modality(name)
        for name in want or ():
            if name not in targets:
                raise ValueError(
                    f"{name!r} can only be given to this model; it generates {', '.join(targets)}"
                )
            if name in given:
                raise ValueError(f"{name!r} is given and wanted; leave it out of one of them")
        if not self.wanted(given, want):
            known = ", ".join(self.task.conditions)
            raise ValueError(
                f"nothing is left to generate: this model generates {', '.join(targets)}, "
                f"which is given{f', from {known}' if known else ''}"
            )
        for name, sampler in samplers.items():
            if name not in targets:
                known = ", ".join(targets)
                raise ValueError(f"a sampler for {name!r}, but this model generates {known}")
            sampler.check(targets[name].process)
        if autoguide is None:
            scales.check(self.task, given, self.wanted(given, want), guidance)
        else:
            scales.check_autoguide(self.task, autoguide.task, guidance)

    def wanted(self, given: Iterable[str], want: Sequence[str] | None) -> list[str]:
        """Returns the names of what is generated; see `sample`."""
        given = set(given)
        return [n for n in self.task.targets if (n in want if want is not None else n not in given)]

    def samplers(self, chosen: Mapping[str, Sampler] | None) -> Named[Sampler]:
        """Returns the samplers of all targets: the config's, but for the chosen ones."""
        own = {name: target.sampler for name, target in self.task.targets.items()}
        return Named({**own, **(chosen or {})})

    def batches(
        self,
        index: np.ndarray,
        size: int,
        stored: Mapping[str, np.ndarray],
        wanted: Sequence[str],
        *,
        branches: tuple[Branch, ...] = (),
        seed: int,
    ) -> Iterator[tuple[np.ndarray, Request, Key[Array, " size"]]]:
        """Asks for samples in batches of one size, so that one shape compiles.

        Args:
            index: numbers of the samples, int [n].
            size: of a batch; the last one is filled up with the first samples.
            stored: what is given, in stored form; sample i has item i mod F.
            wanted: names of what is generated.
            branches: of guidance.
            seed: of the noise.

        Yields:
            Which samples they are, int [size] from 0 to n - 1, what they are given, and their keys.
        """
        for start in range(0, len(index), size):
            rows = (start + np.arange(size)) % len(index)
            keys = per_example(jax.random.key(seed), jnp.asarray(index[rows]))
            yield rows, self.request(index[rows], stored, wanted, branches), keys

    def request(
        self,
        index: np.ndarray,
        stored: Mapping[str, np.ndarray],
        wanted: Sequence[str],
        branches: tuple[Branch, ...] = (),
    ) -> Request:
        """Returns what the samples of these numbers are given; see `batches`."""
        task, rows = self.task, {}
        for name in (*task.targets, *task.conditions):
            if name in stored:
                rows[name] = jnp.asarray(stored[name][index % len(stored[name])])
            elif name in task.conditions and task.conditions[name].classes:
                rows[name] = jnp.asarray(index % task.conditions[name].classes, jnp.int32)
            else:
                rows[name] = task.blank_given(name, len(index))
        known = Named({name: jnp.asarray(name in stored) for name in task.targets})
        wants = Named({name: jnp.asarray(name in wanted) for name in task.targets})
        return Request(Named(rows), known, wants, branches)

    def pack(self, name: str, values: Any) -> np.ndarray:
        """Returns the stored form of values of a modality, one or a stack.

        Raises:
            ValueError: the modality is unknown, or they are none of its values.
        """
        try:
            stored = self.modality(name).pack(values)
        except ValueError as error:
            raise ValueError(f"{name!r} {error}") from error
        if name in self.task.targets and self.modality(name).vocabulary and (stored < 0).any():
            raise ValueError(
                f"{name!r} -1 is none, which only a condition can be; leave it out instead"
            )
        occurs = self.frozen.get(name, {}).get("occurs")
        if occurs is not None and stored.dtype == np.uint8:
            occurs = np.asarray(occurs)
            letters = dict.fromkeys("".join(self.modality(name).unpack(stored)))
            strange = "".join(c for c in letters if not occurs[list(c.encode())].all())
            if strange:
                known = bytes(byte for byte in np.flatnonzero(occurs) if byte).decode("latin-1")
                raise ValueError(
                    f"{name!r} holds {strange!r}, which does not occur in the training data; what "
                    f"occurs: {known!r}"
                )
        return stored

    def modality(self, name: str) -> Modality:
        """Returns a modality of the model by name.

        Raises:
            ValueError: the model does not have it; names those that it has.
        """
        return self.task.modality(name)

    @functools.lru_cache(maxsize=8)  # noqa: B019 (a generator lives as long as the program)
    def _compiled(
        self, samplers: Named[Sampler], worse: DiffusionTask | None, mesh: jax.sharding.Mesh
    ) -> Any:
        def run(params: Params, frozen: Any, other: Params, keys: Any, request: Request) -> Any:
            bad = None if worse is None else worse.predict(other)
            return self.task.sample(params, frozen, keys, request, samplers=samplers, worse=bad)

        return parallel.compile_on(run, mesh)

    @functools.lru_cache(maxsize=8)  # noqa: B019 (see above)
    def _compiled_score(self, name: str, rounds: int, mesh: jax.sharding.Mesh) -> Any:
        scoring_loss = functools.partial(self.task.scoring_loss, name=name, rounds=rounds)
        return parallel.compile_on(scoring_loss, mesh)
