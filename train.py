"""Trains the experiments of a config: `python train.py --config=configs/quickstart.py`."""

from vqdit.cli.main import end, run
from vqdit.cli.train import main

if __name__ == "__main__":
    end(run(main))
