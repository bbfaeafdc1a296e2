"""The modalities of a DiT, and the network's inputs for their tokens."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

from vqdit.data.batch import Batch
from vqdit.data.sources import Feature
from vqdit.modalities import Label, Modality
from vqdit.models.dit import DiT, Tokens
from vqdit.models.network import Documents
from vqdit.nn.attention import check_implementation
from vqdit.processes import Process
from vqdit.processes.base import X
from vqdit.runs.array_fingerprints import fingerprint
from vqdit.samplers.base import Predict
from vqdit.tasks import lengths
from vqdit.tasks.adoption import check_text, with_adopted
from vqdit.tasks.autoencoder import AutoencoderTask
from vqdit.tasks.base import Frozen, Resolve, Task, Trained, require
from vqdit.tasks.targets import BaseTarget, Condition, Target
from vqdit.tasks.token_space import TokenSpace
from vqdit.typing import Array, Bool, Float, Named, Params

T = TypeVar("T", bound="MultimodalTask")


class NetworkView(NamedTuple):
    """The arguments of `DiT.apply` for tokens at some times."""

    inputs: Named[Tokens]
    x: Named[X]
    t: Named[Float[Array, "b _"]]
    mask: Named[Bool[Array, "b _"]] | None


class MultimodalTask(Task):
    """The modalities of a DiT, the spaces of their tokens, and the network over them.

    Attributes:
        targets: modalities that can be generated or given, keyed by name of the column in the data.
        conditions: labels and texts that can only be given, keyed by name of the column in the
            data.
        model: the network.
        tokenizers: tokenizers of the targets, set by `load`; empty in a config.
        fingerprints: fingerprints of the tokenizers' arrays, set by `load`; empty in a config.
        guidance: default scale of classifier-free guidance in sampling; 1 disables guidance.
    """

    targets: Named[BaseTarget] = Named(image=Target())
    conditions: Named[Condition] = Named()
    model: DiT = DiT()
    tokenizers: Named[AutoencoderTask] = Named()
    fingerprints: Named[str] = Named()
    guidance: float = 1.0

    def __post_init__(self) -> None:
        both = sorted(set(self.targets) & set(self.conditions))
        if both:
            raise ValueError(f"{both[0]!r} is both a target and a condition; remove one of them")

    def adopt(self: T, features: Named[Feature]) -> T:
        def adopt(parts: Named[Any]) -> Named[Any]:
            return Named({name: with_adopted(p, features.get(name)) for name, p in parts.items()})

        targets, conditions = adopt(self.targets), adopt(self.conditions)
        return dataclasses.replace(self, targets=targets, conditions=conditions)

    def load(self: T, resolve: Resolve, batches: Callable[[], Iterable[Batch]]) -> tuple[T, Frozen]:
        references = {name: target.reference for name, target in self.targets.items()}
        found = {
            name: _for_inference(resolve(name)) for name in sorted({*references.values()} - {""})
        }
        task = self.resolve_references(lambda name: found[name].task)
        marks = {name: fingerprint(trained[1:]) for name, trained in found.items()}
        fingerprints = {name: marks[source] for name, source in references.items() if source}
        task = dataclasses.replace(task, fingerprints=Named(fingerprints))
        frozen = {
            name: task.space(name).freeze(found.get(source), batches(), name)
            for name, source in references.items()
        }
        return task, frozen

    def resolve_references(self: T, find: Callable[[str], Task]) -> T:
        tokenizers = {}
        for name, target in self.targets.items():
            if not target.reference:
                continue
            found = find(target.reference)
            if not isinstance(found, AutoencoderTask):
                raise ValueError(
                    f"{target.reference!r}, the tokenizer of {name!r}, is a "
                    f"{type(found).__name__}; name the workdir of a tokenizer with codes"
                )
            target.check_tokenizer(found, name)
            tokenizers[name] = found.without_training
        task = dataclasses.replace(self, tokenizers=Named(tokenizers))
        for name in task.variable:
            patch = task.space(name).patch or task.model.patch
            if patch != 1:
                raise ValueError(
                    f"{name!r} has a variable length, which needs one token per position, but its "
                    f"patch is {patch}; use targets.{name}.patch=1"
                )
        task.model.check(task.inputs)
        return task

    @functools.cached_property
    def _spaces(self) -> Named[TokenSpace]:
        """The token spaces of all targets whose tokenizers are known."""
        return Named(
            {
                name: target.space(self.tokenizers.get(name))
                for name, target in self.targets.items()
                if name in self.tokenizers or not target.reference
            }
        )

    def space(self, name: str) -> TokenSpace:
        """Returns the token space of a target.

        Raises:
            ValueError: the tokenizer of the target is missing; `load` reads it.
        """
        if name not in self._spaces and name in self.targets:
            raise ValueError(
                f"the tokenizer of the target {name!r} is missing from the task; `Task.load` reads "
                "it"
            )
        return self._spaces[name]

    @functools.cached_property
    def processes(self) -> Named[Process]:
        """The processes of all targets, bound to their tokens."""
        return Named({name: self.space(name).bound_process for name in self.targets})

    def process(self, name: str) -> Process:
        """Returns the process of a target, bound to its tokens."""
        return self.processes[name]

    def modality(self, name: str) -> Modality:
        """Returns the modality of a target or condition.

        Raises:
            ValueError: the model has no modality of this name; the message lists its modalities.
        """
        if name in self.conditions:
            return self.conditions[name].modality
        if name not in self.targets:
            known = ", ".join([*self.targets, *self.conditions])
            raise ValueError(f"unknown modality {name!r}; this model knows: {known}")
        return self.space(name).modality

    @property
    def modalities(self) -> Named[Modality]:
        return Named({name: self.modality(name) for name in [*self.conditions, *self.targets]})

    def frozen_like(self) -> Frozen:
        return {name: self.space(name).frozen_like() for name in self.targets}

    @functools.cached_property
    def inputs(self) -> Named[Tokens]:
        """The network's inputs: every modality, and the length of each target of variable length.

        The grids are for the longest examples.
        """
        conditions = {name: condition.tokens for name, condition in self.conditions.items()}
        targets = {name: self.space(name).tokens for name in self.targets}
        each = {lengths.of(n): lengths.tokens(self.space(n).longest) for n in self.variable}
        return Named({**conditions, **targets, **each})

    @functools.cached_property
    def variable(self) -> tuple[str, ...]:
        """The names of the targets whose examples differ in length."""
        return tuple(name for name in self.targets if self.space(name).longest)

    @functools.cached_property
    def _variable_conditions(self) -> tuple[str, ...]:
        return tuple(n for n, condition in self.conditions.items() if condition.modality.lengths)

    def is_packed(self, name: str) -> bool:
        """Returns whether the tokens of a target are codes of packed documents."""
        return name not in self.tokenizers and getattr(self.modality(name), "packed", False)

    def check(self, features: Named[Feature]) -> None:
        check_implementation(self.model.attention)
        for name in [*self.conditions, *self.targets]:
            target = self.targets.get(name)
            if target is not None and target.reference and name not in self.tokenizers:
                continue  # the tokenizer, which knows the shape, is not loaded yet
            if name in features and features[name].encoded:
                self.check_encoded(name, features[name])
                continue
            modality = self.modality(name)
            require(features, name, modality.shape, ragged=modality.lengths is not None)
            check_text(name, modality, features[name])
            classes = features[name].classes
            if classes and classes != modality.vocabulary:
                raise ValueError(
                    f"{name!r} has {classes} classes in the data and "
                    f"{modality.vocabulary} in the config; both numbers must be equal"
                )
            names = modality.names if isinstance(modality, Label) else ()
            if names and features[name].names not in ((), names):
                raise ValueError(
                    f"the classes of {name!r} are {', '.join(features[name].names)} in the data "
                    f"and {', '.join(names)} in the config; they must be the same, in this order"
                )

    def check_encoded(self, name: str, feature: Feature) -> None:
        """Raises ValueError unless the tokens in the data come from the target's tokenizer.

        Before `load` has set the fingerprints, only the shape of the tokens is checked.
        """
        if name not in self.tokenizers:
            raise ValueError(
                f"the data of {name!r} are already tokenized, but the config gives {name!r} no "
                "tokenizer; define it as a Target with a tokenizer"
            )
        shape, own = self.tokenizers[name].encoded_shape, self.fingerprints.get(name, "")
        if feature.shape != shape or own not in ("", feature.encoded):
            raise ValueError(
                f"{name!r} in the data was encoded by the tokenizer {feature.encoded} into "
                f"tokens {feature.shape}, but {self.targets[name].reference!r} is the tokenizer "
                f"{f'{own} with tokens {shape}' if own else f'with tokens {shape}'}; encode the "
                "data with it (vqdit encode), or name the tokenizer of the data"
            )

    def predict(self, params: Params) -> Predict:
        """Returns the network as a function of x and t, with the given parameters."""

        def predict(x: Named[X], t: Named[Float[Array, "b _"]]) -> Named[Float[Array, "b _ _"]]:
            out = self._outputs(params, x, t)
            return Named({name: out[name] for name in self.targets}) if self.variable else out

        return predict

    def _outputs(
        self,
        params: Params,
        x: Named[X],
        t: Named[Float[Array, "b _"]],
        documents: Documents | None = None,
    ) -> Named[Float[Array, "b _ _"]]:
        """Returns the network's outputs for all targets and their lengths."""
        seen = self.seen(x, t)
        view = seen.inputs, seen.x, seen.t
        return self.model.apply(params, *view, mask=seen.mask, documents=documents)

    def seen(self, x: Named[X], t: Named[Float[Array, "b _"]]) -> NetworkView:
        """Converts x and t to the network's inputs; see `Process.network_input`."""
        variable = self.variable, self._variable_conditions
        inputs, t, mask = lengths.network_view(x, t, self.inputs, *variable)
        seen = {
            name: process.network_input(x[name], t[name])
            for name, process in self.processes.items()
        }
        x = x | {name: pair[0] for name, pair in seen.items()}
        t = t | {name: pair[1] for name, pair in seen.items()}
        return NetworkView(inputs, x, t, mask)

    def attention(
        self,
        params: Params,
        x: Named[X],
        t: Named[Float[Array, "b _"]],
    ) -> Float[Array, "n b l l"]:
        """Returns the attention weights between all tokens in every layer; see `DiT.attend`."""
        seen = self.seen(x, t)
        return self.model.attend(params, seen.inputs, seen.x, seen.t, mask=seen.mask)


def _for_inference(trained: Trained) -> Trained:
    """Returns a tokenizer without the arrays that are used only in its training."""
    task, params, stats = trained
    if not isinstance(task, AutoencoderTask):
        return trained
    return Trained(*task.for_inference(params, stats))
