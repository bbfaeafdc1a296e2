"""Generates from a trained model: `python sample.py --workdir=runs/quickstart`."""

import sys

from vqdit.cli.main import end, main

if __name__ == "__main__":
    end(main(["sample", *sys.argv[1:]]))
