"""`python -m vqdit` is the command `vqdit`."""

import sys

from vqdit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
