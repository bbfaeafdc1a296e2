"""`python -m vqdit` runs the command `vqdit`."""

from vqdit.cli.main import program

if __name__ == "__main__":
    program()
