"""`vqdit encode`: training from what it writes has the losses of training from the images."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from vqdit import pretrained
from vqdit.cli.main import main
from vqdit.data import Data, Digits, Encoded, HorizontalFlip
from vqdit.inference.loading import resolver
from vqdit.modalities import Image
from vqdit.models import ConvAutoencoder
from vqdit.processes import Flow, Masked
from vqdit.regularizers import KL
from vqdit.samplers import Euler, Unmasking
from vqdit.tasks import DiffusionTask, KLTask, Target
from vqdit.typing import Named

FLIPS = (HorizontalFlip(),)


def kl_task():
    return KLTask(
        modality=Image(size=(8, 8), channels=1),
        model=ConvAutoencoder(channels=(4, 8), blocks=1),
        regularizer=KL(dim=3),
    )


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """Workdirs of two tokenizers that nobody trained, and the digits as encoded by them."""
    folder = tmp_path_factory.mktemp("encoded")
    batch = Data(source=Digits(), batch_size=32).first_batch(0)
    for name, task in {"codes": tiny.tokenizer().task, "latents": kl_task()}.items():
        params, stats = jax.jit(task.init)(jax.random.key(0), {}, batch)
        pretrained.write(pretrained.Imported(task, params, stats), folder / name)
        out = folder / f"digits_{name}"
        assert main(["encode", f"--workdir={folder / name}", f"--out={out}", "--data=digits"]) == 0
    return folder


def diffusion(folder, name, posterior="mean"):
    process, sampler = (Masked(), Unmasking(steps=2))
    if name == "latents":
        process, sampler = Flow(), Euler(steps=2)
    target = Target(
        tokenizer=str(folder / name), process=process, sampler=sampler, posterior=posterior
    )
    return DiffusionTask(targets=Named(image=target), model=tiny.generator().task.model)


def data(folder, name=""):
    source = Encoded(path=str(folder / f"digits_{name}")) if name else Digits()
    return Data(source=source, augment=FLIPS, batch_size=32)


@pytest.mark.parametrize(
    ("name", "posterior"), [("codes", "mean"), ("latents", "mean"), ("latents", "sample")]
)
def test_losses_are_those_of_the_images(encoded, name, posterior):
    found = {}
    for kind in ("", name):
        batches = data(encoded, kind)
        task, frozen = diffusion(encoded, name, posterior).load(
            resolver({}), lambda batches=batches: batches.split_batches("train")
        )
        task.check(batches.features())
        params, _ = task.init(jax.random.key(1), frozen, batches.first_batch(0))
        params = jax.tree.map(lambda leaf: leaf + 0.02, params)
        loss, _ = jax.jit(task.loss)(
            params, {}, frozen, batches.first_batch(5), jax.random.key(2), jnp.int32(0)
        )
        found[kind] = float(loss)
        if name == "latents" and posterior == "mean":
            noted = json.loads((encoded / "digits_latents" / "statistics.json").read_text())
            np.testing.assert_allclose(noted["mean"], frozen["image"]["mean"], atol=1e-5)
            np.testing.assert_allclose(noted["std"], frozen["image"]["std"], rtol=1e-4)
    assert found[name] == pytest.approx(found[""], rel=1e-4) and found[name] > 0.1


def test_a_dit_trains_from_them_and_from_no_others(encoded, refused, tmp_path):
    config = tmp_path / "cached.py"
    config.write_text(
        f"""
from pathlib import Path
from tests import tiny
from tests.cli.test_encode import data, diffusion


def config():
    folder = Path({str(encoded)!r})
    return tiny.generator(task=diffusion(folder, "codes"), data=data(folder, "codes"), steps=2)
"""
    )
    train = ["train", f"--config={config}", f"--workdir={tmp_path / 'run'}"]
    assert main(train) == 0
    assert (tmp_path / "run/result.json").is_file()
    task, other = tiny.tokenizer().task, tmp_path / "other"
    batch = Data(source=Digits(), batch_size=32).first_batch(0)
    pretrained.write(
        pretrained.Imported(task, *jax.jit(task.init)(jax.random.key(9), {}, batch)), other
    )
    again = ["train", f"--config={config}", f"--workdir={tmp_path / 'again'}"]
    message = refused(*again, f"--task.targets.image.tokenizer={other}")
    assert "'image' in the data was encoded by the tokenizer" in message
    assert f"but '{other}' is the tokenizer" in message


def test_tokens_of_another_tokenizer_are_refused(encoded):
    task, _ = diffusion(encoded, "codes").load(resolver({}), lambda: [])
    features = data(encoded, "codes").features()
    task.check(features)
    wrong = features["image"]._replace(encoded="0123456789abcdef")
    own = features["image"].encoded
    with pytest.raises(ValueError) as error:
        task.check(features | {"image": wrong})
    assert str(error.value) == (
        "'image' in the data was encoded by the tokenizer 0123456789abcdef into tokens (4, 4, 1), "
        f"but '{encoded / 'codes'}' is the tokenizer {own} with tokens (4, 4, 1); encode the data "
        "with it (vqdit encode), or name the tokenizer of the data"
    )
    with pytest.raises(
        ValueError, match="was encoded by the tokenizer .* into tokens .4, 4, 6., but"
    ):
        task.check(data(encoded, "latents").features())
    # Before the tokenizer is loaded, its shape is all that is known of it.
    found = dataclasses.replace(task, fingerprints=Named())
    with pytest.raises(ValueError, match=r"' is the tokenizer with tokens \(4, 4, 1\); encode the"):
        found.check(data(encoded, "latents").features())


def test_what_is_wrong_with_the_command_is_told(encoded, refused, tmp_path):
    tokenizer, out = f"--workdir={encoded / 'codes'}", f"--out={tmp_path / 'out'}"
    assert refused("encode") == (
        "--workdir and --out are missing; give --workdir=DIR --out=DIR; see --help"
    )
    assert refused("encode", tokenizer) == "--out is missing; give --out=DIR; see --help"
    assert refused("encode", out) == "--workdir is missing; give --workdir=DIR; see --help"
    assert "no run in" in refused("encode", f"--workdir={tmp_path}", out)
    message = refused("encode", tokenizer, out, "--size=8")
    assert message == "--size is an option of a data set, but no data set is named; add --data=NAME"
    message = refused("encode", tokenizer, out, "--data=digit")
    assert message.startswith("unknown data set 'digit'; did you mean digits?")
    message = refused("encode", tokenizer, f"--out={encoded / 'digits_codes'}", "--data=digits")
    assert message.endswith("already exists; choose another --out")
    assert not (tmp_path / "out").exists()
