"""What is refused, published sizes, and workdirs of imported tokenizers. Needs no torch."""

import json
import math
import shutil
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.flax import load_file, save_file

import vqdit
from tests import tiny
from vqdit import pretrained
from vqdit.cli.main import main
from vqdit.inference.loading import resolver
from vqdit.modalities import Image
from vqdit.modalities.pictures import SUFFIXES
from vqdit.models import VQGAN
from vqdit.pretrained import diffusers, llamagen, taming
from vqdit.pretrained.archive import Stored
from vqdit.quantizers import VQ
from vqdit.regularizers import KL
from vqdit.runs.array_trees import flatten
from vqdit.tasks import KLTask, TokenizerTask

VQ_MODEL = {
    "_class_name": "VQModel",
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "block_out_channels": [4, 8],
    "layers_per_block": 1,
    "act_fn": "silu",
    "latent_channels": 5,
    "norm_num_groups": 2,
    "num_vq_embeddings": 16,
    "vq_embed_dim": 4,
}


def named(names, task, codebook="", **extra):
    """Random tensors of a task's parameters, by the names of a source and in its layout."""
    params = jax.eval_shape(task.blank)[0]
    sides = {side: params[side] for side in ("encoder", "decoder")}
    generator, tensors = np.random.default_rng(0), {}
    for path, leaf in flatten(sides).items():
        shape = (*leaf.shape[-2:][::-1], *leaf.shape[:-2])
        value = generator.normal(size=shape) * 0.3
        tensors[names.of(path, len(task.model.channels))] = jnp.asarray(value, jnp.float32)
    if codebook:
        shape = (task.quantizer.codebook_size, task.quantizer.dim)
        tensors[codebook] = jnp.asarray(generator.normal(size=shape), jnp.float32)
    return tensors | extra


@pytest.fixture(scope="module")
def task():
    return TokenizerTask(
        modality=Image(size=(8, 8), channels=3),
        model=VQGAN(channels=(4, 8), blocks=1, attention=(), z_channels=5, groups=2),
        quantizer=VQ(codebook_size=16, dim=4),
    )


@pytest.fixture(scope="module")
def folder(task, tmp_path_factory):
    """A VQModel in a folder of diffusers."""
    folder = tmp_path_factory.mktemp("vqmodel")
    (folder / "config.json").write_text(json.dumps(VQ_MODEL))
    tensors = named(diffusers.NAMES, task, diffusers.CODEBOOK)
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"_class_name": "UNet2DModel"},
            "a UNet2DModel of diffusers cannot be imported; use a VQM",
        ),
        ({"norm_type": "spatial"}, r"norm_type='spatial' \(as in MoVQ\) cannot"),
        ({"norm_type": ["a" * 999] * 9}, r"norm_type=\['aaa.*\.\.\..*\] \(as in MoVQ\) cannot"),
        ({"act_fn": "gelu"}, "act_fn='gelu' cannot be imported"),
        ({"down_block_types": ["DownBlock2D"] * 2}, "a level of kind DownBlock2D cannot"),
        (
            {"down_block_types": ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]},
            "do not mirror one another",
        ),
        ({"block_out_channels": [4, 8, 8]}, "do not mirror one another"),
        ({"use_quant_conv": False}, "use_quant_conv and use_post_quant_conv differ"),
        (
            {"layers_per_block": 10**9},
            "layers_per_block in config.json must be an integer from",
        ),
        ({"latent_channels": 5.5}, "latent_channels in config.json must be an integer .*, got 5.5"),
        ({"block_out_channels": [4] * 99}, "must be a list of 1 to 10 values of type int"),
        ({"block_out_channels": [4, "8"]}, "must be a list of 1 to 10 values of type int"),
        ({"mid_block_add_attention": "no"}, "must be true or false, got 'no'"),
        ({"act_fn": [[]]}, r"act_fn=\[\[\]\] cannot be imported; only 'silu' or 'swish' can"),
        ({"_class_name": "\x1b[31m"}, r"a '\\x1b\[31m' of diffusers cannot be imported"),
        ({"down_block_types": ["\n", "\n"]}, r"a level of kind '\\n' cannot be imported"),
    ],
)
def test_what_no_vqgan_has_is_refused(changes, message, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(VQ_MODEL | changes))
    with pytest.raises(ValueError, match=message):
        pretrained.load(tmp_path)


@pytest.mark.parametrize(
    "name", ["block_out_channels", "latent_channels", "down_block_types", "up_block_types"]
)
def test_a_field_that_a_config_lacks_is_named(name, tmp_path):
    config = {field: value for field, value in VQ_MODEL.items() if field != name}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=rf"config.json lacks {name}, which must be .*; add it"):
        pretrained.load(tmp_path)


@pytest.mark.parametrize("text", ["[1]", '"a"', '{"_class_name": 1}', "[" * 100_000, "\ud83d", ""])
def test_a_config_that_is_no_config_is_refused(text, tmp_path):
    (tmp_path / "config.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(ValueError, match="config.json is damaged: "):
        pretrained.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="it has no config.json with a _class_name"):
        pretrained.load(tmp_path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (
            {"weight_map": {"a": "../a.safetensors"}},
            "lists the file '../a.safetensors', which is",
        ),
        ({"weight_map": {"a": "/etc/passwd"}}, "lists the file '/etc/passwd', which is not in"),
        ({"weight_map": {"a": "..\\a"}}, "which is not in the same folder"),
        ({"weight_map": {"a": 1}}, "weight_map.a must be a text, got 1"),
        ({"weight_map": {"a": [1]}}, r"weight_map.a must be a text, got \[1\]"),
        ({"weight_map": [1]}, r"weight_map must be an object, got \[1\]"),
        ([], r"it must be an object, got \[\]"),
    ],
)
def test_an_index_names_files_beside_it(index, message, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(VQ_MODEL))
    file = tmp_path / "diffusion_pytorch_model.safetensors.index.json"
    file.write_text(json.dumps(index))
    with pytest.raises(ValueError, match=f"index.json is damaged: .*{message}"):
        pretrained.load(tmp_path)


CODES = {taming.CODEBOOK: Stored((16, 4), lambda: np.zeros((16, 4)))}


@pytest.fixture(scope="module")
def wide():
    """A tokenizer whose widths divide by the 32 groups of the published ones."""
    model = VQGAN(channels=(32, 32), blocks=1, attention=(), z_channels=5)
    quantizer = VQ(codebook_size=16, dim=4)
    return TokenizerTask(modality=Image(size=(8, 8)), model=model, quantizer=quantizer)


@pytest.mark.parametrize("number", [999999999, 12345678901234567890])
def test_numbers_in_names_are_no_counts(number, wide):
    """Neither levels nor blocks are counted up to a number that a name claims."""
    tensors = abstract(taming.NAMES, wide, "") | CODES
    claimed = {f"encoder.down.{number}.block.{number}.conv1.weight": Stored((1,), np.zeros)}
    with pytest.raises(
        pretrained.PretrainedMismatch, match=rf"unexpected \(1\):\s+encoder.down.{number}"
    ):
        taming.convert(tensors | claimed, 8)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"heads": -1}, "heads must be at least 0, got -1"),
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"size": 10**9}, "size must be at most 16384, got 1000000000"),
    ],
)
def test_arguments_are_checked(given, message, folder):
    with pytest.raises(ValueError, match=message):
        pretrained.load(folder, **given)


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_half_an_autoencoder_is_refused_as_such(side, wide, folder, tmp_path):
    def rest(tensors):
        return {name: value for name, value in tensors.items() if not name.startswith(side)}

    with pytest.raises(ValueError, match=f"the checkpoint has no {side}, but a tokenizer needs e"):
        llamagen.convert(rest(abstract(llamagen.NAMES, wide, "")) | CODES, 8)
    (tmp_path / "config.json").write_text(json.dumps(VQ_MODEL))
    save_file(rest(load_file(folder / diffusers.WEIGHTS[0])), tmp_path / diffusers.WEIGHTS[0])
    with pytest.raises(ValueError, match=f"the checkpoint has no {side}, but a tokenizer needs e"):
        pretrained.load(tmp_path)


def test_tensors_of_other_ranks_are_named(wide):
    tensors = abstract(taming.NAMES, wide, "") | CODES
    for name in ("decoder.conv_in.weight", "encoder.conv_in.weight", "encoder.conv_out.bias"):
        changed = tensors | {name: Stored((), np.zeros)}
        with pytest.raises(pretrained.PretrainedMismatch, match=f"{name}: expected . axes or more"):
            taming.convert(changed, 8)


def test_weights_are_found_or_their_lack_is_told(folder, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(VQ_MODEL))
    with pytest.raises(FileNotFoundError, match="no weights in .* no diffusion_pytorch_model.safe"):
        pretrained.load(tmp_path)
    weights = (folder / "diffusion_pytorch_model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights)
    assert pretrained.convert(tmp_path).task.quantizer.codebook_size == 16
    (tmp_path / "model.fp16.safetensors").write_bytes(weights)
    with pytest.raises(ValueError, match="several weights, model.fp16.safetensors, model.safe"):
        pretrained.load(tmp_path)


def test_a_model_of_another_width_is_told_by_its_tensors(folder, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(VQ_MODEL | {"latent_channels": 6}))
    weights = (folder / "diffusion_pytorch_model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(pretrained.PretrainedMismatch) as error:
        pretrained.load(tmp_path)
    kind, _, listed = str(error.value).partition("of another shape (6): ")
    assert kind == "the checkpoint does not match the model: "
    assert "decoder.conv_in.weight: expected [8, 6, 3, 3], found [8, 5, 3, 3], " in listed


def test_what_is_no_tokenizer_is_refused(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file or folder .*nothing"):
        pretrained.load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="is not a model of diffusers or transformers"):
        pretrained.load(tmp_path)
    pipeline = tmp_path / "pipeline"
    shutil.copytree(folder, pipeline / "vae")
    with pytest.raises(ValueError, match="choose one of its folders: vae"):
        pretrained.load(pipeline)
    save_file({"resnet.weight": jnp.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="has an unknown format, .* resnet.weight"):
        pretrained.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("channels", [2, 4])
def test_images_must_be_grey_or_in_colour(task, tmp_path, channels):
    (tmp_path / "config.json").write_text(json.dumps(VQ_MODEL))
    tensors = named(diffusers.NAMES, task, diffusers.CODEBOOK)
    tensors["encoder.conv_in.weight"] = jnp.zeros((4, channels, 3, 3))
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=f"is for pictures with {channels} channels, but"):
        pretrained.load(tmp_path)


@pytest.mark.parametrize("latents", [1, 4, 16])
def test_an_autoencoder_of_diffusers_has_latents_of_any_number_of_channels(tmp_path, latents):
    model = VQGAN(
        channels=(4, 8), blocks=1, attention=(), z_channels=latents, groups=2, double_z=True
    )
    task = KLTask(modality=Image(size=(8, 8), channels=3), model=model, regularizer=KL(dim=latents))
    config = {"_class_name": "AutoencoderKL", "latent_channels": latents}
    (tmp_path / "config.json").write_text(json.dumps(VQ_MODEL | config))
    save_file(named(diffusers.NAMES, task), tmp_path / "model.safetensors")
    imported = pretrained.convert(tmp_path, size=8)
    assert (imported.task.grid, imported.task.dim) == ((4, 4), latents)
    assert imported.task.model == model


def test_programs_that_use_64_bits_import_the_same(folder):
    with jax.enable_x64(True):
        imported = pretrained.convert(folder, size=8)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(imported[1:])} == {"float32"}


def abstract(names, task, codebook):
    """Tensors of which nobody reads more than the shapes."""
    shapes = jax.eval_shape(lambda: named_shapes(names, task, codebook))
    return {name: Stored(leaf.shape, np.zeros) for name, leaf in shapes.items()}


def named_shapes(names, task, codebook):
    params = jax.eval_shape(task.blank)[0]
    sides = {side: params[side] for side in ("encoder", "decoder")}
    shapes = {
        names.of(path, len(task.model.channels)): (*leaf.shape[-2:][::-1], *leaf.shape[:-2])
        for path, leaf in flatten(sides).items()
    }
    if codebook:
        shapes[codebook] = (task.quantizer.codebook_size, task.quantizer.dim)
    return {name: jnp.zeros(shape) for name, shape in shapes.items()}


def parameters(task):
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(task.blank)[0]))


def test_the_autoencoder_of_stable_diffusion_has_its_published_size():
    """83,653,863 parameters, and the names of its published checkpoint. Nothing is computed."""
    config = {
        "_class_name": "AutoencoderKL",
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "block_out_channels": [128, 256, 512, 512],
        "layers_per_block": 2,
        "latent_channels": 4,
        "norm_num_groups": 32,
    }
    model = diffusers._model(config)
    task = KLTask(modality=Image(size=(64, 64)), model=model, regularizer=KL(dim=4))
    assert parameters(task) == 83_653_863
    names = set(abstract(diffusers.NAMES, task, ""))
    assert len(names) == 248
    assert {
        "encoder.down_blocks.2.resnets.0.conv_shortcut.weight",
        "encoder.down_blocks.0.downsamplers.0.conv.bias",
        "encoder.mid_block.attentions.0.to_out.0.weight",
        "decoder.up_blocks.3.resnets.2.conv2.weight",
        "decoder.up_blocks.0.upsamplers.0.conv.weight",
        "decoder.conv_norm_out.bias",
        "post_quant_conv.weight",
    } <= names


def test_the_f16_vqgans_of_imagenet_are_recognised_by_their_shapes():
    """Published: ch 128, mult (1, 1, 2, 2, 4), two blocks, attention at 16x16, latents of 256."""
    quantizer = VQ(codebook_size=16_384, dim=256)
    task = TokenizerTask(modality=Image(size=(64, 64)), model=VQGAN(), quantizer=quantizer)
    tensors = abstract(taming.NAMES, task, taming.CODEBOOK)
    assert taming.is_taming(tensors) and not llamagen.is_llamagen(tensors)
    assert taming.NAMES.infer(tensors) == VQGAN(attention=(4,))
    assert {"encoder.down.4.attn.1.q.weight", "decoder.up.4.attn.2.proj_out.bias"} <= set(tensors)
    assert "decoder.up.1.upsample.conv.weight" in tensors
    # The network, as counted layer by layer in tests/models, and the codebook.
    count = sum(math.prod(tensor.shape) for tensor in tensors.values())
    assert count == 71_879_555 + 16_384 * 256


@pytest.mark.parametrize("channels", [(128, 256, 256, 512), (128, 128, 256, 256, 512)])
def test_llamagens_tokenizers_are_recognised_by_their_shapes(channels):
    last = len(channels) - 1
    model = VQGAN(channels=channels, attention=(last,))
    task = TokenizerTask(
        modality=Image(size=(64, 64)),
        model=model,
        quantizer=VQ(codebook_size=16_384, dim=8, distance="cosine"),
    )
    tensors = abstract(llamagen.NAMES, task, llamagen.CODEBOOK)
    assert llamagen.is_llamagen(tensors)
    assert llamagen.NAMES.infer(tensors) == model
    names = {f"encoder.conv_blocks.{last}.attn.1.q.bias", "decoder.conv_blocks.0.attn.2.k.weight"}
    assert names | {"decoder.mid.1.norm.weight"} <= set(tensors)
    assert f"decoder.conv_blocks.{last}.upsample.conv.weight" not in tensors


@pytest.fixture(scope="module")
def imported(folder, tmp_path_factory):
    """The workdir that `vqdit import` makes, and pictures to look at."""
    place = tmp_path_factory.mktemp("imported")
    pictures = place / "pictures"
    pictures.mkdir()
    from vqdit.modalities.drawing import save_png

    generator = np.random.default_rng(0)
    for number in range(12):
        save_png(
            pictures / f"{number}{SUFFIXES[0]}", generator.integers(0, 256, (8, 8, 3), np.uint8)
        )
    out = place / "run"
    argv = ["import", str(folder), f"--out={out}", "--size=8", f"--data={pictures}"]
    assert main(argv) == 0
    return out


def test_a_workdir_is_loaded_like_a_trained_one(folder, imported):
    direct, loaded = pretrained.load(folder, size=8), vqdit.load(imported)
    assert loaded.task == direct.task
    x = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    codes = loaded.encode(x)
    assert codes.shape == (3, 4, 4, 1)
    np.testing.assert_array_equal(codes, direct.encode(x))
    decoded = direct.decode(codes, standardized=False)
    np.testing.assert_array_equal(loaded.decode(codes), decoded)


def test_a_workdir_is_reconstructed(imported, tmp_path):
    argv = ["reconstruct", f"--workdir={imported}", f"--out={tmp_path / 'out'}"]
    assert main(argv) == 0
    numbers = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert numbers["step"] == 0 and np.isfinite(numbers["psnr"])


def test_a_dit_takes_the_workdir_as_its_tokenizer(imported):
    found = resolver({})(str(imported))
    experiment = tiny.generator()
    target = experiment.task.targets["image"]
    assert found.task.quantizer.codebook_size == 16
    task = experiment.task.resolve_references(lambda name: found.task)
    assert task.inputs["image"].grid == (4, 4) and target.tokenizer
    assert task.inputs["image"].codes == 16


def test_a_run_is_never_written_over(folder, imported, capsys):
    before = (imported / "config.json").read_bytes()
    assert main(["import", str(folder), f"--out={imported}", "--size=8"]) == 2
    assert "already has a run; choose another --out" in capsys.readouterr().err
    assert (imported / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--out=x"], "SOURCE is missing"),
        (["vae"], "--out"),
        (["nothing", "--out=x"], "no file or folder nothing"),
        (["nothing", "--out=x", "--heads=0"], "--heads must be at least 1, got"),
        (
            [".", "--out=x", "--heads=3"],
            "--heads is only for checkpoints, and . is a folder, which has",
        ),
        (
            [".", "--out=x", "--kind=sit"],
            "--kind is only for checkpoints, and . is a folder, which has",
        ),
    ],
)
def test_what_is_wrong_with_the_command_is_told(argv, message, capsys):
    assert main(["import", *argv]) == 2
    assert message in capsys.readouterr().err


def test_the_package_is_found_without_an_import_of_its_own():
    assert vqdit.pretrained.load is pretrained.load


def test_a_zip_that_is_cut_off_is_damage(tmp_path):
    file = tmp_path / "a.ckpt"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q")
    with pytest.raises(ValueError, match="a.ckpt is damaged"):
        pretrained.load(file)
