"""Imported codecs against the implementations of transformers: the same codes and samples."""

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
pytestmark = pytest.mark.peers
os.environ["HF_HUB_OFFLINE"] = "1"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers")
    from transformers import (
        DacConfig,
        DacModel,
        EncodecConfig,
        EncodecModel,
        MimiConfig,
        MimiModel,
    )
transformers.utils.logging.disable_progress_bar()

ENCODEC = {"num_filters": 6, "hidden_size": 7, "upsampling_ratios": [5, 2, 3], "codebook_size": 32}
ENCODEC |= {"sampling_rate": 3000, "target_bandwidths": [0.5, 2.0], "num_lstm_layers": 2}
"""30 samples and 5 bits per token, 100 tokens per second: 4 codebooks."""
DAC = {"encoder_hidden_size": 5, "decoder_hidden_size": 24, "downsampling_ratios": [2, 3, 5]}
DAC |= {"n_codebooks": 3, "codebook_size": 32, "codebook_dim": 3, "sampling_rate": 3000}
MIMI = {"num_filters": 4, "hidden_size": 12, "upsampling_ratios": [5, 3], "codebook_size": 32}
MIMI |= {"codebook_dim": 6, "vector_quantization_hidden_dimension": 6, "num_quantizers": 4}
MIMI |= {"num_hidden_layers": 2, "intermediate_size": 10, "num_attention_heads": 2}
MIMI |= {"num_key_value_heads": 2, "upsample_groups": 12, "sliding_window": 4}
MIMI |= {"sampling_rate": 3000, "num_semantic_quantizers": 1}
TABLE = {
    "encodec": (EncodecModel, EncodecConfig, ENCODEC),
    "encodec centred": (
        EncodecModel,
        EncodecConfig,
        ENCODEC
        | {"use_causal_conv": False, "pad_mode": "constant", "use_conv_shortcut": False}
        | {"num_residual_layers": 2, "num_lstm_layers": 1},
    ),
    "encodec trimmed": (EncodecModel, EncodecConfig, ENCODEC | {"trim_right_ratio": 0.4}),
    "encodec 48k": (
        EncodecModel,
        EncodecConfig,
        ENCODEC
        | {"norm_type": "time_group_norm", "use_causal_conv": False, "normalize": True}
        | {"audio_channels": 2},
    ),
    "dac": (DacModel, DacConfig, DAC),
    "dac even": (DacModel, DacConfig, DAC | {"downsampling_ratios": [2, 4]}),
    "mimi": (MimiModel, MimiConfig, MIMI),
    "mimi plain": (
        MimiModel,
        MimiConfig,
        MIMI | {"codebook_dim": 12, "vector_quantization_hidden_dimension": 12}
        | {"num_semantic_quantizers": 2, "use_conv_shortcut": True, "upsample_groups": 3},
    ),
}  # fmt: skip
NAMES = list(TABLE)


def awake(model, seed=0):
    """Gives every tensor values of its own, also those that start at 0 or 1."""
    draw = torch.Generator().manual_seed(seed)
    fixed = ("stride", "kernel_size", "padding_total", "inited", "initialized", "inv_freq")
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith(fixed):
                continue
            noise = torch.randn(tensor.shape, generator=draw)
            is_scale = name.endswith(("original0", "norm.weight", "alpha", "cluster_usage"))
            if is_scale:
                tensor.copy_(0.5 + noise.abs())
            elif "codebook" in name:
                tensor.copy_(noise)
            else:
                fan = max(1, tensor[0].numel()) if tensor.ndim > 1 else 16
                # The decoder of DAC ends in tanh, which its residual blocks would saturate.
                is_bounded = isinstance(model, DacModel) and name.startswith("decoder")
                gain = 0.5 if is_bounded else 1.3
                tensor.copy_(noise * gain / fan**0.5)
    return model.eval()


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    @functools.cache
    def make(name):
        cls, config, fields = TABLE[name]
        model = awake(cls(config(**fields)))
        folder = tmp_path_factory.mktemp("codec")
        model.save_pretrained(folder)
        return model, folder, pretrained.load(folder)

    return make


def sounds(length, channels=1, count=2):
    draw = np.random.default_rng(length)
    return draw.uniform(-0.9, 0.9, (count, length, channels)).astype(np.float32)


def theirs(model, x):
    """Returns codes [b, l, q], loudness and samples [b, t, c] of transformers."""
    x = torch.from_numpy(x.transpose(0, 2, 1))
    with torch.no_grad():
        if isinstance(model, EncodecModel):
            found = model.encode(x, bandwidth=2.0)
            y = model.decode(found.audio_codes, found.audio_scales).audio_values
            codes, scale = found.audio_codes[0], found.audio_scales[0]
        else:
            codes, scale = model.encode(x).audio_codes, None
            y = model.decode(audio_codes=codes).audio_values
    y = y if y.ndim == 3 else y[:, None]
    scale = None if scale is None else scale[:, 0].numpy()
    return codes.numpy().transpose(0, 2, 1), scale, y.numpy().transpose(0, 2, 1)


def close(found, expected):
    assert np.abs(np.asarray(found) - expected).max() <= 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("name", NAMES)
def test_codes_and_samples_are_those_of_transformers(imported, name):
    model, _, codec = imported(name)
    hop = codec.model.downsampling
    # DAC's own code appends silence to whole tokens before it calls the network.
    for length in (4 * hop, 5 * hop) if name.startswith("dac") else (4 * hop, 5 * hop - 7):
        x = sounds(length, codec.task.channels)
        expected, loudness, y = theirs(model, x)
        codes = codec.encode(x)
        assert codes.dtype == np.int32 and len(np.unique(expected)) > 12
        np.testing.assert_array_equal(codes, expected)
        found = codec.decode(codes, loudness=loudness)
        assert found.dtype == np.float32 and found.shape[1] == expected.shape[1] * hop
        close(found[:, : y.shape[1]], y)
        assert codec.decode(codes, length=length).shape == x.shape


def rewritten(folder, tmp_path, change=None, **fields):
    """Returns a copy of a folder with changed tensors and fields of its config."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    save_file((change or dict)(tensors), tmp_path / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | fields))
    return tmp_path


def leaves(codec):
    return jax.tree.leaves((codec.params, codec.stats))


def test_the_older_spelling_of_weight_norm_is_the_same_model(imported, tmp_path):
    """The length of a kernel is that of an output channel; if transposed, of an input channel."""
    _, folder, codec = imported("encodec")

    def older(tensors):
        names = {"parametrizations.weight.original0": "weight_g"}
        names |= {"parametrizations.weight.original1": "weight_v"}
        for new, old in names.items():
            tensors = {name.replace(new, old): tensor for name, tensor in tensors.items()}
        assert sum(name.endswith("weight_g") for name in tensors) > 20
        return tensors

    again = pretrained.load(rewritten(folder, tmp_path, older))
    for found, expected in zip(leaves(again), leaves(codec), strict=True):
        np.testing.assert_array_equal(found, expected)


def original_names(tensors):
    """Returns the tensors of a DAC of transformers under the names of DAC's own code."""
    levels, found = 3, {}
    for name, tensor in tensors.items():
        side, *parts = name.split(".")
        if side != "quantizer":
            model, first = ("block", 0) if side == "encoder" else ("model", 2)
            if parts[0] == "block":
                level, part, *rest = parts[1:]
                parts = [model, str(int(level) + 1), "block"]
                if part.startswith("res_unit"):
                    number = int(part[-1]) - 1 + first
                    inner = ("snake1", "conv1", "snake2", "conv2").index(rest[0])
                    parts += [str(number), "block", str(inner), rest[1]]
                else:
                    place = {"encoder": {"snake1": 3, "conv1": 4}}.get(side)
                    place = place or {"snake1": 0, "conv_t1": 1}
                    parts += [str(place[part]), rest[0]]
            else:
                ends = {"conv1": 0, "snake1": levels + 1, "conv2": levels + 2}
                parts = [model, str(ends[parts[0]]), parts[1]]
        name = ".".join([side, *parts])
        if name.endswith("weight") and "codebook" not in name:
            norm = tensor.norm(dim=(1, 2), keepdim=True)
            found[name + "_g"], found[name + "_v"] = norm, 3.0 * tensor
        else:
            found[name] = tensor
    return found


def test_a_file_of_dacs_own_code_is_the_same_model(imported, tmp_path):
    model, _, codec = imported("dac")
    kwargs = {"encoder_dim": 5, "encoder_rates": [2, 3, 5], "sample_rate": 3000}
    content = {"state_dict": original_names(model.state_dict()), "metadata": {"kwargs": kwargs}}
    torch.save(content, tmp_path / "weights.pth")
    again = pretrained.load(tmp_path / "weights.pth")
    assert again.task == codec.task and again.rate == 3000
    for found, expected in zip(leaves(again), leaves(codec), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    torch.save(content | {"metadata": {}}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="must state a sample_rate from 1 to .*got None"):
        pretrained.load(tmp_path / "weights.pth")


@pytest.mark.parametrize("name", ["encodec", "dac", "mimi"])
def test_tensors_that_are_missing_or_too_many_are_named(imported, tmp_path, name):
    _, folder, _ = imported(name)

    def other(tensors):
        last = [key for key in tensors if key.startswith("decoder") and key.endswith(".bias")][-1]
        tensors["head.weight"] = tensors.pop(last)
        return tensors

    with pytest.raises(PretrainedMismatch, match=r"missing \(1\):(.|\n)*head.weight"):
        pretrained.load(rewritten(folder, tmp_path, other))


def test_what_cannot_be_imported_is_refused(imported, tmp_path):
    _, folder, codec = imported("encodec")
    for fields, message in (
        ({"model_type": "xcodec"}, "model_type=xcodec cannot be imported; known are dac, encodec"),
        ({"norm_type": "batch"}, "norm_type='batch' cannot be imported"),
        ({"pad_mode": "circular"}, "pad_mode='circular' cannot be imported"),
        ({"target_bandwidths": [1e9]}, "1 to 256 can be imported"),
        ({"hidden_size": 8}, "codebook_dim=7 cannot be imported"),
        ({"num_filters": 0}, "num_filters in config.json must be an integer from 1"),
    ):
        with pytest.raises(ValueError, match=message):
            pretrained.load(rewritten(folder, tmp_path, **fields))
    with pytest.raises(ValueError, match="codebooks must be from 1 .*, got 5; the tokenizer has 4"):
        codec.encode(sounds(60), codebooks=5)


def test_a_batch_is_encoded_as_each_alone_and_in_pieces(imported):
    _, _, codec = imported("mimi")
    x = sounds(20 * codec.model.downsampling - 11)
    codes = np.asarray(codec.encode(x))
    np.testing.assert_array_equal(codec.encode(x[1:]), codes[1:])
    np.testing.assert_array_equal(codec.encode(x, chunk=0.05), codes)
    y = codec.decode(codes)
    np.testing.assert_allclose(codec.decode(codes[1:]), y[1:], atol=1e-5)
    np.testing.assert_allclose(codec.decode(codes, chunk=0.05), y, atol=1e-4)


def test_the_command_makes_a_workdir_of_a_codec(imported, tmp_path, capsys):
    _, folder, codec = imported("dac")
    out = tmp_path / "run"
    assert main(["import", str(folder), f"--out={out}", "--seconds=2"]) == 0
    assert "3,000 Hz, mono, 100 tokens per second of 3 codes: 1.5 kbit/s" in capsys.readouterr().out
    loaded, x = vqdit.load(out), sounds(91)
    codes = np.asarray(loaded.encode(x))
    np.testing.assert_array_equal(codes, codec.encode(x))
    y = loaded.decode(codes, length=91)
    assert y.dtype == np.int16 and y.shape == (2, 91)
    expected = np.asarray(codec.decode(codes, length=91))[..., 0]
    np.testing.assert_allclose(y / 32768, np.clip(expected, -1, 1), atol=1e-4)
    assert loaded.task.modality.lengths == (1, 6000)
    assert main(["import", str(folder), f"--out={tmp_path / 'b'}", "--size=64"]) == 2
    assert "--size is for tokenizers of pictures" in capsys.readouterr().err
