"""An imported codec as users go on with it: fine-tuned, and as the tokenizer of a DiT."""

import json
import os
import warnings

import numpy as np
import pytest
import soundfile

import vqdit
from tests.cli import trained
from tests.pretrained.test_codecs import awake
from vqdit.cli.main import main

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.peers, pytest.mark.slow]
os.environ["HF_HUB_OFFLINE"] = "1"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers")
    from transformers import EncodecConfig, EncodecModel
transformers.utils.logging.disable_progress_bar()

RATE, HOP, LONGEST = 3000, 30, 0.2
FIELDS = {"num_filters": 4, "hidden_size": 6, "upsampling_ratios": [5, 2, 3], "codebook_size": 16}
FIELDS |= {"sampling_rate": RATE, "target_bandwidths": [0.8], "num_lstm_layers": 1}
"""100 tokens per second of two codes of 4 bits."""
CONFIG = """
import dataclasses
from pathlib import Path

from vqdit.config import Experiment
from vqdit.models import DiT
from vqdit.processes import CoarseToFine
from vqdit.runs import workdir
from vqdit.samplers import Unmasking
from vqdit.tasks import DiffusionTask, Target
from vqdit.typing import Named

RUN = {run!r}
SHORT = dict(steps=2, log_every=1, preview_every=0)


def config():
    codec = workdir.read_experiment(Path(RUN))
    data = dataclasses.replace(codec.data, batch_size=4)
    target = Target(tokenizer=RUN, process=CoarseToFine(), sampler=Unmasking(steps=4))
    task = DiffusionTask(targets=Named(audio=target), model=DiT(depth=1, dim=16, heads=2, patch=1))
    return {{
        "codec": dataclasses.replace(codec, data=data, **SHORT),
        "dit": Experiment(task=task, data=data, **SHORT),
    }}
"""


def codec():
    """A random codec whose codebooks are among the vectors that it finds, so that codes vary."""
    model = awake(EncodecModel(EncodecConfig(**FIELDS)))
    noise = torch.rand(4, 1, 600, generator=torch.Generator().manual_seed(0)) - 0.5
    with torch.no_grad():
        rest = model.encoder(noise).transpose(1, 2).reshape(-1, FIELDS["hidden_size"])
        for layer in model.quantizer.layers:
            book = layer.codebook.embed
            book.copy_(rest[torch.linspace(0, len(rest) - 1, len(book)).long()])
            rest = rest - book[torch.cdist(rest, book).argmin(1)]
    return model


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with the imported codec, `codec`, and the trained runs, `runs`."""
    folder = tmp_path_factory.mktemp("codec_runs")
    codec().save_pretrained(folder / "public")
    sounds, draw = folder / "sounds", np.random.default_rng(0)
    sounds.mkdir()
    for number in range(24):
        sound = draw.uniform(-0.5, 0.5, draw.integers(300, int(LONGEST * RATE)))
        soundfile.write(sounds / f"{number}.wav", sound, RATE)
    run, file = folder / "codec", folder / "further.py"
    argv = [str(folder / "public"), f"--out={run}", f"--data={sounds}", f"--seconds={LONGEST}"]
    assert main(["import", *argv]) == 0
    file.write_text(CONFIG.format(run=str(run)))
    argv = [f"--config={file}", f"--workdir={folder / 'runs'}", f"--codec.init-from={run}"]
    with trained.one_device():
        assert main(["train", *argv]) == 0
    return folder


def test_a_public_codec_is_fine_tuned(runs):
    """Two small steps move the network and leave it close to where it began, not at a new one."""
    x = np.random.default_rng(1).uniform(-0.3, 0.3, (2, 20 * HOP)).astype(np.float32)
    before, after = vqdit.load(runs / "codec"), vqdit.load(runs / "runs" / "codec")
    expected, found = (np.asarray(one.encode(x)) for one in (before, after))
    assert expected.shape == found.shape == (2, 20, 2)
    assert len(np.unique(expected)) > 4
    assert np.mean(found == expected) > 0.7
    one, other = (np.asarray(run.decode(expected), np.float32) for run in (before, after))
    assert 0 < np.sqrt(np.mean((one - other) ** 2)) < 0.2 * np.std(one)
    lines = map(json.loads, (runs / "runs" / "codec" / "metrics.jsonl").read_text().splitlines())
    assert all(np.isfinite(line["loss"]) for line in lines if "loss" in line)


def test_a_dit_generates_over_a_public_codec(runs, tmp_path):
    argv = [f"--workdir={runs / 'runs' / 'dit'}", f"--out={tmp_path / 'out'}", "--num=3"]
    assert main(["sample", *argv]) == 0
    files = sorted((tmp_path / "out").rglob("*.wav"))
    assert len(files) == 3
    for file in files:
        sound, rate = soundfile.read(file)
        assert rate == RATE and sound.ndim == 1
        assert 0 < len(sound) <= LONGEST * RATE and np.isfinite(sound).all()
