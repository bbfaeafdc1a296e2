"""A causal convolutional autoencoder of clips, over time, rows and columns.

The first frame is coded alone, so an image is a clip of one frame: 1 + n s frames have 1 + n frames
of tokens at a stride of s in time. No token depends on a later frame, and no statistic is over
time. With other fields it is VidTok (Tang et al., arXiv:2412.13061), whose public weights
`vqdit.pretrained` loads.
"""

import math
from typing import Any, Literal

import flax.linen as nn

from vqdit.models.autoencoder import Grid, LeveledAutoencoder, folded, unfolded
from vqdit.nn.conv import AttentionBlock, Downsample, GridNorm, Mask, Upsample
from vqdit.nn.frames import (
    CACHE,
    CausalBlock,
    CausalConv,
    Clips,
    TimeDownsample,
    TimePadding,
    TimeUpsample,
    frame_norm,
    per_frame,
)
from vqdit.nn.patches import nearest
from vqdit.parallel.target_platform import platform
from vqdit.typing import Params

KERNELS = {"full": {"block": (3, 3, 3)}, "factorized": {"block": (1, 3, 3), "time": (3, 1, 1)}}
"""The residual blocks of a level by their names, and the sizes of their kernels."""


class VideoAutoencoder(LeveledAutoencoder):
    """A causal convolutional autoencoder of clips [b, f, h, w, c].

    The decoder has one more residual block per level than the encoder. Level 0 has the resolution
    of the data.

    Attributes:
        time_strides: factors, 1 or 2, by which the encoder reduces the number of frames between
            consecutive levels; empty for 2 everywhere.
        space_strides: the same for rows and columns.
        decoder_time_strides: factors by which the decoder increases the number of frames between
            the same levels; empty for those of the encoder.
        decoder_space_strides: the same for rows and columns.
        convolutions: residual blocks of the levels. "factorized" is one block over space followed
            by one block over time; "full" is one block over all three axes. The blocks in the
            middle are always full.
        middle_blocks: number of residual blocks at the resolution of the tokens.
        middle_attention: True adds attention within each frame after the first middle block.
        attention: levels in which attention within each frame follows every block.
        norm: normalisation. "group" is group norm of each frame; "layer" and "rms" normalise the
            channels at each position.
        groups: number of groups for norm="group"; 0 computes it from the width.
        padding: frames before the first one: "repeat" (copies of the first frame) or "zeros".
        upsampling: method by which the decoder increases the number of frames. "repeat" is causal.
            With "linear", as in VidTok, a frame also depends on the next frame of tokens.
        z_channels: width between the last causal convolution and a 1x1 convolution to the width of
            the codes, and correspondingly in the decoder; 0 omits the 1x1 convolutions.
        patch: edge of the square patches of a frame that are folded into channels first.
    """

    channels: tuple[int, ...] = (32, 64, 128)
    time_strides: tuple[int, ...] = ()
    space_strides: tuple[int, ...] = ()
    decoder_time_strides: tuple[int, ...] = ()
    decoder_space_strides: tuple[int, ...] = ()
    convolutions: Literal["factorized", "full"] = "factorized"
    middle_blocks: int = 2
    middle_attention: bool = False
    attention: tuple[int, ...] = ()
    norm: GridNorm = "group"
    groups: int = 0
    padding: TimePadding = "repeat"
    upsampling: Literal["repeat", "linear"] = "repeat"
    z_channels: int = 0
    patch: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm == "group" and self.groups:
            self.check_groups()
        self.require("patch >= 1", self.patch >= 1)
        self.require("middle_blocks >= 0", self.middle_blocks >= 0)
        self.require("z_channels >= 0", self.z_channels >= 0)
        last = len(self.channels) - 1
        for axis in ("time_strides", "space_strides"):
            given, decoder = getattr(self, axis), getattr(self, f"decoder_{axis}")
            for field, strides in ((axis, given), (f"decoder_{axis}", decoder)):
                rule = f"{field} to be empty or {last} factors of 1 or 2, one between levels"
                are_factors = len(strides) in (0, last) and set(strides) <= {1, 2}
                self.require(rule, are_factors)
            rule = f"decoder_{axis} to have the product {math.prod(self._strides(axis))} of {axis}"
            same = math.prod(self._strides(axis)) == math.prod(self._strides(axis, True))
            self.require(rule, same)
        levels = range(last + 1)
        rule = f"attention to list levels from 0 to {last}"
        self.require(rule, all(level in levels for level in self.attention))

    def _strides(self, axis: str, is_decoder: bool = False) -> tuple[int, ...]:
        given = getattr(self, axis) or (2,) * (len(self.channels) - 1)
        return (getattr(self, f"decoder_{axis}") or given) if is_decoder else given

    @property
    def time_stride(self) -> int:
        """Number of frames per frame of tokens, after the first frame."""
        return math.prod(self._strides("time_strides"))

    @property
    def downsampling(self) -> int:
        """Factor by which the encoder reduces rows and columns."""
        return self.patch * math.prod(self._strides("space_strides"))

    @property
    def is_causal(self) -> bool:
        """Whether a decoded frame depends only on tokens of its own and of earlier frames."""
        return self.upsampling == "repeat" or self.time_stride == 1

    def real(self, length: Any) -> Any:
        raise self._not_clips("sequences of varying lengths")

    def _not_clips(self, got: str) -> ValueError:
        return ValueError(
            f"a {type(self).__name__} takes clips of frames, rows and columns, got {got}; use a "
            "ConvAutoencoder for data with other axes"
        )

    def grid(self, size: tuple[int, ...]) -> tuple[int, ...]:
        if len(size) != 3:
            raise self._not_clips(f"the size {'x'.join(map(str, size))}")
        (frames, *edges), step, factor = size, self.time_stride, self.downsampling
        if frames % step != 1 % step or frames < 1 or any(edge % factor for edge in edges):
            low = max(frames - 1, 0) // step * step + 1
            counts = dict.fromkeys((low, low if low == frames else low + step))
            sizes = nearest(tuple(edges), factor).split(" or ")
            known = " or ".join(f"{count}x{edge}" for count in counts for edge in sizes)
            raise ValueError(
                f"clips of size {'x'.join(map(str, size))} cannot be encoded: frames must be 1 + n "
                f"x {step}, rows and columns multiples of {factor}; nearest sizes: {known}"
            )
        return ((frames - 1) // step + 1, *(edge // factor for edge in edges))

    def size(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        frames, *edges = grid
        return ((frames - 1) * self.time_stride + 1, *(edge * self.downsampling for edge in edges))

    def encode_chunk(
        self, params: dict[str, Params], x: Clips, width: int, cache: Any = None, last: bool = True
    ) -> tuple[Clips, Any]:
        """Encodes a chunk of a clip, so that all chunks together give the output of the whole.

        Args:
            params: parameters.
            x: the frames; 1 + n s of the first chunk, and n s of later ones, at a stride of s.
            width: channels of the output.
            cache: the cache that the call for the previous chunk returned; None for the first
                chunk.
            last: True for the last chunk of the clip.

        Returns:
            The output, float32, and the cache for the next chunk, which is None after the last.
        """
        return _chunk(self.encoder(width), params["encoder"], x, cache, last)

    def decode_chunk(
        self,
        params: dict[str, Params],
        z: Clips,
        channels: int,
        cache: Any = None,
        last: bool = True,
    ) -> tuple[Clips, Any]:
        """Decodes a chunk of latents of any number of frames; see `encode_chunk`.

        With upsampling="linear" some frames wait for the next chunk.
        """
        return _chunk(self.decoder(channels), params["decoder"], z, cache, last)

    # The methods below apply layers. Compact methods of encoder and decoder call them.

    def fold(self, x: Grid) -> Grid:
        return per_frame(lambda frames: folded(frames, self.patch), x)

    def first(self, x: Grid, width: int, use_bias: bool = True) -> Grid:
        fields = {"padding": self.padding, "dtype": self.dtype, "use_bias": use_bias}
        return CausalConv(width, **fields, name="in")(x)

    def block(
        self,
        h: Grid,
        width: int,
        name: str,
        mask: Mask = None,
        kernel: tuple[int, int, int] = (3, 3, 3),
    ) -> Grid:
        del mask
        cls = nn.remat(CausalBlock) if self.remat and not platform().is_counted else CausalBlock
        fields = {"padding": self.padding, "norm": self.norm, "groups": self.groups}
        return cls(width, kernel, **fields, dtype=self.dtype, name=name)(h)

    def level(self, h: Grid, level: int, blocks: int, mask: Mask = None) -> Grid:
        for number in range(blocks):
            for part, kernel in KERNELS[self.convolutions].items():
                name = f"level_{level}_{part}_{number}"
                h = self.block(h, self.channels[level], name, mask, kernel)
            if level in self.attention:
                h = self._attend(h, f"level_{level}_attention_{number}")
        return h

    def _attend(self, h: Grid, name: str) -> Grid:
        return per_frame(AttentionBlock(self.dtype, self.groups, self.norm, name=name), h)

    def middle(self, h: Grid, mask: Mask = None) -> Grid:
        for number in range(self.middle_blocks):
            h = self.block(h, h.shape[-1], f"middle_block_{number}", mask)
            if number == 0 and self.middle_attention:
                h = self._attend(h, "middle_attention")
        return h

    def down(self, h: Grid, level: int, mask: Mask = None) -> Grid:
        del mask
        if self._strides("space_strides")[level] > 1:
            h = per_frame(Downsample(h.shape[-1], 2, self.dtype, name=f"level_{level}_down"), h)
        if self._strides("time_strides")[level] > 1:
            h = TimeDownsample(self.padding, self.dtype, name=f"level_{level}_time_down")(h)
        return h

    def up(self, h: Grid, level: int, mask: Mask = None) -> Grid:
        del mask
        if self._strides("space_strides", True)[level - 1] > 1:
            h = per_frame(Upsample(h.shape[-1], 2, self.dtype, name=f"level_{level}_up"), h)
        if self._strides("time_strides", True)[level - 1] > 1:
            name = f"level_{level}_time_up"
            h = TimeUpsample(self.upsampling, self.padding, self.dtype, name=name)(h)
        return h

    def normalize(self, h: Grid, mask: Mask = None) -> Grid:
        del mask
        return frame_norm(h, "norm", self.norm, self.groups)

    def to_latents(self, h: Grid, width: int, mask: Mask = None) -> Grid:
        del mask
        h = CausalConv(self.z_channels or width, padding=self.padding, name="out")(h)
        return nn.Dense(width, name="quant_conv")(h) if self.z_channels else h

    def from_latents(self, z: Grid) -> Grid:
        return nn.Dense(self.z_channels, name="post_quant_conv")(z) if self.z_channels else z

    def to_data(self, h: Grid, channels: int, mask: Mask = None) -> Grid:
        del mask
        h = CausalConv(channels * self.patch**2, padding=self.padding, name="out")(h)
        return per_frame(lambda frames: unfolded(frames, self.patch), h)


def _chunk(network: nn.Module, params: Params, x: Clips, cache: Any, last: bool) -> tuple[Any, Any]:
    variables = {"params": params} | ({} if cache is None else {CACHE: cache})
    if last:
        return network.apply(variables, x), None
    y, changed = network.apply(variables, x, mutable=CACHE)
    return y, changed.get(CACHE, {})
