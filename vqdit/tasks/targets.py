"""The modalities of a diffusion task, as a config names them."""

from typing import Literal

import jax.numpy as jnp

from vqdit.modalities import Label, Modality
from vqdit.models.tokens import Tokens
from vqdit.processes import Masked, Process, TimeDistribution, Uniform
from vqdit.samplers import Sampler, Unmasking
from vqdit.tasks.autoencoder import AutoencoderTask
from vqdit.typing import Array, Component, Int, UInt8


class Target(Component):
    """A modality that is generated, or given: the tokens of a trained tokenizer.

    Attributes:
        tokenizer: name of an earlier experiment of the same config, or a workdir.
        process: diffusion over the codes (discrete), or over z_q or latents (continuous).
        time: law of t in training.
        sampler: how it is generated.
        reveal: from and up to which share of the generation it is revealed: what comes first leads
            what comes later.
        weight: of its loss.
        uncertainty: its loss at each t is divided by what is expected there, which is learned; see
            `vqdit.losses.uncertainty`. What is logged is the loss itself.
        patch: edge of the positions that make one token of the DiT; 0 takes the DiT's own.
        inpaint: share of the training examples in which some latents, a box or what is outside of
            one, are known: in-painting then sees what is kept as it is. Codes need none of it.
        posterior: what training sees of a tokenizer with a normal posterior: its mean, or a sample
            of it, another one in each step.
    """

    tokenizer: str = "tokenizer"
    process: Process = Masked()
    time: TimeDistribution = Uniform()
    sampler: Sampler = Unmasking()
    reveal: tuple[float, float] = (0.0, 1.0)
    weight: float = 1.0
    uncertainty: bool = False
    patch: int = 0
    inpaint: float = 0.0
    posterior: Literal["mean", "sample"] = "mean"

    def __post_init__(self) -> None:
        self.sampler.check(self.process)
        start, end = self.reveal
        if not 0.0 <= start < end <= 1.0:
            raise ValueError(
                f"{type(self).__name__} needs reveal=(start, end) with 0 <= start < end <= 1, "
                f"got {self.reveal}"
            )
        if self.weight <= 0.0:
            raise ValueError(f"{type(self).__name__} needs weight > 0, got {self.weight}")
        if self.patch < 0:
            raise ValueError(f"{type(self).__name__} needs patch >= 0, got {self.patch}")
        if not 0.0 <= self.inpaint <= 1.0 or (self.inpaint and self.process.is_discrete):
            raise ValueError(
                f"{type(self).__name__} needs inpaint in [0, 1], and 0 for a process over codes, "
                f"got {self.inpaint} with {type(self.process).__name__}"
            )

    def fit(self, tokenizer: AutoencoderTask, name: str) -> None:
        """Raises ValueError if the process cannot be over these tokens, those of `name`."""
        kind = type(tokenizer).__name__
        if self.process.is_discrete and not tokenizer.codebook_sizes:
            raise ValueError(
                f"{self.tokenizer!r}, the tokenizer of {name!r}, is a {kind}, whose tokens are "
                f"latents, and {type(self.process).__name__} is a process over codes; use a "
                "continuous one, such as Flow, or name the workdir of a tokenizer with codes"
            )
        if self.posterior == "sample" and tokenizer.codebook_sizes:
            raise ValueError(
                f"{self.tokenizer!r}, the tokenizer of {name!r}, is a {kind}, which has no "
                "posterior to sample from; use posterior='mean'"
            )


class CodeTarget(Target):
    """A modality whose data are codes already, such as text or labels: it needs no tokenizer.

    Attributes:
        modality: text, or the classes of a label.
    """

    tokenizer: str = ""
    modality: Modality = Label()
    patch: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.modality.vocabulary:
            raise ValueError(
                f"CodeTarget takes a modality of codes (Text, Label), got "
                f"{type(self.modality).__name__}; use Target with a tokenizer"
            )
        if not self.process.is_discrete:
            raise ValueError(
                "CodeTarget needs a discrete process, got "
                f"{type(self.process).__name__}; use Masked"
            )
        if self.tokenizer:
            raise ValueError(f"CodeTarget takes no tokenizer, got {self.tokenizer!r}; use Target")
        if self.posterior != "mean":
            raise ValueError(
                f"CodeTarget are codes, which have no posterior to {self.posterior}; "
                "leave posterior at 'mean'"
            )


class Condition(Component):
    """A label or a text that guides the generation, and is never generated.

    Attributes:
        modality: the classes, or the text.
        drop: share of the training examples that do not see it.
        route: "adaln" adds a label to the condition of every block; "cross" is a sequence that the
            DiT attends to.
    """

    modality: Modality = Label()
    drop: float = 0.1
    route: Literal["adaln", "cross"] = "adaln"

    def __post_init__(self) -> None:
        if not self.modality.vocabulary:
            raise ValueError(
                f"Condition takes a modality of codes (Text, Label), got "
                f"{type(self.modality).__name__}"
            )
        if self.route == "adaln" and self.modality.grid != (1,):
            raise ValueError(
                f"Condition takes only a label by the route 'adaln', got "
                f"{type(self.modality).__name__}; use route='cross'"
            )
        if not 0.0 <= self.drop <= 1.0:
            raise ValueError(f"Condition needs drop in [0, 1], got {self.drop}")

    @property
    def tokens(self) -> Tokens:
        """How the condition enters the network."""
        modality, patch = self.modality, 0 if self.route == "adaln" else 1
        return Tokens(route=self.route, grid=modality.grid, codes=modality.vocabulary, patch=patch)

    @property
    def classes(self) -> int:
        """Number of classes of a label; 0 for a text."""
        return self.modality.vocabulary if self.modality.grid == (1,) else 0

    def codes(self, raw: Int[Array, "b *l"] | UInt8[Array, "b l"]) -> Int[Array, "b _ 1"]:
        """Returns what the network sees of stored values; -1 is none."""
        return raw.astype(jnp.int32).reshape(raw.shape[0], -1, 1)
