"""One DiT over the tokens of one modality or several: which there are, and how each enters it."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import TypeVar

from vqdit.data.batch import Batch
from vqdit.data.sources import Feature
from vqdit.modalities import Label, Modality
from vqdit.models.dit import DiT, Tokens
from vqdit.nn.attention import check_implementation
from vqdit.processes import Process
from vqdit.processes.base import X
from vqdit.runs.array_fingerprints import fingerprint
from vqdit.samplers.base import Predict
from vqdit.tasks.autoencoder import AutoencoderTask
from vqdit.tasks.base import Frozen, Resolve, Task, Trained, require
from vqdit.tasks.targets import CodeTarget, Condition, Target
from vqdit.tasks.token_space import CodeSpace, TokenSpace
from vqdit.typing import Array, Float, Named, Params

T = TypeVar("T", bound="MultimodalTask")


class MultimodalTask(Task):
    """The modalities of a DiT, the spaces of their tokens, and the network over them.

    Attributes:
        targets: the modalities that can be generated or given, by their names in the data.
        conditions: labels and texts that are only given, by their names in the data.
        model: the network.
        tokenizers: the tokenizers that `load` found; empty in a config.
        fingerprints: of their arrays; empty in a config.
    """

    targets: Named[Target] = Named(image=Target())
    conditions: Named[Condition] = Named()
    model: DiT = DiT()
    tokenizers: Named[AutoencoderTask] = Named()
    fingerprints: Named[str] = Named()

    def __post_init__(self) -> None:
        both = sorted(set(self.targets) & set(self.conditions))
        if both:
            raise ValueError(f"{both[0]!r} is a target and a condition; make it one of them")

    def load(self: T, resolve: Resolve, batches: Callable[[], Iterable[Batch]]) -> tuple[T, Frozen]:
        names = {target.tokenizer for target in self.targets.values() if target.tokenizer}
        found = {name: _stripped(resolve(name)) for name in sorted(names)}
        task = self.resolve_references(lambda name: found[name].task)
        marks = {name: fingerprint(trained[1:]) for name, trained in found.items()}
        named = {name: target.tokenizer for name, target in self.targets.items()}
        own = {name: marks[source] for name, source in named.items() if source}
        task = dataclasses.replace(task, fingerprints=Named(own))
        frozen = {}
        for name, target in self.targets.items():
            space = task.space(name)
            if isinstance(space, CodeSpace):
                frozen[name] = space.freeze(batches(), name)
            else:
                frozen[name] = space.freeze(found[target.tokenizer], batches(), name)
        return task, frozen

    def resolve_references(self: T, find: Callable[[str], Task]) -> T:
        tokenizers = {}
        for name, target in self.targets.items():
            if isinstance(target, CodeTarget):
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
        return task

    def space(self, name: str) -> TokenSpace | CodeSpace:
        """Returns what the network sees of a target."""
        target = self.targets[name]
        if isinstance(target, CodeTarget):
            return CodeSpace(modality=target.modality, process=target.process, patch=target.patch)
        return TokenSpace(
            tokenizer=self.tokenizers[name],
            process=target.process,
            patch=target.patch,
            posterior=target.posterior,
        )

    def process(self, name: str) -> Process:
        """Returns the process of a target, over the tokens that it has."""
        space = self.space(name)
        return space.process.bind(space.sizes)

    @property
    def processes(self) -> Named[Process]:
        """The processes of all targets, over the tokens that they have."""
        return Named({name: self.process(name) for name in self.targets})

    def modality(self, name: str) -> Modality:
        """Returns the modality of a target or condition.

        Raises:
            ValueError: there is none of that name; names those that there are.
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

    @property
    def inputs(self) -> Named[Tokens]:
        """How every modality enters the network."""
        conditions = {name: condition.tokens for name, condition in self.conditions.items()}
        return Named({**conditions, **{name: self.space(name).tokens for name in self.targets}})

    def check(self, features: Named[Feature]) -> None:
        check_implementation(self.model.attention)
        for name in [*self.conditions, *self.targets]:
            target = self.targets.get(name)
            if target is not None and target.tokenizer and name not in self.tokenizers:
                continue  # its shape is known once the tokenizer is found
            if name in features and features[name].encoded:
                self.check_encoded(name, features[name])
                continue
            modality = self.modality(name)
            require(features, name, modality.shape)
            classes = features[name].classes
            if classes and classes != modality.vocabulary:
                raise ValueError(
                    f"{name!r} has {classes} classes in the data and "
                    f"{modality.vocabulary} in the config; they must be the same"
                )
            names = modality.names if isinstance(modality, Label) else ()
            if names and features[name].names not in ((), names):
                raise ValueError(
                    f"the classes of {name!r} are {', '.join(features[name].names)} in the data "
                    f"and {', '.join(names)} in the config; they must be the same, in this order"
                )

    def check_encoded(self, name: str, feature: Feature) -> None:
        """Raises ValueError unless the tokens in the data are those of the target's tokenizer.

        Whose they are is known once the tokenizers are loaded; before, their shape alone is.
        """
        if name not in self.tokenizers:
            raise ValueError(
                f"{name!r} in the data are tokens of a tokenizer, which {name!r} in the config has "
                "none of; make it a Target with one"
            )
        shape, own = self.tokenizers[name].encoded_shape, self.fingerprints.get(name, "")
        if feature.shape != shape or own not in ("", feature.encoded):
            raise ValueError(
                f"{name!r} in the data was encoded by the tokenizer {feature.encoded} into "
                f"{feature.shape}, and {self.targets[name].tokenizer!r} is the tokenizer "
                f"{f'{own}, of {shape}' if own else f'of {shape}'}; encode the data with it (vqdit "
                "encode), or name the other one"
            )

    def predict(self, params: Params) -> Predict:
        """Returns the network with its parameters bound."""

        def predict(x: Named[X], t: Named[Float[Array, "b _"]]) -> Named[Float[Array, "b _ _"]]:
            return self.model.apply(params, self.inputs, *self.seen(x, t))

        return predict

    def seen(
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

    def attention(
        self,
        params: Params,
        x: Named[X],
        t: Named[Float[Array, "b _"]],
    ) -> Float[Array, "n b l l"]:
        """Returns how much each token looks at each other, in every layer; see `DiT.attend`."""
        return self.model.attend(params, self.inputs, *self.seen(x, t))


def _stripped(trained: Trained) -> Trained:
    """A tokenizer without what only its training needed."""
    task, params, stats = trained
    return (
        Trained(*task.for_inference(params, stats))
        if isinstance(task, AutoencoderTask)
        else trained
    )
