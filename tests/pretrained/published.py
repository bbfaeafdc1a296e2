"""The published VQGAN in torch, with the parameter names of taming-transformers and LlamaGen.

Written from the papers and the names in public checkpoints; only what inference needs.
"""

import torch
from torch import nn
from torch.nn import functional as F


def norm(width, groups):
    return nn.GroupNorm(groups, width, eps=1e-6)


class Block(nn.Module):
    def __init__(self, inputs, outputs, groups):
        super().__init__()
        self.norm1, self.norm2 = norm(inputs, groups), norm(outputs, groups)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.nin_shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x):
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class Attention(nn.Module):
    def __init__(self, width, groups):
        super().__init__()
        self.norm = norm(width, groups)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x):
        h = self.norm(x)
        q, k, v = (part(h).flatten(2) for part in (self.q, self.k, self.v))  # b c l
        shares = torch.softmax(torch.einsum("bcl,bcm->blm", q, k) * x.shape[1] ** -0.5, dim=-1)
        return x + self.proj_out(torch.einsum("blm,bcm->bcl", shares, v).reshape(x.shape))


class Resample(nn.Module):
    def __init__(self, width, is_up):
        super().__init__()
        self.is_up = is_up
        self.conv = nn.Conv2d(width, width, 3, stride=1 if is_up else 2, padding=int(is_up))

    def forward(self, x):
        if self.is_up:
            return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Side(nn.Module):
    """Encoder or decoder. `layout` is that of "taming" or "llamagen"."""

    def __init__(self, layout, is_decoder, ch, mult, blocks, attention, inputs, outputs, groups):
        super().__init__()
        self.layout, self.is_decoder = layout, is_decoder
        last, ch_first = ch * mult[-1], ch * mult[0]
        order = range(len(mult))
        start, end = (last, ch_first) if is_decoder else (ch, last)
        self.conv_in = nn.Conv2d(inputs, start, 3, padding=1)
        levels, width = [], start
        for level in reversed(order) if is_decoder else order:
            holder = nn.Module()
            stack, mixers = nn.ModuleList(), nn.ModuleList()
            for _ in range(blocks + is_decoder):
                stack.append(Block(width, ch * mult[level], groups))
                width = ch * mult[level]
                if level in attention:
                    mixers.append(Attention(width, groups))
            names = ("block", "attn") if layout == "taming" else ("res", "attn")
            holder.add_module(names[0], stack)
            holder.add_module(names[1], mixers)
            if level != (0 if is_decoder else len(mult) - 1):
                resample = Resample(width, is_decoder)
                holder.add_module("upsample" if is_decoder else "downsample", resample)
            levels.append(holder)
        parts = [Block(last, last, groups), Attention(last, groups), Block(last, last, groups)]
        if layout == "taming":
            self.mid = nn.Module()
            for name, part in zip(("block_1", "attn_1", "block_2"), parts, strict=True):
                self.mid.add_module(name, part)
            by_level = levels[::-1] if is_decoder else levels
            self.add_module("up" if is_decoder else "down", nn.ModuleList(by_level))
        else:
            self.mid = nn.ModuleList(parts)
            self.conv_blocks = nn.ModuleList(levels)
        self._levels, self._middle = (levels,), (parts,)  # in tuples: torch does not see them
        self.norm_out = norm(end, groups)
        self.conv_out = nn.Conv2d(end, outputs, 3, padding=1)

    def forward(self, x):
        h = self.conv_in(x)
        if self.is_decoder:
            h = self.middle(h)
        for holder in self._levels[0]:
            stack = holder.block if self.layout == "taming" else holder.res
            for number, block in enumerate(stack):
                h = block(h)
                if len(holder.attn):
                    h = holder.attn[number](h)
            for name in ("upsample", "downsample"):
                if hasattr(holder, name):
                    h = getattr(holder, name)(h)
        if not self.is_decoder:
            h = self.middle(h)
        return self.conv_out(F.silu(self.norm_out(h)))

    def middle(self, h):
        for part in self._middle[0]:
            h = part(h)
        return h


class Codebook(nn.Module):
    def __init__(self, size, dim, is_cosine):
        super().__init__()
        self.is_cosine = is_cosine
        self.embedding = nn.Embedding(size, dim)

    @property
    def table(self):
        weight = self.embedding.weight
        return F.normalize(weight, dim=-1) if self.is_cosine else weight

    def codes(self, z):
        z = z.permute(0, 2, 3, 1)
        z = F.normalize(z, dim=-1) if self.is_cosine else z
        distance = torch.cdist(z.reshape(-1, z.shape[-1]).double(), self.table.double())
        return distance.argmin(1).reshape(z.shape[:-1])


class GumbelCodebook(nn.Module):
    """taming's GumbelQuantize without its noise: the most probable code of each position."""

    def __init__(self, inputs, size, dim):
        super().__init__()
        self.proj, self.embed = nn.Conv2d(inputs, size, 1), nn.Embedding(size, dim)

    @property
    def table(self):
        return self.embed.weight

    def codes(self, z):
        return self.proj(z).argmax(1)


class Model(nn.Module):
    def __init__(
        self, layout, *, ch=32, mult=(1, 2), blocks=1, attention=(1,), z=8, dim=4, codes=32,
        is_kl=False, is_gumbel=False, channels=3, groups=32,
    ):  # fmt: skip
        super().__init__()
        double = 2 if is_kl else 1
        fields = (ch, mult, blocks, attention)
        self.encoder = Side(layout, False, *fields, channels, double * z, groups)
        self.decoder = Side(layout, True, *fields, z, channels, groups)
        self.quant_conv = nn.Conv2d(double * z, double * dim, 1)
        self.post_quant_conv = nn.Conv2d(dim, z, 1)
        if is_gumbel:
            self.quantize = GumbelCodebook(z, codes, dim)
        elif not is_kl:
            self.quantize = Codebook(codes, dim, layout == "llamagen")

    def latents(self, x):
        return self.quant_conv(self.encoder(x))

    def codes(self, x):
        return self.quantize.codes(self.latents(x))

    def decode_codes(self, codes):
        return self.decode(self.quantize.table[codes].permute(0, 3, 1, 2))

    def decode(self, z):
        return self.decoder(self.post_quant_conv(z))


def awake(model, seed=0):
    """Gives every parameter a random value, norms and biases too, so that none can hide."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.named_parameters():
        noise = torch.randn(value.shape, generator=generator)
        if ".embed" in name:
            value.data = noise
        elif value.ndim > 1:
            scale = value[0].numel() ** -0.5
            value.data = scale * noise
        else:
            value.data = (1.0 if name.endswith("weight") else 0.0) + 0.2 * noise
    return model.eval()
