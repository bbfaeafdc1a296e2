"""Clips are written as files that play, with their sounds, and as one picture and one GIF."""

import re
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image as Pillow

from tests import tiny
from tests.data.garments import garments, put
from vqdit.cli import given
from vqdit.cli.main import main
from vqdit.cli.report.samples import write_samples
from vqdit.data import Data, MovingFashion
from vqdit.modalities import Audio, Label, Text, Video
from vqdit.modalities.drawing import save_png
from vqdit.models import ConvAutoencoder, DiT
from vqdit.quantizers import VQ
from vqdit.samplers import Unmasking
from vqdit.tasks import CodeTarget, Condition, DiffusionTask, Target, TokenizerTask
from vqdit.typing import Named

MODALITIES = {
    "video": Video(frames=8, size=(16, 16)),
    "audio": Audio(samples=8000, rate=8000),
    "text": Text(length=8),
    "label": Label(classes=3),
}


def model(*names):
    """Just what is asked of a generator of these modalities."""
    modalities = {name: MODALITIES[name] for name in names}
    task = SimpleNamespace(conditions={"label": None}, targets=modalities, modalities=modalities)
    return SimpleNamespace(modality=modalities.__getitem__, task=task)


def samples(count):
    rng = np.random.default_rng(0)
    sound = (9000 * np.sin(0.3 * np.arange(8000))).astype(np.int16)
    return {
        "video": rng.integers(0, 256, (count, 8, 16, 16, 3), dtype=np.uint8),
        "audio": np.stack([sound] * count),
        "text": np.asarray(["seven"] * count),
        "label": np.zeros(count, np.int32),
    }


def written(tmp_path, *names):
    values = {name: samples(5)[name] for name in names}
    record = {"num": 5, "workdir": "run"}
    write_samples(model(*names), values, [], record, tmp_path, None)
    return {file.name for file in tmp_path.iterdir()}


def streams(file):
    with av.open(str(file)) as container:
        return [stream.type for stream in container.streams]


def test_clips_have_their_sound_and_one_gif(tmp_path):
    files = written(tmp_path, *MODALITIES)
    assert {f"video_{number:04}.mp4" for number in range(5)} <= files
    assert streams(tmp_path / "video_0003.mp4") == ["video", "audio"]
    with Pillow.open(tmp_path / "video_grid.gif") as opened:
        assert opened.n_frames == 8 and opened.info["duration"] in (120, 130)
    page = (tmp_path / "index.html").read_text()
    assert len(re.findall(r"<video [^>]*src=.data:video/mp4;base64,", page)) == 5
    with Pillow.open(tmp_path / "grid.png") as opened:
        assert min(opened.size) > 100  # contact sheets above spectrograms and texts


def test_clips_alone_are_silent_and_replace_earlier_ones(tmp_path):
    written(tmp_path, *MODALITIES)
    files = written(tmp_path, "text", "label")
    assert not any(name.startswith(("video", "audio")) for name in files)
    written(tmp_path, "video")
    assert streams(tmp_path / "video_0000.mp4") == ["video"]


def test_a_clip_is_edited_within_a_picture_or_a_clip(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = samples(1)["video"]
    MODALITIES["video"].write(values, Path(), "clip")
    area = np.zeros((16, 16, 1), np.uint8)
    area[:, 8:] = 255
    save_png(Path("area.png"), area)
    moving = np.repeat(area[None], 8, axis=0)
    moving[:4] = 0
    Video(frames=8, size=(16, 16), channels=1).write(moving[None], Path(), "area")
    options = {"init": "clip_0000.mp4", "mask": "area.png"}
    (edit,) = given.read_edits(model("video"), options, False, {}).values()
    assert np.abs(edit.value.astype(int) - values).mean() < 5
    np.testing.assert_array_equal(edit.mask, np.repeat(area[None, None, ..., 0] > 0, 8, axis=1))
    options["mask"] = "area_0000.mp4"
    (edit,) = given.read_edits(model("video"), options, False, {}).values()
    np.testing.assert_array_equal(edit.mask, moving[None, ..., 0] > 0)


def test_a_clip_is_given_by_its_file(tmp_path):
    values = samples(2)["video"]
    MODALITIES["video"].write(values, tmp_path, "clip")
    found = MODALITIES["video"].read(str(tmp_path))
    assert np.abs(np.stack(found).astype(int) - values).mean() < 5
    with pytest.raises(FileNotFoundError, match="no video "):
        MODALITIES["video"].read(str(tmp_path / "none.mp4"))


@pytest.mark.slow
def test_a_model_of_clips_is_trained_sampled_and_reconstructed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VQDIT_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    raw = put(Path("raw"), garments(80, 0), garments(30, 1))
    video = Video(frames=4, size=(16, 16), channels=1)
    source = MovingFashion(path=raw.path, video=video, columns=("video", "text", "label"))
    data = Data(source=source, batch_size=8)
    task = TokenizerTask(
        name="video",
        modality=video,
        model=ConvAutoencoder(channels=(4, 8), patch=2, blocks=1),
        quantizer=VQ(codebook_size=16, dim=4, start=3),
    )
    tiny.run(tiny.tokenizer(task=task, data=data, preview_every=4), Path("runs/clips"))
    generator = DiffusionTask(
        targets=Named(
            video=Target(tokenizer="clips", sampler=Unmasking(steps=2)),
            text=CodeTarget(modality=Text(length=40), sampler=Unmasking(steps=2)),
        ),
        conditions=Named(label=Condition(modality=Label(classes=10))),
        model=DiT(depth=1, dim=24, heads=2, patch=1),
    )
    tiny.run(tiny.generator(task=generator, data=data), Path("runs/dit"), clips=Path("runs/clips"))
    assert main(["reconstruct", "--workdir=runs/clips", "--out=shown"]) == 0
    assert "flicker" in capsys.readouterr().out
    assert streams("shown/reconstruction_0015.mp4") == ["video"]
    assert main(["sample", "--workdir=runs/dit", "--num=3", "--out=first"]) == 0
    clip = "first/video_0000.mp4"
    assert main(["sample", "--workdir=runs/dit", f"--given=video={clip}", "--out=second"]) == 0
    assert main(["reconstruct", "--workdir=runs/clips", f"--input={clip}", "--out=third"]) == 0
    assert Path("third/video_0000_frames.png").is_file()
    edit = [f"--init={clip}", "--strength=0.5", "--num=2", "--out=fourth"]
    assert main(["sample", "--workdir=runs/dit", *edit]) == 0
