"""The model of spoken_fashion, small enough for two CPU cores.

vqdit prepare spoken_fashion
python train.py --config=configs/joint/spoken_fashion_cpu.py
"""

import dataclasses
from typing import cast

from vqdit import config as configs
from vqdit.config import Experiment
from vqdit.data import Data, SpokenFashion
from vqdit.models import ConvAutoencoder, DiT
from vqdit.optim import AdamW
from vqdit.quantizers import VQ
from vqdit.tasks import DiffusionTask, TokenizerTask


def config() -> dict[str, Experiment]:
    large = cast(dict[str, Experiment], configs.load("joint/spoken_fashion")[1])
    return {
        "image": _tokenizer(
            large["image"],
            ConvAutoencoder(channels=(64,), patch=4, blocks=1),
            VQ(codebook_size=256, dim=16, start=300),
            batch_size=64,
            steps=1200,
        ),
        "audio": _tokenizer(
            large["audio"],
            ConvAutoencoder(channels=(192,), patch=128, blocks=2),
            VQ(codebook_size=512, dim=32, start=200),
            batch_size=32,
            steps=2000,
        ),
        "joint": _small(large["joint"]),
    }


def _tokenizer(
    experiment: Experiment, model: ConvAutoencoder, quantizer: VQ, batch_size: int, steps: int
) -> Experiment:
    task = cast(TokenizerTask, experiment.task)
    return dataclasses.replace(
        experiment,
        task=dataclasses.replace(task, model=model, quantizer=quantizer),
        data=Data(source=SpokenFashion(), batch_size=batch_size),
        optimizer=AdamW(learning_rate=3e-3, warmup=100),
        steps=steps,
    )


def _small(experiment: Experiment) -> Experiment:
    task = cast(DiffusionTask, experiment.task)
    return dataclasses.replace(
        experiment,
        task=dataclasses.replace(task, model=DiT(depth=4, dim=128, heads=4, patch=1)),
        data=Data(source=SpokenFashion(), batch_size=32),
        optimizer=AdamW(learning_rate=2e-3, warmup=100),
        ema=0.998,
        steps=3000,
        evaluate_every=1000,
        preview_every=1000,
    )
