"""Imported DiTs against their torch originals, and what is refused."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vqdit
from vqdit import pretrained
from vqdit.cli.main import main
from vqdit.modalities import Image
from vqdit.models import ConvAutoencoder
from vqdit.models.dit import DiT
from vqdit.pretrained import PretrainedMismatch, diffusers_dit, dit, generator
from vqdit.pretrained.archive import Stored
from vqdit.pretrained.transformer import IMAGE, inputs_of, spread
from vqdit.processes import DDPM, Flow
from vqdit.regularizers import KL
from vqdit.samplers import Ancestral, Euler
from vqdit.tasks import KLTask
from vqdit.typing import Named

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers

from tests.pretrained import published_dit  # noqa: E402  (needs torch)

ATOL = 2e-4
SIZE, CHANNELS, CLASSES = 8, 4, 10


def inputs():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(4, SIZE, SIZE, CHANNELS)).astype(np.float32)
    return x, np.asarray([0, 1, 500, 999]), np.asarray([3, 0, CLASSES, 9])


def expected(forward, x, t, labels):
    """What a torch model gives for the arrays that `apply` takes."""
    with torch.no_grad():
        out = forward(
            torch.from_numpy(x).permute(0, 3, 1, 2), torch.tensor(t), torch.tensor(labels)
        )
    return out.permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module")
def original():
    return published_dit.awake(published_dit.DiT(size=SIZE, depth=2, dim=24, heads=3))


@pytest.fixture(scope="module")
def file(original, tmp_path_factory):
    """A state dict as the published ones."""
    file = tmp_path_factory.mktemp("dit") / "DiT.pt"
    torch.save(original.state_dict(), file)
    return file


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """A DiT of diffusers in a folder, and the model; its blocks share what embeds t and label."""
    diffusers = pytest.importorskip("diffusers")
    model = diffusers.DiTTransformer2DModel(
        num_attention_heads=3,
        attention_head_dim=8,
        in_channels=CHANNELS,
        out_channels=2 * CHANNELS,
        num_layers=2,
        sample_size=SIZE,
        num_embeds_ada_norm=CLASSES,
    )
    published_dit.awake(model)
    first, second = (block.norm1.emb for block in model.transformer_blocks)
    second.load_state_dict(first.state_dict())
    folder = tmp_path_factory.mktemp("port")
    model.save_pretrained(folder)
    return folder, model


def copied(folder, tmp_path, **changes):
    """Another folder of diffusers with a changed config and the same weights."""
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    (tmp_path / diffusers_dit.WEIGHTS[0]).symlink_to(folder / diffusers_dit.WEIGHTS[0])
    return tmp_path


def test_dit_predicts_as_the_original(original, file):
    found, (x, t, labels) = pretrained.load(file, heads=3), inputs()
    wanted = expected(original, x, t, labels)
    y = found.apply(x, t, labels)
    assert (y.shape, y.dtype) == ((4, SIZE, SIZE, 2 * CHANNELS), np.float32)
    np.testing.assert_allclose(y, wanted, atol=ATOL)
    assert wanted.std() > 0.3 and found.process == DDPM(learned_sigma=True)
    # No label is a row of its own, by either name; one time for all is the same for each.
    none = found.apply(x[2:3], 500, np.asarray([-1]))
    np.testing.assert_allclose(none, wanted[2:3], atol=ATOL)


def test_its_heads_matter_and_must_be_known(original, file):
    x, t, labels = inputs()
    other = pretrained.load(file, heads=4).apply(x, t, labels)
    assert np.abs(other - expected(original, x, t, labels)).max() > 100 * ATOL
    with pytest.raises(ValueError, match="unknown for a DiT of 2 blocks of width 24"):
        pretrained.load(file)


def test_sit_predicts_the_velocity_of_the_original(original, file):
    found, (x, _, labels) = pretrained.load(file, kind="sit", heads=3), inputs()
    t = np.asarray([0.0, 0.25, 0.9, 1.0], np.float32)
    y = found.apply(x, t, labels)
    np.testing.assert_allclose(y, expected(original.velocity, x, t, labels), atol=ATOL)
    assert y.shape == x.shape
    assert found.process == Flow(convention="noise_first", time_scale=1.0)


def test_averaged_weights_of_a_training_run_are_taken(original, tmp_path):
    file = tmp_path / "0400000.pt"
    blank = {name: torch.zeros_like(value) for name, value in original.state_dict().items()}
    torch.save({"model": blank, "ema": original.state_dict(), "args": object}, file)
    x, t, labels = inputs()
    y = pretrained.load(file, heads=3).apply(x, t, labels)
    np.testing.assert_allclose(y, expected(original, x, t, labels), atol=ATOL)


def test_the_port_of_diffusers_predicts_as_itself(port):
    folder, model = port
    found, (x, t, labels) = pretrained.load(folder), inputs()
    wanted = expected(lambda *args: model(*args).sample, x, t, labels)
    np.testing.assert_allclose(found.apply(x, t, labels), wanted, atol=ATOL)
    assert wanted.std() > 0.3


def test_folders_of_old_versions_and_in_shards_are_the_same(port, tmp_path):
    """The published folders name the class as earlier versions of diffusers did."""
    (tmp_path / "old").mkdir()
    folder, model = port
    changes = {"_class_name": "Transformer2DModel", "norm_type": "ada_norm_zero"}
    old = copied(folder, tmp_path / "old", **changes)
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    arrays = inputs()
    wanted = pretrained.load(folder).apply(*arrays)
    for other in (old, tmp_path / "shards"):
        np.testing.assert_array_equal(pretrained.load(other).apply(*arrays), wanted)
    next((tmp_path / "shards").glob("*-00002-*")).unlink()
    with pytest.raises(FileNotFoundError, match="no .*00002-of-.* in .*, which .*index.json lists"):
        pretrained.load(tmp_path / "shards")
    pixart = copied(folder, tmp_path, **(changes | {"norm_type": "ada_norm_single"}))
    with pytest.raises(ValueError, match="a Transformer2DModel of diffusers cannot be imported"):
        pretrained.load(pixart)


@pytest.mark.parametrize("change", [{"time_shift": 0}, {"mlp_eps": 1e-2}])
def test_what_the_port_does_otherwise_is_seen(port, change):
    """Keeps the test above honest: neither difference is below its tolerance."""
    found, (x, t, labels) = pretrained.convert(port[0]), inputs()
    y = pretrained.Denoiser(found).apply(x, t, labels)
    model = DiT(**{f: getattr(found.model, f) for f in ("depth", "dim", "heads", "patch")} | change)
    other = pretrained.Denoiser(found._replace(model=model)).apply(x, t, labels)
    assert np.abs(other - y).max() > 10 * ATOL


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_blocks_that_embed_in_their_own_way_predict_as_themselves(port, tmp_path, dtype):
    """As training with diffusers gives; in any precision of storage."""
    diffusers = pytest.importorskip("diffusers")
    model = diffusers.DiTTransformer2DModel(**port[1].config)
    published_dit.awake(model)  # other values in each block
    model.to(dtype).save_pretrained(tmp_path)
    model.to(torch.float32)
    model.pos_embed.pos_embed.copy_(port[1].pos_embed.pos_embed)  # no parameter, but rounded too
    found, (x, t, labels) = pretrained.load(tmp_path), inputs()
    assert found.model.embedders == "per_block"
    wanted = expected(lambda *args: model(*args).sample, x, t, labels)
    y = found.apply(x, t, labels)
    np.testing.assert_allclose(y, wanted, atol=2 * ATOL)
    shared = pretrained.load(port[0]).apply(x, t, labels)
    assert np.abs(shared - wanted).max() > 10 * ATOL
    if dtype is torch.float32:
        written = diffusers_dit.write(pretrained.convert(tmp_path), tmp_path / "again")
        again = diffusers.DiTTransformer2DModel.from_pretrained(written)
        for name, value in model.state_dict().items():
            torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)


def test_a_block_without_its_embedder_is_named(port, tmp_path):
    _, model = port
    state = dict(model.state_dict())
    name = "transformer_blocks.1.norm1.emb.timestep_embedder.linear_2.bias"
    del state[name]
    torch.save(state, tmp_path / "diffusion_pytorch_model.bin")
    model.save_config(tmp_path)
    with pytest.raises(PretrainedMismatch, match=rf"missing \(1\):\s+{name}"):
        pretrained.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation_fn": "geglu"}, "activation_fn='geglu' cannot be imported; only 'gelu-"),
        ({"attention_bias": False}, "attention_bias=False cannot be imported; only True"),
        ({"norm_type": "ada_norm"}, "norm_type='ada_norm' cannot be imported"),
        ({"norm_elementwise_affine": True}, "norm_elementwise_affine=True cannot be imported"),
        ({"num_layers": 3}, r"missing"),
        ({"num_layers": 10**9}, "num_layers in config.json must be an integer from 1 to 256, got"),
        ({"num_layers": 2.5}, "num_layers in config.json must be an integer .*, got 2.5"),
        ({"attention_head_dim": 10**9}, "attention_head_dim in config.json must be an integer"),
        ({"attention_head_dim": 10**6}, r"expected \[3000000, 4, 2, 2\], found \[24, 4, 2, 2\]"),
        ({"sample_size": 10**6}, "500000x500000x24 values for its positions; at most 67,108,864"),
        ({"norm_eps": float("nan")}, "config.json is damaged: the JSON has the number NaN"),
        ({"out_channels": "8"}, "out_channels in config.json must be an integer .*, got '8'"),
        ({"in_channels": 3}, r"pos_embed.proj.weight: expected \[24, 3, 2, 2\], found \[24, 4, 2"),
    ],
)
def test_what_no_dit_of_ours_has_is_refused(port, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        pretrained.load(copied(port[0], tmp_path, **changes))


def test_tensors_that_do_not_fit_are_named(original, tmp_path):
    state = dict(original.state_dict())
    file = tmp_path / "DiT.pt"
    torch.save(state | {"blocks.0.attn.q_norm.weight": torch.ones(8)}, file)
    with pytest.raises(PretrainedMismatch, match=r"unexpected \(1\):\s+blocks.0.attn.q_norm.w"):
        pretrained.load(file, heads=3)
    torch.save({n: v for n, v in state.items() if n != "blocks.1.mlp.fc2.bias"}, file)
    with pytest.raises(PretrainedMismatch, match=r"missing \(1\):\s+blocks.1.mlp.fc2.bias"):
        pretrained.load(file, heads=3)
    torch.save(state | {"pos_embed": torch.randn(1, 16, 24)}, file)
    with pytest.raises(ValueError, match=r"positions .* \[1, 16, 24\].* of a 4x4 grid; learned"):
        pretrained.load(file, heads=3)
    torch.save({n: v for n, v in state.items() if n != "pos_embed"}, file)
    with pytest.raises(PretrainedMismatch, match=r"missing \(1\):\s+pos_embed"):
        pretrained.load(file, heads=3)


def test_what_apply_cannot_take_is_refused(file):
    found, (x, t, labels) = pretrained.load(file, heads=3), inputs()
    with pytest.raises(ValueError, match=r"float32 latents \[b, 8, 8, 4\], got float32 \[4, 8, 4"):
        found.apply(x[:, :, :4], t, labels)
    with pytest.raises(ValueError, match="got float64"):
        found.apply(x.astype(np.float64), t, labels)
    with pytest.raises(ValueError, match=r"t as a scalar or of shape \[4\], got shape \[3\]"):
        found.apply(x, t[:3], labels)
    with pytest.raises(ValueError, match=r"4 integer labels, got float64 \[4\]"):
        found.apply(x, t, labels.astype(np.float64))
    with pytest.raises(ValueError, match="label 11 is out of range; use 0 to 9, or -1"):
        found.apply(x, t, labels + 1)


def test_the_layout_of_the_published_xl_2():
    """675,129,632 parameters, positions among them, by the names and shapes of the paper's file."""
    model, inputs = DiT.named("XL/2"), inputs_of(32, 4, 8, 1000)
    abstract = jax.eval_shape(lambda: model.init(jax.random.key(0), inputs))
    tensors = jax.eval_shape(lambda params: spread(model, dit.NAMES, params), abstract)
    shapes = {name: leaf.shape for name, leaf in tensors.items()} | {"pos_embed": (1, 256, 1152)}
    assert sum(map(math.prod, shapes.values())) == 675_129_632
    assert shapes["x_embedder.proj.weight"] == (1152, 4, 2, 2)
    assert shapes["y_embedder.embedding_table.weight"] == (1001, 1152)
    assert shapes["t_embedder.mlp.0.weight"] == (1152, 256)
    assert shapes["blocks.27.attn.qkv.weight"] == (3456, 1152)
    assert shapes["blocks.27.mlp.fc1.weight"] == (4608, 1152)
    assert shapes["blocks.0.adaLN_modulation.1.weight"] == (6912, 1152)
    assert shapes["final_layer.linear.weight"] == (32, 1152)
    assert len(shapes) == 28 * 10 + 12

    with torch.device("meta"):
        whole = published_dit.DiT(size=32, depth=28, dim=1152, heads=16, classes=1000)
    assert {name: tuple(value.shape) for name, value in whole.state_dict().items()} == shapes


def test_the_published_sizes_are_known_by_their_shapes():
    tensors = {"blocks.11.attn.qkv.weight": Stored((1152, 384), lambda: np.zeros(()))}
    assert dit._heads(dit._depth(tensors), 384) == 6


@pytest.mark.parametrize("number", ["999999999", "1" * 30])
def test_the_number_of_a_block_is_bounded(original, number, tmp_path):
    state = {**original.state_dict(), f"blocks.{number}.mlp.fc2.bias": torch.zeros(24)}
    torch.save(state, tmp_path / "DiT.pt")
    with pytest.raises(
        PretrainedMismatch, match=rf"1000000000 blocks|unexpected \(1\):\s+blocks.{number}"
    ):
        pretrained.load(tmp_path / "DiT.pt", heads=3)


def test_a_network_is_the_same_in_diffusers(port, tmp_path):
    diffusers = pytest.importorskip("diffusers")
    found, (x, t, labels) = pretrained.convert(port[0]), inputs()
    noise = np.random.default_rng(1)
    params = jax.tree.map(
        lambda leaf: leaf + 0.02 * noise.normal(size=leaf.shape).astype(np.float32), found.params
    )
    found = found._replace(params=params)
    folder = diffusers_dit.write(found, tmp_path / "out")
    model = diffusers.DiTTransformer2DModel.from_pretrained(folder).eval()
    y = pretrained.Denoiser(found).apply(x, t, labels)
    np.testing.assert_allclose(
        y, expected(lambda *args: model(*args).sample, x, t, labels), atol=ATOL
    )
    again = pretrained.convert(folder)
    assert (again.model, again.inputs) == (found.model, found.inputs)
    jax.tree.map(np.testing.assert_array_equal, again.params, found.params)
    with pytest.raises(ValueError, match="already has a model; choose another folder"):
        diffusers_dit.write(found, folder)


def test_what_diffusers_cannot_express_is_refused(port, file, tmp_path):
    with pytest.raises(ValueError, match="time_shift=0 cannot be exported, .*=1"):
        diffusers_dit.write(pretrained.convert(file, heads=3), tmp_path / "a")
    found = pretrained.convert(port[0])
    wide = found._replace(model=DiT(depth=2, dim=24, heads=3, mlp_ratio=2, time_shift=1))
    with pytest.raises(ValueError, match="mlp_ratio=2 cannot .*: diffusers supports only 4"):
        diffusers_dit.write(wide, tmp_path / "b")
    image = found.inputs[IMAGE]
    oblong = found.inputs | {IMAGE: type(image)(grid=(4, 8), width=4, output=8)}
    with pytest.raises(ValueError, match="latents of 4x8 cannot be exported"):
        diffusers_dit.write(found._replace(inputs=oblong), tmp_path / "c")
    codes = found.inputs | {IMAGE: type(image)(grid=(8, 8), codes=5, output=5)}
    with pytest.raises(ValueError, match="codes of 8x8 cannot be exported; .* square latents"):
        diffusers_dit.write(found._replace(inputs=codes), tmp_path / "d")
    assert not any(tmp_path.iterdir())


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """The workdir of a tokenizer that makes latents [8, 8, 4] of images [16, 16, 3]."""
    task = KLTask(
        modality=Image(size=(16, 16), channels=3),
        model=ConvAutoencoder(channels=(4, 8), blocks=1),
        regularizer=KL(dim=CHANNELS),
    )
    folder = tmp_path_factory.mktemp("vae") / "run"
    return pretrained.write(pretrained.Imported(task, *jax.jit(task.blank)()), folder)


@pytest.mark.parametrize("kind", ["dit", "sit"])
def test_a_workdir_predicts_the_same_and_is_sampled(file, tokenizer, tmp_path, capsys, kind):
    out = tmp_path / "run"
    argv = [str(file), f"--out={out}", f"--tokenizer={tokenizer}", "--heads=3", f"--kind={kind}"]
    assert main(["import", *argv]) == 0
    assert "10 classes\n  latents 8x8, 4 channels" in capsys.readouterr().out
    model, (x, _, labels) = vqdit.load(out), inputs()
    # The step 499 of DDPM, and the same share of noise in SiT, whose time goes the other way.
    direct = pretrained.load(file, kind=kind, heads=3)
    wanted = direct.apply(x, 499 if kind == "dit" else 0.5, labels)
    seen = {
        "image": x.reshape(4, 64, 4),
        "label": np.where(labels == 10, -1, labels)[:, None, None],
    }
    times = {"image": np.full((4, 1), 0.5, np.float32), "label": np.zeros((4, 1), np.float32)}
    predict = jax.jit(lambda params, *args: model.task.predict(params)(*args)["image"])
    y = predict(model.params, *(Named(jax.tree.map(jnp.asarray, part)) for part in (seen, times)))
    np.testing.assert_allclose(y.reshape(wanted.shape), wanted, atol=ATOL)

    space, frozen = model.task.space("image"), model.frozen["image"]
    decoded = space.decode(frozen, jnp.asarray(x.reshape(4, 64, 4)))
    np.testing.assert_array_equal(decoded, vqdit.load(tokenizer).decode(x / 0.18215))
    sampler = Euler(steps=2) if kind == "sit" else Ancestral(steps=2)
    sample = model.sample(2, guidance=1.5, samplers={"image": sampler})["image"]
    assert (sample.shape, sample.dtype) == ((2, 16, 16, 3), np.uint8)


def test_a_workdir_needs_the_right_tokenizer(file, port, tokenizer, tmp_path, capsys):
    def refused(*argv):
        assert main(["import", str(file), f"--out={tmp_path / 'run'}", "--heads=3", *argv]) == 2
        return capsys.readouterr().err

    assert "is a DiT and needs the tokenizer on whose latents" in refused()
    assert "--kind must be one of dit, sit, got 'dlt'" in refused("--kind=dlt")
    assert "--size is only for a tokenizer, but" in refused("--size=8")
    assert "the factor on the latents must be above 0" in refused(
        f"--tokenizer={tokenizer}", "--scaling-factor=0"
    )
    with pytest.raises(FileNotFoundError, match="cannot find 'nowhere'"):
        generator.write(pretrained.convert(port[0]), tmp_path / "run", tokenizer="nowhere")
    task = KLTask(
        modality=Image(size=(8, 8), channels=3),
        model=ConvAutoencoder(channels=(4, 8), blocks=1),
        regularizer=KL(dim=3),
    )
    small = pretrained.Imported(task, *jax.jit(task.blank)())
    other = pretrained.write(small, tmp_path / "small")
    message = refused(f"--tokenizer={other}")
    assert "the DiT takes latents of 8x8 with 4 channels, but " in message
    assert "has 4x4 with 3 channels; use the tokenizer that the DiT was trained with" in message
    assert not (tmp_path / "run").exists()


def test_a_workdir_goes_to_diffusers_and_back(port, tokenizer, tmp_path, capsys):
    found, out = pretrained.convert(port[0]), tmp_path / "out"
    run = generator.write(found, tmp_path / "run", tokenizer=str(tokenizer), scaling=0.5)
    assert main(["export", str(run), f"--out={out}"]) == 0
    shown = capsys.readouterr().out
    assert shown.endswith("with\n  mean 0 0 0 0\n  std 2 2 2 2\n")
    again = pretrained.convert(out)
    assert (again.model, again.inputs, again.process) == (found.model, found.inputs, found.process)
    jax.tree.map(np.testing.assert_array_equal, again.params, found.params)
    assert main(["export", str(tokenizer), f"--out={out}"]) == 2
    assert "has a KLTask; only a run of a DiT can be exported" in capsys.readouterr().err
    assert main(["export", str(run), f"--out={out}"]) == 2
    assert "already has a model; choose another --out" in capsys.readouterr().err
