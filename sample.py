"""Generates from a trained model: `python sample.py --workdir=runs/quickstart`."""

import sys

from vqdit.cli.main import run
from vqdit.cli.sample import main

if __name__ == "__main__":
    sys.exit(run(main))
