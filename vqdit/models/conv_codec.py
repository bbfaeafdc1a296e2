"""Codecs whose stages are chains of convolutions: SEANet, DAC and Mimi differ in their fields."""

import math
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from vqdit.models.codec import Codec, Stage
from vqdit.nn.conv1d import Conv1d, ConvTranspose1d, Length, Norm, Padding, Snake
from vqdit.typing import Array, Float


class Step(NamedTuple):
    """A layer of an encoder or a decoder.

    Attributes:
        name: name of the layer's parameters.
        channels: width of the layer's output.
        kind: "conv", "transposed", or a residual "block".
        width: size of the kernel in positions.
        stride: factor by which the layer changes the number of positions.
        dilation: distance between neighbouring positions of the kernel.
        is_first: True for a layer without an activation before it.
    """

    name: str
    channels: int
    kind: Literal["conv", "transposed", "block"] = "conv"
    width: int = 1
    stride: int = 1
    dilation: int = 1
    is_first: bool = False


class ConvCodec(Codec):
    """Base class of convolutional codecs.

    The encoder doubles its width at every stride, and the decoder halves it. Every level has
    residual blocks x + conv(act(conv(act(x)))), whose first convolution is dilated.

    Attributes:
        channels: width of the encoder at the rate of the samples.
        decoder_channels: width of the decoder at the rate of the tokens; 0 uses the encoder's
            width at this rate.
        strides: factors by which the encoder reduces the rate, in the order of its layers.
        blocks: residual blocks per level; the dilation of block i is `dilation` to the power i.
        dilation: base of the dilations.
        compress: factor by which blocks reduce the width internally; must divide all widths.
        width: kernel size of the first layer of encoder and decoder.
        last_width: kernel sizes of the last layers of encoder and decoder.
        block_width: kernel size of the first convolution of a block.
        conv_shortcut: whether a convolution of width 1 is applied to x in the blocks.
        causal: whether every output depends only on its own and earlier positions.
        padding: values beyond the ends of a recording. With "reflect", the first tokens of a causal
            codec depend on the later positions that are mirrored.
        norm: normalisation: "weight_norm" of the kernels; or "time_group_norm" of every layer's
            output, over all positions and channels of a recording.
        dtype: precision of the convolutions; parameters and all other operations stay float32.
    """

    channels: int = 32
    decoder_channels: int = 0
    strides: tuple[int, ...] = (2, 4, 5, 8)
    blocks: int = 1
    dilation: int = 2
    compress: int = 2
    width: int = 7
    last_width: tuple[int, int] = (7, 7)
    block_width: int = 3
    conv_shortcut: bool = True
    causal: bool = True
    padding: Padding = "reflect"
    norm: Norm = "weight_norm"
    dtype: Literal["float32", "bfloat16"] = "float32"

    # Constants of an architecture; a subclass overrides them, or makes them fields.
    activation = "elu"
    trim_right = 1.0  # see `ConvTranspose1d`
    cut_odd = False  # see `ConvTranspose1d`
    bounded = False  # whether the decoder ends in tanh

    def __post_init__(self) -> None:
        for field in ("channels", "blocks", "dilation", "compress", "width", "block_width"):
            self.require(f"{field} >= 1", getattr(self, field) >= 1)
        self.require("strides of 1 or more", bool(self.strides) and min(self.strides) >= 1)
        self.require("last_width as two widths >= 1", min(self.last_width) >= 1)
        self.require("decoder_channels >= 0", self.decoder_channels >= 0)
        levels = 2 ** len(self.strides)
        rule = f"decoder_channels to be a multiple of {levels}, as each stride halves it"
        self.require(rule, self.decoder_channels % levels == 0)
        smallest = self.decoder_channels // levels or self.channels
        rule = f"compress to divide the widths {self.channels} and {smallest}"
        self.require(rule, self.channels % self.compress == smallest % self.compress == 0)

    @property
    def downsampling(self) -> int:
        return math.prod(self.strides)

    @property
    def reason(self) -> str:
        return f"strides {', '.join(map(str, self.strides))}"

    @property
    def last_layer(self) -> tuple[str, ...]:
        if self.bounded:
            raise ValueError(
                f"the decoder of {type(self).__name__} ends in tanh, so the adaptive weight of the "
                "adversary cannot be computed from its last layer; use adaptive=False"
            )
        return ("decoder", self.decoder_stages(1)[-1].module.name or "", "out", "kernel")

    @property
    def is_causal(self) -> bool:
        return self.causal and self.trim_right == 1.0 and not self.whole_only

    @property
    def whole_only(self) -> str:
        if self.norm != "time_group_norm":
            return ""
        return "norm='time_group_norm' normalises by statistics of the whole recording"

    def encoder_steps(self) -> list[Step]:
        """Returns the layers of the encoder except the last."""
        steps = [Step("in", self.channels, width=self.width, is_first=True)]
        for level, stride in enumerate(self.strides):
            width = self.channels * 2**level
            steps += self._blocks(level, width)
            name = f"level_{level}_down"
            steps.append(Step(name, 2 * width, width=2 * stride, stride=stride))
        return steps

    def decoder_steps(self) -> list[Step]:
        """Returns the layers of the decoder except the first and the last.

        Levels are numbered as in the encoder, and come in decreasing order.
        """
        steps = []
        for level, stride in reversed(list(enumerate(self.strides))):
            width = self.widest // 2 ** (len(self.strides) - level)
            name = f"level_{level}_up"
            steps.append(Step(name, width, "transposed", 2 * stride, stride))
            steps += self._blocks(level, width)
        return steps

    @property
    def widest(self) -> int:
        """Width of the decoder at the rate of the tokens."""
        return self.decoder_channels or self.channels * 2 ** len(self.strides)

    def _blocks(self, level: int, width: int) -> list[Step]:
        return [
            Step(
                f"level_{level}_block_{number}",
                width,
                "block",
                self.block_width,
                dilation=self.dilation**number,
            )
            for number in range(self.blocks)
        ]

    def first(self) -> Step:
        """Returns the first layer of the decoder."""
        return Step("in", self.widest, width=self.width, is_first=True)

    def last(self, channels: int, is_encoder: bool) -> Step:
        """Returns the last layer of the encoder or decoder."""
        return Step("out", channels, width=self.last_width[not is_encoder])

    def encoder_stages(self, width: int) -> list[Stage]:
        return [self.stage("convolutions", *self.encoder_steps(), self.last(width, True))]

    def decoder_stages(self, channels: int) -> list[Stage]:
        steps = self.first(), *self.decoder_steps(), self.last(channels, False)
        return [self.stage("convolutions", *steps, is_end=True)]

    def stage(self, name: str, *steps: Step, is_end: bool = False) -> Stage:
        """Returns these layers as a windowed stage; `is_end`: their outputs are samples."""
        before, after, rate = Fraction(0), Fraction(0), Fraction(1)
        for step in steps:
            is_up = step.kind == "transposed"
            seen = 1 + -(-step.width // step.stride) if is_up else step.width * step.dilation
            before += seen / rate
            is_causal = self.causal and not (is_up and self.trim_right < 1.0)
            after += 0 if is_causal else seen / rate
            rate = rate * step.stride if is_up else rate / step.stride
        module = _Convolutions(self, steps, is_end and self.bounded, name=name)
        mirrored = math.ceil(before) if self.padding == "reflect" else 0
        return Stage(module, math.ceil(before), math.ceil(after), rate, mirrored)

    def conv(self, step: Step, channels: int = 0, width: int = 0) -> Conv1d | ConvTranspose1d:
        """Returns the convolution of a layer; called in a compact method."""
        common: dict[str, Any] = {
            "channels": channels or step.channels,
            "width": width or step.width,
            "causal": self.causal,
            "norm": self.norm,
            "dtype": self.dtype,
        }
        if step.kind == "transposed":
            more = {"trim_right": self.trim_right, "cut_odd": self.cut_odd}
            return ConvTranspose1d(stride=step.stride, **common, **more, name=step.name)
        common |= {"dilation": step.dilation, "padding": self.padding}
        return Conv1d(stride=step.stride, **common, name=step.name)

    def activate(self, x: Array, name: str) -> Array:
        """Applies the activation; called in a compact method."""
        return Snake(name=name)(x) if self.activation == "snake" else jax.nn.elu(x)


class _Convolutions(nn.Module):
    config: ConvCodec
    steps: tuple[Step, ...]
    is_bounded: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n c"], length: Any = None
    ) -> tuple[Float[Array, "b m e"], Any]:
        config = self.config
        for step in self.steps:
            if step.kind == "block":
                x, length = _Block(config, step, name=step.name)(x, length)
                continue
            if not step.is_first:
                x = config.activate(x, f"{step.name}_activation")
            x, length = config.conv(step)(x, length)
        x = x.astype(jnp.float32)
        return jnp.tanh(x) if self.is_bounded else x, length


class _Block(nn.Module):
    config: ConvCodec
    step: Step

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n c"], length: Any = None
    ) -> tuple[Float[Array, "b n c"], Length]:
        config, step = self.config, self.step
        within = step.channels // config.compress
        h = config.activate(x, "activation_1")
        h, _ = config.conv(step._replace(name="conv_1"), within)(h, length)
        h = config.activate(h, "activation_2")
        h, _ = config.conv(step._replace(name="conv_2", dilation=1), width=1)(h, length)
        if config.conv_shortcut:
            shortcut = config.conv(step._replace(name="shortcut", dilation=1), width=1)
            x, _ = shortcut(x, length)
        return x + h, length
