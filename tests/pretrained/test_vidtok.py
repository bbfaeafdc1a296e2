"""Imported VidTok models against the implementation of diffusers: the same codes and pixels."""

import functools
import json
import os
import warnings

import jax
import numpy as np
import pytest

import vqdit
from vqdit import pretrained
from vqdit.cli.main import main
from vqdit.pretrained import PretrainedMismatch

torch = pytest.importorskip("torch")
os.environ["HF_HUB_OFFLINE"] = "1"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("diffusers")
    from diffusers import AutoencoderVidTok

pytestmark = pytest.mark.peers

SMALL = {"ch": 4, "ch_mult": [1, 2, 2], "num_res_blocks": 1, "z_channels": 3}
SMALL |= {"tempo_ds": [0, 1], "tempo_us": [1, 2]}
TABLE = {
    "kl": SMALL,
    "fsq": SMALL | {"regularizer": "fsq", "double_z": False, "codebook_size": 512},
    "fsq other strides": SMALL
    | {"regularizer": "fsq", "double_z": False, "codebook_size": 64, "z_channels": 2}
    | {"ch_mult": [1, 1, 2, 2], "tempo_ds": None, "tempo_us": None}
    | {"spatial_ds": [1, 2], "spatial_us": [1, 2]},
}
SIZES = {"kl": (9, 12, 20), "fsq": (9, 8, 12), "fsq other strides": (5, 8, 12)}


def saved(config, folder, seed=0):
    """Returns a model with values of its own in every tensor, and saves it."""
    model = AutoencoderVidTok(**config).eval()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.parameters():
            scale = 0.7 * tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.3
            tensor.copy_(scale * torch.randn(tensor.shape, generator=draw) + 0.5 * (tensor == 1))
        model.encoder.conv_out.conv.weight.mul_(6.0)
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Makes a model of the table, loads it, and keeps both."""

    @functools.cache
    def pair(name):
        folder = tmp_path_factory.mktemp("vidtok") / "vae"
        return saved(TABLE[name], folder), pretrained.load(folder, size=16), folder

    return pair


def clip(size):
    return np.random.default_rng(0).uniform(-1, 1, (2, *size, 3)).astype(np.float32)


def original(model, x):
    """The original's tokens, its latents, and its reconstruction."""
    stride = model.temporal_compression_ratio
    x = torch.from_numpy(np.moveaxis(x, -1, 1).copy())
    x = torch.cat([x[:, :, :1].repeat(1, 1, stride - 1, 1, 1), x], dim=2)
    with torch.no_grad():
        if model.config.regularizer == "kl":
            z = model.encode(x).latent_dist.mode()
            tokens = np.moveaxis(z.numpy(), 1, -1)
        else:
            z, codes = model.encode(x)
            tokens = codes.numpy()[..., None]
        y = model.decode(z)
    return tokens, np.moveaxis(y.numpy(), 1, -1)


@pytest.mark.parametrize("name", list(TABLE))
def test_tokens_and_pixels_are_those_of_diffusers(pairs, name):
    model, tokenizer, _ = pairs(name)
    x = clip(SIZES[name])
    tokens, y = original(model, x)
    found = tokenizer.encode(x)
    if found.dtype == np.int32:
        np.testing.assert_array_equal(found, tokens)
        assert len(np.unique(found)) > 5
    else:
        np.testing.assert_allclose(found, tokens, atol=1e-4)
        assert tokens.std() > 0.1
    decoded = tokenizer.decode(tokens)
    assert decoded.shape == x.shape and y.std() > 0.1
    np.testing.assert_allclose(decoded, y, atol=1e-4)


def test_chunks_and_streams_give_the_whole(pairs):
    _, tokenizer, _ = pairs("fsq")
    x = clip(SIZES["fsq"])
    codes, step = tokenizer.encode(x), tokenizer.model.time_stride
    y = tokenizer.decode(codes)
    np.testing.assert_array_equal(tokenizer.encode(x, chunk=2), codes)
    np.testing.assert_allclose(tokenizer.decode(codes, chunk=2), y, atol=1e-4)
    blocks = (x[:, start : start + 3] for start in range(0, x.shape[1], 3))
    parts = list(tokenizer.encode_stream(blocks))
    assert [part.shape[1] for part in parts] == [1] * (1 + x.shape[1] // step)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), codes)
    frames = list(tokenizer.decode_stream([codes[:, :2], codes[:, 2:]]))
    np.testing.assert_allclose(np.concatenate(frames, axis=1), y, atol=1e-4)
    stored = tokenizer.decode(codes, chunk=2, standardized=False)
    assert stored.dtype == np.uint8 and tokenizer.encode(stored, chunk=2).shape == codes.shape
    for chunk in (0, 1.5):
        with pytest.raises(ValueError, match="the frames of tokens at a time, got"):
            tokenizer.encode(x, chunk=chunk)
    with pytest.raises(ValueError, match="nearest sizes: 5x8x12 or 9x8x12"):
        tokenizer.encode(x[:, :-1], chunk=2)
    with pytest.raises(ValueError, match="nearest sizes: 9x8x8 or 9x8x12"):
        tokenizer.encode(x[:, :, :, :-1])
    with pytest.raises(ValueError, match=r"got float64 \[2, 9, 8, 12, 3\]"):
        tokenizer.encode(x.astype(np.float64))


def test_the_command_writes_a_workdir(pairs, tmp_path, capsys):
    _, tokenizer, folder = pairs("kl")
    out = tmp_path / "run"
    command = ["import", str(folder), f"--out={out}", "--size=12", "--frames=9"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "9 frames of 12x12 pixels, grid 3x3x3" in printed
    found = vqdit.load(out)
    assert found.task.modality.frames == 9
    jax.tree.map(np.testing.assert_array_equal, found.params, tokenizer.params)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"is_causal": False}, "is_causal=False cannot be imported; only True can"),
        ({"ch_mult": [2, 2, 2]}, "ch_mult must begin with 1"),
        ({"tempo_ds": [2]}, "tempo_ds=.* must list levels from 0 to 1"),
        ({"double_z": False}, "double_z=False cannot be imported"),
        ({"regularizer": "vq"}, "regularizer='vq' cannot be imported"),
        ({"tempo_us": [1]}, "decoder_time_strides to have the product 4"),
        ({"num_res_blocks": 2}, "missing"),
    ],
)
def test_what_cannot_be_imported_is_named(change, message, tmp_path):
    folder = tmp_path / "vae"
    saved(SMALL, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises((ValueError, PretrainedMismatch), match=message):
        pretrained.load(folder)
