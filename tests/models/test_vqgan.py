"""VQGAN and VQGAN+: published sizes, and what they refuse. Parity is in tests/pretrained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.models import VQGAN, VQGANPlus
from vqdit.nn.conv import AttentionBlock, Downsample

TINY = {"channels": (4, 8), "blocks": 1, "groups": 2}


def shapes(model, dim):
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return jax.eval_shape(lambda x: model.init(jax.random.key(0), x, dim), x)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_the_default_is_the_published_f16_network():
    """16-fold, latents of 256 channels, attention at the last level: counted layer by layer."""

    def conv(inputs, outputs, edge=3):
        return edge**2 * inputs * outputs + outputs

    def block(inputs, outputs):
        shortcut = conv(inputs, outputs, 1) if inputs != outputs else 0
        return 2 * inputs + conv(inputs, outputs) + 2 * outputs + conv(outputs, outputs) + shortcut

    def attention(width):
        return 2 * width + 4 * conv(width, width, 1)

    middle = 2 * block(512, 512) + attention(512)
    levels = [(128, 128), (128, 128), (128, 256), (256, 256), (256, 512)]
    down = sum(block(a, b) + block(b, b) for a, b in levels) + 2 * attention(512)
    down += sum(conv(width, width) for _, width in levels[:-1])
    encoder = conv(3, 128) + down + middle + 2 * 512 + conv(512, 256) + conv(256, 256, 1)
    levels = [(512, 512), (512, 256), (256, 256), (256, 128), (128, 128)]
    up = sum(block(a, b) + 2 * block(b, b) for a, b in levels) + 3 * attention(512)
    up += sum(conv(width, width) for _, width in levels[:-1])
    decoder = conv(256, 256, 1) + conv(256, 512) + middle + up + 2 * 128 + conv(128, 3)
    found = shapes(VQGAN(), 256)
    assert count(found["encoder"]) == encoder
    assert count(found["decoder"]) == decoder


def test_the_plus_model_has_no_attention_and_as_many_blocks_on_both_sides():
    found = shapes(VQGANPlus(), 12)
    blocks = {side: {n for n in found[side] if "_block_" in n} for side in found}
    assert blocks["encoder"] == blocks["decoder"]
    assert len(blocks["encoder"]) == 12  # two for each of five levels and the middle
    for side in found.values():
        assert not [name for name in side if "attention" in name]
        for name, part in side.items():
            if "_block_" in name:
                assert set(part["conv_1"]) == {"kernel"}


@pytest.mark.parametrize("quant_conv", [True, False])
def test_double_z_gives_moments_and_takes_latents(quant_conv):
    model = VQGAN(**TINY, attention=(), z_channels=3, double_z=True, quant_conv=quant_conv)
    x = jnp.zeros((1, 8, 8, 3))
    found = jax.eval_shape(lambda: model.init(jax.random.key(0), x, dim=3, width=6))
    assert found["encoder"]["out"]["kernel"].shape == (3, 3, 8, 6)
    assert found["decoder"]["in"]["kernel"].shape == (3, 3, 3, 8)
    if quant_conv:
        assert found["encoder"]["quant_conv"]["kernel"].shape == (1, 1, 6, 6)
        assert found["decoder"]["post_quant_conv"]["kernel"].shape == (1, 1, 3, 3)
    z = jax.eval_shape(lambda p: model.encode(p, x, 6), found)
    assert z.shape == (1, 4, 4, 6)


@pytest.mark.parametrize(
    ("fields", "dim", "message"),
    [
        ({}, 4, "encoder gives 6 channels, not 4; change z_channels"),
        ({"double_z": True}, 6, "encoder gives 12 channels, not 6"),
    ],
)
def test_without_quant_conv_the_widths_must_agree(fields, dim, message):
    model = VQGAN(**TINY, attention=(), z_channels=6, quant_conv=False, **fields)
    with pytest.raises(ValueError, match=message):
        shapes(model, dim)


def test_halving_pads_the_end_alone():
    """As published: one row below, one column to the right."""
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    kernel = jnp.zeros((3, 3, 1, 1)).at[0, 0].set(1.0)
    params = {"params": {"conv": {"kernel": kernel, "bias": jnp.zeros(1)}}}
    np.testing.assert_array_equal(Downsample(1, 2).apply(params, x)[0, ..., 0], [[0, 2], [8, 10]])


def test_attention_mixes_all_positions_with_one_head():
    x = jax.random.normal(jax.random.key(0), (1, 2, 3, 4))
    block = AttentionBlock(groups=2)
    params = block.init(jax.random.key(1), x)
    p = jax.tree.map(np.asarray, params["params"])
    h = np.asarray(x).reshape(6, 2, 2)  # position, group, channel
    h = (h - h.mean((0, 2), keepdims=True)) / np.sqrt(h.var((0, 2), keepdims=True) + 1e-6)
    h = h.reshape(6, 4)
    q, k, v = (h @ p[name]["kernel"] + p[name]["bias"] for name in "qkv")
    shares = np.exp(q @ k.T / 2.0)
    shares /= shares.sum(1, keepdims=True)
    expected = np.asarray(x).reshape(6, 4) + (shares @ v) @ p["out"]["kernel"]
    np.testing.assert_allclose(block.apply(params, x).reshape(6, 4), expected, atol=1e-5)


@pytest.mark.parametrize("cls", [VQGAN, VQGANPlus])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": ()}, r"channels to be positive, got \(\)"),
        ({"channels": (48,)}, r"channels to be multiples of groups=32, got \(48,\)"),
        ({"blocks": 0}, "blocks >= 1, got 0"),
        ({"groups": 0}, "groups >= 1, got 0"),
    ],
)
def test_bad_fields_are_refused(cls, fields, message):
    extra = {"attention": ()} if cls is VQGAN else {}
    with pytest.raises(ValueError, match=f"{cls.__name__} needs {message}"):
        cls(**extra, **fields)


def test_levels_may_be_counted_from_the_latents():
    last, first = (shapes(VQGAN(**TINY, attention=(level,)), 4) for level in (-1, -2))
    assert {n for n in last["encoder"] if "n_0" in n} == {"level_1_attention_0"}
    assert {n for n in first["decoder"] if "n_0" in n} == {"level_0_attention_0"}


def test_attention_at_a_level_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"levels from -2 to 1, got \(2,\)"):
        VQGAN(**TINY, attention=(2,))
