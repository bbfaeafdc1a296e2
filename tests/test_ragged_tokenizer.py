"""Sounds of different lengths through a tokenizer: in Python, and from the command line."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import vqdit
from tests import tiny
from tests.tones import LONGEST, SHORTEST, SIZES, SOUND, Tones, tone
from vqdit.cli.encode import _encode
from vqdit.cli.main import main
from vqdit.data import Data, Encoded
from vqdit.inference.tokenizer import Tokenizer
from vqdit.models import ConvAutoencoder
from vqdit.ragged import is_ragged, lengths
from vqdit.regularizers import KL
from vqdit.runs.restoring import Restored
from vqdit.tasks import KLTask, TokenizerTask

MODEL = ConvAutoencoder(channels=(4, 4), patch=4, blocks=1)
CODES = TokenizerTask(
    name="audio", modality=SOUND, model=MODEL, quantizer=tiny.tokenizer().task.quantizer.started()
)
LATENTS = KLTask(name="audio", modality=SOUND, model=MODEL, regularizer=KL(dim=3))
DATA = Data(source=Tones(), batch_size=16, buckets=2)


def untrained(task):
    experiment = dataclasses.replace(tiny.tokenizer(), task=task, data=DATA)
    params, stats = jax.jit(task.init)(jax.random.key(0), {}, DATA.first_batch(0))
    return Tokenizer(Restored(experiment, task, params, stats, {}, 0))


@pytest.fixture(scope="module")
def tokenizer():
    return untrained(CODES)


SOUNDS = [tone(number) for number in (32, 0, 18, 7)]


def test_a_list_of_sounds_has_the_tokens_that_each_has_alone(tokenizer):
    tokens = tokenizer.encode(SOUNDS)
    assert is_ragged(tokens) and lengths(tokens).tolist() == [12, 5, 6, 13]
    for sound, found in zip(SOUNDS[:2], tokens[:2], strict=True):
        assert found.dtype == np.int32 and found.shape[1:] == (1,)
        np.testing.assert_array_equal(found, tokenizer.encode([sound])[0])
        np.testing.assert_array_equal(found, tokenizer.encode(sound)[0])
        scaled = np.float32(sound)[:, None] / 32768
        np.testing.assert_array_equal(found, tokenizer.encode([scaled])[0])
    whole = tokenizer.decode(tokens)
    assert lengths(whole).tolist() == [96, 40, 48, LONGEST]
    exact = tokenizer.decode(tokens, length=[len(sound) for sound in SOUNDS])
    for sound, part, rest in zip(SOUNDS, exact, whole, strict=True):
        assert part.dtype == np.int16 and len(part) == len(sound)
        np.testing.assert_array_equal(part, rest[: len(sound)])


def test_what_has_not_the_form_of_the_sounds_is_refused(tokenizer):
    for sounds, message in (
        ([np.zeros(LONGEST + 1, np.int16)], f"a length from {SHORTEST} to {LONGEST}, got 101"),
        ([np.zeros(SHORTEST, np.int32)], "must be arrays of int16"),
        ([np.full((SHORTEST, 1), 3.0, np.float32)], "float32 in .-1, 1., got 3 to 3"),
        ([], "at least one"),
    ):
        with pytest.raises(ValueError, match=message):
            tokenizer.encode(sounds)
    tokens = [np.zeros((5, 1), np.int32)]
    with pytest.raises(ValueError, match=r"lengths that correspond to \[5\] tokens, got \[41\]"):
        tokenizer.decode(tokens, length=[41])
    with pytest.raises(ValueError, match="code 16 is out of range"):
        tokenizer.decode([np.full((5, 1), 16)])
    with pytest.raises(ValueError, match=r"takes integers \[b, 13, 1\]"):
        tokenizer.decode([np.zeros((14, 1), np.int32)])


@pytest.mark.parametrize("task", [CODES, LATENTS], ids=["codes", "latents"])
def test_encoded_data_keep_the_length_of_each_example(task, tmp_path):
    tokenizer = untrained(task)
    assert _encode(tokenizer, Tones(), tmp_path / "out") == SIZES
    source = Encoded(path=str(tmp_path / "out"))
    feature = source.features()["audio"]
    assert feature.ragged and feature.shape == ((13, 1) if task is CODES else (13, 6))
    rows = np.arange(8)
    column = source.split("test").take(rows)["audio"]
    sounds = Tones().split("test").take(rows)["audio"]
    tokens = tokenizer.encode(sounds)
    for found, wanted in zip(column, tokens, strict=True):
        np.testing.assert_allclose(found[:, : wanted.shape[1]], wanted, atol=1e-5)


@pytest.mark.slow
def test_training_reconstructing_and_encoding_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setenv("VQDIT_PARTS", "tests.tones")
    run, out = tmp_path / "run", tmp_path / "out"
    tiny.run(tiny.tokenizer(task=CODES, data=DATA, steps=40, checkpoint_every=0), run)
    assert sorted(run.glob("previews/*.png"))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["validation/l2"] < 0.5 * lines[0]["reconstruction"]
    assert main(["reconstruct", f"--workdir={run}", f"--out={out}"]) == 0
    with np.load(out / "reconstructions.npz") as arrays:
        found = {name: arrays[name] for name in arrays.files}
    expected = [len(tone(number)) for number in range(SIZES["test"])]
    assert found["original_length"].tolist() == found["reconstruction_length"].tolist() == expected
    assert found["codes_length"].tolist() == [-(-length // 8) for length in expected]
    tokenizer = vqdit.load(run)
    for row, length in enumerate(expected):
        alone = tokenizer.encode([found["original"][row, :length]])[0]
        np.testing.assert_array_equal(found["codes"][row, : len(alone)], alone)
    assert main(["encode", f"--workdir={run}", f"--out={tmp_path / 'encoded'}"]) == 0
    column = Encoded(path=str(tmp_path / "encoded")).split("test").take(np.arange(8))["audio"]
    for row, codes in enumerate(column):
        np.testing.assert_array_equal(codes, found["codes"][row, : len(codes)])
