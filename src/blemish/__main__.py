"""`python -m blemish` is the command `blemish`."""

from blemish.cli import run

if __name__ == "__main__":
    run()
