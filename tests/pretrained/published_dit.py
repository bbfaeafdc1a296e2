"""DiT in torch, as its paper and its checkpoints' names describe it: the original for parity."""

import math

import torch
from torch import nn


def sincos(grid, dim):
    """Positions [l, d]: the first half of the channels from the column, each half [sin, cos]."""
    row, column = torch.meshgrid(*(torch.arange(grid, dtype=torch.float64),) * 2, indexing="ij")
    frequency = 1e4 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    halves = []
    for coordinate in (column, row):
        angle = coordinate.reshape(-1, 1) * frequency
        halves += [torch.sin(angle), torch.cos(angle)]
    return torch.cat(halves, dim=1).float()


class Timestep(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t):
        frequency = torch.exp(-math.log(1e4) * torch.arange(128) / 128)
        angle = t[:, None].float() * frequency
        return self.mlp(torch.cat([torch.cos(angle), torch.sin(angle)], dim=1))


class Labels(nn.Module):
    def __init__(self, classes, dim):
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, dim)

    def forward(self, labels):
        return self.embedding_table(labels)


class Patches(nn.Module):
    def __init__(self, channels, patch, dim):
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, patch, stride=patch)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        b, length, dim = x.shape
        q, k, v = self.qkv(x).reshape(b, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        share = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)
        return self.proj((share @ v).transpose(1, 2).reshape(b, length, dim))


class MLP(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x):
        return self.fc2(nn.functional.gelu(self.fc1(x), approximate="tanh"))


def modulated(x, shift, scale):
    norm = nn.functional.layer_norm(x, x.shape[-1:], eps=1e-6)
    return norm * (1 + scale[:, None]) + shift[:, None]


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.attn, self.mlp = Attention(dim, heads), MLP(dim)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))

    def forward(self, x, c):
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.adaLN_modulation(c).chunk(6, 1)
        x = x + gate_1[:, None] * self.attn(modulated(x, shift_1, scale_1))
        return x + gate_2[:, None] * self.mlp(modulated(x, shift_2, scale_2))


class Final(nn.Module):
    def __init__(self, dim, outputs):
        super().__init__()
        self.linear = nn.Linear(dim, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))

    def forward(self, x, c):
        return self.linear(modulated(x, *self.adaLN_modulation(c).chunk(2, 1)))


class DiT(nn.Module):
    """Noisy latents [b, c, h, w], t [b] and labels [b] to a prediction [b, 2 c, h, w]."""

    def __init__(self, *, size, depth, dim, heads, patch=2, channels=4, classes=10):
        super().__init__()
        self.patch, self.side = patch, size // patch
        self.x_embedder = Patches(channels, patch, dim)
        self.t_embedder, self.y_embedder = Timestep(dim), Labels(classes, dim)
        self.pos_embed = nn.Parameter(sincos(self.side, dim)[None], requires_grad=False)
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.final_layer = Final(dim, patch**2 * 2 * channels)

    def forward(self, x, t, labels):
        h = self.x_embedder(x) + self.pos_embed
        c = self.t_embedder(t) + self.y_embedder(labels)
        for block in self.blocks:
            h = block(h, c)
        h = self.final_layer(h, c)
        h = h.reshape(len(h), self.side, self.side, self.patch, self.patch, -1)
        return torch.einsum("nhwpqc->nchpwq", h).reshape(len(h), -1, *x.shape[2:])

    def velocity(self, x, t, labels):
        """What SiT predicts: the first half of the channels."""
        return self(x, t, labels).chunk(2, dim=1)[0]


def awake(model):
    """Gives every parameter random values: those of a fresh DiT gate its blocks away."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "pos_embed":
                scale = 0.5 if "modulation" in name or "norm1.linear" in name else 0.2
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model.eval()
