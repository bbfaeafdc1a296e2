"""Trains the experiments of a config: `python train.py --config=configs/quickstart.py`."""

import sys

from vqdit.cli.main import run
from vqdit.cli.train import main

if __name__ == "__main__":
    sys.exit(run(main))
