"""Imported tokenizers against their torch originals: the same numbers and the same codes."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit import pretrained
from vqdit.pretrained import PretrainedMismatch
from vqdit.quantizers import GumbelVQ
from vqdit.tasks import KLTask, TokenizerTask

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers

from tests.pretrained import published  # noqa: E402  (needs torch)

ATOL = 2e-4
SIZES = [(16, 16), (8, 24)]


def images(size, channels=3, count=2):
    generator = np.random.default_rng(0)
    return generator.uniform(-1, 1, (count, *size, channels)).astype(np.float32)


def nchw(x):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.asarray(x), -1, 1)))


def nhwc(x):
    return np.moveaxis(x.detach().numpy(), 1, -1)


def load(path, **fields):
    return pretrained.load(path, **{"size": 16, **fields})


def check_codes(tokenizer, latents, codes, decode, size):
    """Compares a tokenizer with three functions of torch tensors."""
    x = images(size)
    with torch.no_grad():
        expected_z, expected_codes = nhwc(latents(nchw(x))), codes(nchw(x)).numpy()
        expected_y = nhwc(decode(torch.from_numpy(expected_codes)))
    width = tokenizer.task.width
    z = jax.jit(functools.partial(tokenizer.model.encode, width=width))(tokenizer.params, x)
    np.testing.assert_allclose(z, expected_z, atol=ATOL)
    found = tokenizer.encode(x)
    np.testing.assert_array_equal(found[..., 0], expected_codes)
    assert len(np.unique(found)) > 4
    y = tokenizer.decode(found)
    assert (y.dtype, y.shape) == (np.float32, x.shape)
    np.testing.assert_allclose(y, expected_y, atol=ATOL)
    assert expected_y.std() > 0.1


def check_latents(tokenizer, mode, decode, size):
    x = images(size)
    with torch.no_grad():
        expected_z = nhwc(mode(nchw(x)))
        expected_y = nhwc(decode(nchw(expected_z)))
    z = tokenizer.encode(x)
    np.testing.assert_allclose(z, expected_z, atol=ATOL)
    y = tokenizer.decode(expected_z)
    np.testing.assert_allclose(y, expected_y, atol=ATOL)
    assert expected_z.std() > 0.1 and expected_y.std() > 0.1


def check_published(tokenizer, model, size=(16, 16)):
    check_codes(tokenizer, model.latents, model.codes, model.decode_codes, size)


@pytest.fixture(scope="module")
def taming(tmp_path_factory):
    """A VQGAN of taming-transformers as Lightning saves it."""
    model = published.awake(published.Model("taming"))
    file = tmp_path_factory.mktemp("taming") / "last.ckpt"
    discriminator = {"loss.discriminator.main.0.weight": torch.zeros(4, 3, 4, 4)}
    state = {**model.state_dict(), **discriminator}
    torch.save({"state_dict": state, "epoch": 3, "callbacks": {}}, file)
    return model, file


@pytest.mark.parametrize("size", SIZES)
def test_taming(taming, size):
    model, file = taming
    tokenizer = load(file)
    assert isinstance(tokenizer.task, TokenizerTask)
    assert tokenizer.task.quantizer.codebook_sizes == (32,)
    check_published(tokenizer, model, size)


def test_taming_with_other_levels_blocks_and_widths(tmp_path):
    fields = {"ch": 32, "mult": (1, 1, 3), "blocks": 2, "attention": (1, 2), "z": 6, "channels": 1}
    model = published.awake(published.Model("taming", **fields), seed=1)
    state = model.state_dict()
    state["quantize.embedding.cluster_size"] = torch.ones(32)  # of an EMA codebook
    state["model_ema.num_updates"] = torch.tensor(7)
    torch.save({"state_dict": state}, tmp_path / "last.ckpt")
    tokenizer = load(tmp_path / "last.ckpt")
    found = tokenizer.model
    assert (found.channels, found.blocks, found.attention) == ((32, 32, 96), 2, (1, 2))
    x = images((16, 16), 1)
    with torch.no_grad():
        expected = model.codes(nchw(x))
    np.testing.assert_array_equal(tokenizer.encode(x)[..., 0], expected)


@pytest.fixture(scope="module")
def gumbel(tmp_path_factory):
    """A VQGAN that quantizes by Gumbel softmax, as Lightning saves it."""
    model = published.awake(published.Model("taming", is_gumbel=True, z=6, dim=6, codes=24))
    file = tmp_path_factory.mktemp("gumbel") / "last.ckpt"
    torch.save({"state_dict": model.state_dict()}, file)
    return model, file


@pytest.mark.parametrize("size", SIZES)
def test_taming_with_gumbel_quantization(gumbel, size):
    model, file = gumbel
    tokenizer = load(file)
    quantizer = tokenizer.task.quantizer
    assert isinstance(quantizer, GumbelVQ)
    assert (quantizer.codebook_size, quantizer.dim) == (24, 6)
    check_published(tokenizer, model, size)


def test_the_first_stage_of_a_latent_diffusion_model(tmp_path):
    """Mean and log variance, under another prefix, beside a network that is not imported."""
    model = published.awake(published.Model("taming", is_kl=True, dim=3, z=4))
    state = {f"first_stage_model.{name}": value for name, value in model.state_dict().items()}
    state["model.diffusion_model.out.weight"] = torch.zeros(3)
    torch.save({"state_dict": state}, tmp_path / "ldm.ckpt")
    tokenizer = load(tmp_path / "ldm.ckpt")
    assert isinstance(tokenizer.task, KLTask)
    check_latents(tokenizer, lambda x: model.latents(x)[:, :3], model.decode, (16, 16))


def test_llamagen(tmp_path):
    model = published.awake(published.Model("llamagen", mult=(1, 1, 2), attention=(2,)))
    state = {**model.state_dict(), "quantize.codebook_used": torch.zeros(64)}
    torch.save({"model": state, "steps": 5}, tmp_path / "vq.pt")
    tokenizer = load(tmp_path / "vq.pt")
    assert tokenizer.task.quantizer.distance == "cosine"
    norms = np.linalg.norm(tokenizer.stats.codebook, axis=1)
    np.testing.assert_allclose(norms, 1.0, atol=1e-6)
    check_published(tokenizer, model)


BLOCKS = {
    "down_block_types": ("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
    "up_block_types": ("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
}


def diffusers_model(kind, folder, **fields):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library
        diffusers = pytest.importorskip("diffusers")
        torch.manual_seed(0)
        model = published.awake(getattr(diffusers, kind)(**{**BLOCKS, **fields}))
        model.save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    "fields",
    [
        {"latent_channels": 6, "num_vq_embeddings": 24, "vq_embed_dim": 4, "layers_per_block": 2},
        {"mid_block_add_attention": False, "num_vq_embeddings": 24},
    ],
)
def test_diffusers_vq(fields, tmp_path):
    model = diffusers_model("VQModel", tmp_path, **fields)
    tokenizer = load(tmp_path)
    assert tokenizer.task.quantizer.codebook_sizes == (24,)
    assert tokenizer.model.middle_attention == fields.get("mid_block_add_attention", True)

    def codes(x):
        z = model.encode(x).latents
        return model.quantize(z)[2][2].reshape(len(x), *z.shape[2:])

    def decode(codes):
        z = model.quantize.embedding(codes).permute(0, 3, 1, 2)
        return model.decode(z, force_not_quantize=True).sample

    check_codes(tokenizer, lambda x: model.encode(x).latents, codes, decode, (8, 12))


@pytest.mark.parametrize("has_convolutions", [True, False])
def test_diffusers_kl(has_convolutions, tmp_path):
    fields = {"use_quant_conv": has_convolutions, "use_post_quant_conv": has_convolutions}
    model = diffusers_model("AutoencoderKL", tmp_path, shift_factor=0.1, **fields)
    tokenizer = load(tmp_path)
    assert tokenizer.model.quant_conv == has_convolutions
    mode = lambda x: model.encode(x).latent_dist.mode()  # noqa: E731
    check_latents(tokenizer, mode, lambda z: model.decode(z).sample, (8, 12))


def test_diffusers_with_old_names_and_pickled_weights(tmp_path):
    model = diffusers_model("AutoencoderKL", tmp_path)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = model.state_dict()
    for new, name in old.items():
        state = {key.replace(f".{new}.", f".{name}."): value for key, value in state.items()}
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(state, tmp_path / "diffusion_pytorch_model.bin")
    mode = lambda x: model.encode(x).latent_dist.mode()  # noqa: E731
    check_latents(load(tmp_path), mode, lambda z: model.decode(z).sample, (8, 8))


def changed(file, change):
    content = torch.load(file, weights_only=True)
    change(content["state_dict"])
    new = file.with_name("changed.ckpt")
    torch.save(content, new)
    return new


def test_what_does_not_fit_is_named(taming):
    def change(state):
        del state["encoder.down.0.block.0.conv1.weight"]
        state["decoder.extra.weight"] = torch.zeros(3)
        state["decoder.conv_out.bias"] = torch.zeros(4)

    with pytest.raises(PretrainedMismatch) as error:
        load(changed(taming[1], change))
    assert str(error.value) == (
        "the checkpoint does not match the model: "
        "missing (1): encoder.down.0.block.0.conv1.weight; "
        "unexpected (1): decoder.extra.weight; "
        "of another shape (1): decoder.conv_out.bias: expected [3], found [4]"
    )


@pytest.mark.parametrize(
    "name",
    ["encoder.conv_in.weight", "encoder.down.1.block.0.conv2.bias", "decoder.conv_in.weight",
     "quantize.embedding.weight", "encoder.mid.attn_1.q.weight", "quant_conv.bias"],
)  # fmt: skip
def test_whatever_is_missing_is_named(name, taming):
    with pytest.raises(PretrainedMismatch, match=rf"missing \(1\): {name}$"):
        load(changed(taming[1], lambda state: state.pop(name)))


@pytest.mark.parametrize("name", ["embed.weight", "proj.weight", "proj.bias"])
def test_whatever_is_missing_of_gumbel_quantization_is_named(name, gumbel):
    with pytest.raises(PretrainedMismatch, match=rf"missing \(1\): quantize.{name}$"):
        load(changed(gumbel[1], lambda state: state.pop(f"quantize.{name}")))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("proj.weight", (24, 5, 1, 1), r"expected \[24, 6, 1, 1\], found \[24, 5, 1, 1\]"),
        ("proj.weight", (24, 6, 3, 3), r"expected \[24, 6, 1, 1\], found \[24, 6, 3, 3\]"),
        ("proj.bias", (23,), r"expected \[24\], found \[23\]"),
        ("embed.weight", (24,), r"expected \[codes, width\], found \[24\]"),
    ],
)
def test_shapes_of_gumbel_quantization_must_fit_its_codebook(name, shape, message, gumbel):
    def change(state):
        state[f"quantize.{name}"] = torch.zeros(shape)

    with pytest.raises(PretrainedMismatch, match=f"quantize.{name}: {message}"):
        load(changed(gumbel[1], change))


def test_sizes_that_do_not_divide_are_refused(taming):
    with pytest.raises(ValueError, match="size 17x17 is not divisible .* nearest sizes: 16x16"):
        load(taming[1], size=17)
    tokenizer = load(taming[1])
    with pytest.raises(ValueError, match="size 15x16 is not divisible"):
        tokenizer.encode(images((15, 16)))


def test_stored_images_give_the_same_codes(taming):
    tokenizer = load(taming[1])
    raw = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    x = np.asarray(tokenizer.task.modality.standardize(jnp.asarray(raw)))
    codes = tokenizer.encode(raw)
    np.testing.assert_array_equal(codes, tokenizer.encode(x))
    assert tokenizer.decode(codes, standardized=False).dtype == jnp.uint8
