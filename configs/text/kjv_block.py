"""The King James Bible block by block on two CPU cores: kjv_mdlm_cpu with blocks of 16 units.

    apt-get install bible-kjv
    python train.py --config=configs/text/kjv_block.py
    python sample.py --workdir=runs/kjv_block --given "text^=And the LORD said unto"

Each block is generated given all blocks before it, whose keys and values are kept, in 16 steps. A
training step sees every window twice, noised and clean, so it takes twice as long.
"""

import dataclasses
from typing import cast

from vqdit import config as configs
from vqdit.config import Experiment
from vqdit.samplers import Unmasking
from vqdit.tasks import DiffusionTask

BLOCK = 16
"""Units that are generated together."""


def config() -> Experiment:
    whole = cast(Experiment, configs.load("text/kjv_mdlm_cpu")[1])
    task = cast(DiffusionTask, whole.task)
    blocks = {
        name: dataclasses.replace(
            target, block=BLOCK, sampler=Unmasking(steps=BLOCK, order="random")
        )
        for name, target in task.targets.items()
    }
    targets = task.targets | blocks
    return dataclasses.replace(whole, task=dataclasses.replace(task, targets=targets), steps=2200)
