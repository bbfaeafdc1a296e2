"""Targets and conditions of a diffusion task, as a config defines them."""

from typing import Literal

import jax
import jax.numpy as jnp

from vqdit.modalities import Label, Modality
from vqdit.models.tokens import Tokens
from vqdit.processes import Masked, Process, TimeDistribution, Uniform
from vqdit.random import stream
from vqdit.samplers import Sampler, Unmasking
from vqdit.tasks import lengths
from vqdit.tasks.autoencoder import AutoencoderTask
from vqdit.tasks.token_space import CodeSpace, TokenizerSpace, TokenSpace
from vqdit.typing import Array, Bool, Component, Int, Key, UInt8


class BaseTarget(Component):
    """A modality that the DiT can generate; users may also give it as a condition.

    Attributes:
        process: diffusion over codes (discrete), or over embeddings or latents (continuous).
        time: distribution of t in training.
        sampler: sampler that generates the modality.
        reveal: (start, end) of the reveal window, as fractions of the sampling steps. Modalities
            that are revealed first guide those that are revealed later.
        weight: weight of the loss.
        uncertainty: whether the loss at each t is divided by its expected value, which is learned;
            see `vqdit.losses.uncertainty`. The logged loss is not divided.
        patch: edge of the square of positions that becomes one token; 0 uses the DiT's patch.
        block: number of codes that are generated together, in reading order, given all codes before
            them; 0 generates all codes together. With blocks, `sampler` does all its steps for
            every block. Blocks need a process over codes; see `vqdit.tasks.blockwise`.
        length_share: fraction of the training examples in which the length of a target of variable
            length is hidden, so that the network learns to predict it. From these examples it
            learns only the length. Short texts whose length follows from the conditions need a
            larger fraction.
    """

    process: Process = Masked()
    time: TimeDistribution = Uniform()
    sampler: Sampler = Unmasking()
    reveal: tuple[float, float] = (0.0, 1.0)
    weight: float = 1.0
    uncertainty: bool = False
    patch: int = 0
    block: int = 0
    length_share: float = 0.1

    def __post_init__(self) -> None:
        self.require("length_share in [0, 1]", 0.0 <= self.length_share <= 1.0)
        self.sampler.check(self.process)
        start, end = self.reveal
        if not 0.0 <= start < end <= 1.0:
            raise ValueError(
                f"{type(self).__name__} needs reveal=(start, end) with 0 <= start < end <= 1, "
                f"got {self.reveal}"
            )
        self.require("weight > 0", self.weight > 0.0)
        self.require("patch >= 0", self.patch >= 0)
        self.require("block >= 0", self.block >= 0)
        if self.block and not self.process.is_discrete:
            raise ValueError(
                f"{type(self).__name__} needs a process over codes for block={self.block}, got "
                f"{type(self.process).__name__}; use Masked, or block=0"
            )

    @property
    def reference(self) -> str:
        """Name or workdir of the tokenizer that the target needs; "" if it needs none."""
        return ""

    @property
    def inpaint_share(self) -> float:
        """Fraction of the training examples in which some latents are known."""
        return 0.0

    def check_tokenizer(self, tokenizer: AutoencoderTask, name: str) -> None:
        """Raises ValueError if the target called `name` cannot use the tokens of a tokenizer."""

    def space(self, tokenizer: AutoencoderTask | None) -> TokenSpace:
        """Returns the space of the target's tokens.

        Args:
            tokenizer: the tokenizer that `reference` names, or None.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'space'")


class Target(BaseTarget):
    """A modality whose tokens come from a trained tokenizer.

    Attributes:
        tokenizer: name of an earlier experiment of the same config, or a workdir.
        inpaint: fraction of the training examples in which the latents inside or outside a random
            box are known. In-painting can then show the kept latents to the network without noise.
            Processes over codes do not need this.
        posterior: latents for training if the tokenizer has a normal posterior: its mean, or a new
            sample in each step.
        codebooks: number of codes per position that are generated, the first (coarsest) ones of a
            residual quantizer, which decodes without the others; 0 generates all.
    """

    tokenizer: str = "tokenizer"
    inpaint: float = 0.0
    posterior: Literal["mean", "sample"] = "mean"
    codebooks: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("codebooks >= 0", self.codebooks >= 0)
        if self.codebooks and not self.process.is_discrete:
            raise ValueError(
                f"{type(self).__name__} needs a process over codes for codebooks={self.codebooks}, "
                f"got {type(self.process).__name__}; use codebooks=0"
            )
        if not 0.0 <= self.inpaint <= 1.0 or (self.inpaint and self.process.is_discrete):
            raise ValueError(
                f"{type(self).__name__} needs inpaint in [0, 1], or 0 for a process over codes, "
                f"got {self.inpaint} with {type(self.process).__name__}"
            )

    @property
    def reference(self) -> str:
        return self.tokenizer

    @property
    def inpaint_share(self) -> float:
        return self.inpaint

    def check_tokenizer(self, tokenizer: AutoencoderTask, name: str) -> None:
        kind = type(tokenizer).__name__
        if self.process.is_discrete and not tokenizer.codebook_sizes:
            raise ValueError(
                f"{self.tokenizer!r}, the tokenizer of {name!r}, is a {kind}, whose tokens are "
                f"latents, but {type(self.process).__name__} is a process over codes; use a "
                "continuous process, such as Flow, or name the workdir of a tokenizer with codes"
            )
        if self.codebooks > len(tokenizer.codebook_sizes):
            raise ValueError(
                f"{name!r} has codebooks={self.codebooks}, but the tokenizer {self.tokenizer!r} "
                f"has only {len(tokenizer.codebook_sizes)} codebooks; use codebooks=0 for all"
            )
        if self.posterior == "sample" and tokenizer.codebook_sizes:
            raise ValueError(
                f"{self.tokenizer!r}, the tokenizer of {name!r}, is a {kind}, which has no "
                "posterior to sample from; use posterior='mean'"
            )

    def space(self, tokenizer: AutoencoderTask | None) -> TokenSpace:
        if tokenizer is None:
            raise ValueError(f"the tokenizer {self.tokenizer!r} has not been loaded; call `load`")
        return TokenizerSpace(
            tokenizer=tokenizer,
            process=self.process,
            patch=self.patch,
            block=self.block,
            posterior=self.posterior,
            codebooks=self.codebooks,
        )


class CodeTarget(BaseTarget):
    """A modality whose data are codes already, such as text or labels: it needs no tokenizer.

    Attributes:
        modality: text, or the classes of a label.
    """

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
                f"CodeTarget needs a discrete process, got {type(self.process).__name__}; "
                "use Masked"
            )
        if self.block and self.modality.lengths:
            raise ValueError(
                f"CodeTarget with block={self.block} needs a modality of fixed length, in which "
                "code 0 ends a text; use variable=False, or block=0"
            )

    def space(self, tokenizer: AutoencoderTask | None) -> TokenSpace:
        del tokenizer
        return CodeSpace(
            data=self.modality, process=self.process, patch=self.patch, block=self.block
        )


class Condition(Component):
    """A label or a text that guides generation and is never generated itself.

    Attributes:
        modality: the label or the text.
        drop: fraction of the training examples in which the condition is hidden from the network.
        route: "adaln" adds the embedding of a label to the conditioning vector of every block;
            "cross" lets the DiT attend to the condition by cross-attention.
        hidden: largest fraction of the units of a text that is hidden from the network in training;
            the fraction per example is uniform in [0, hidden]. The network then also understands
            texts that differ from the training texts in some words.
    """

    modality: Modality = Label()
    drop: float = 0.1
    route: Literal["adaln", "cross"] = "adaln"
    hidden: float = 0.0

    def __post_init__(self) -> None:
        if not self.modality.vocabulary:
            raise ValueError(
                "Condition takes a modality of codes (Text, Label), got "
                f"{type(self.modality).__name__}; use a Target"
            )
        if self.route == "adaln" and self.modality.grid != (1,):
            raise ValueError(
                f"Condition with route='adaln' needs a Label, got {type(self.modality).__name__}; "
                "use route='cross'"
            )
        self.require("drop in [0, 1]", 0.0 <= self.drop <= 1.0)
        self.require("hidden in [0, 1]", 0.0 <= self.hidden <= 1.0)
        if self.hidden and self.route == "adaln":
            raise ValueError(
                f"hidden={self.hidden} of a Condition hides units of texts, not labels; use drop"
            )

    @property
    def tokens(self) -> Tokens:
        """The network's input for the condition."""
        modality, patch = self.modality, 0 if self.route == "adaln" else 1
        return Tokens(route=self.route, grid=modality.grid, codes=modality.vocabulary, patch=patch)

    @property
    def classes(self) -> int:
        """Number of classes of a label; 0 for a text."""
        return self.modality.vocabulary if self.modality.grid == (1,) else 0

    def codes(
        self, raw: Int[Array, "b *l"] | UInt8[Array, "b l"], mask: Bool[Array, "b l"] | None = None
    ) -> Int[Array, "b _ 1"]:
        """Returns the codes of stored values for the network; -1 means "no value".

        Args:
            raw: stored values.
            mask: for values of variable length, True at positions that are not padding. Padding
                becomes PADDING; an empty text counts as no value.
        """
        codes = raw.astype(jnp.int32).reshape(raw.shape[0], -1, 1)
        if mask is None:
            return codes
        return jnp.where(mask[..., None], codes, self.unknown(*codes.shape[:2]))

    def partly_hidden(
        self, codes: Int[Array, "b l 1"], keys: Key[Array, " b"]
    ) -> Int[Array, "b l 1"]:
        """Returns codes for training, in which a random fraction is replaced by -1, "no value"."""
        if not self.hidden:
            return codes

        def hides(key: Key[Array, ""]) -> Bool[Array, " l"]:
            share = self.hidden * jax.random.uniform(stream(key, "share"))
            return jax.random.uniform(stream(key, "units"), codes.shape[1:2]) < share

        hidden = jax.vmap(hides)(keys)[..., None] & (codes >= 0)
        return jnp.where(hidden, lengths.UNKNOWN, codes)

    def unknown(self, count: int, length: int) -> Int[Array, "b l 1"]:
        """Returns the codes of conditions that are not given."""
        rest = lengths.PADDING if self.modality.lengths else lengths.UNKNOWN
        first = jnp.arange(length) == 0
        row = jnp.where(first, lengths.UNKNOWN, rest).astype(jnp.int32)
        return jnp.broadcast_to(row[:, None], (count, length, 1))
