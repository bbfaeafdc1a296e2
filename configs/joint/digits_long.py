"""The quickstart with twice the time: better tokenizers and a joint model that trained longer.

python train.py --config=configs/joint/digits_long.py
"""

import dataclasses
from typing import cast

from vqdit import config as configs
from vqdit.config import Experiment

STEPS = {"image": 600, "audio": 1000, "joint": 5500}


def config() -> dict[str, Experiment]:
    short = cast(dict[str, Experiment], configs.load("quickstart")[1])
    return {
        name: dataclasses.replace(short[name], steps=steps, checkpoint_every=1000)
        for name, steps in STEPS.items()
    }
