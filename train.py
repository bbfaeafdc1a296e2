"""Trains the experiments of a config: `python train.py --config=configs/quickstart.py`."""

import sys

from vqdit.cli.main import end, main

if __name__ == "__main__":
    end(main(["train", *sys.argv[1:]]))
