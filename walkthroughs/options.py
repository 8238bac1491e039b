"""The options that every walkthrough takes."""

import argparse
import sys
from pathlib import Path


def parser_for(name: str, doc: str) -> argparse.ArgumentParser:
    """name: as in `python -m walkthroughs language/gpt`; doc: the script's docstring, which begins with its title."""
    parser = argparse.ArgumentParser(prog=f"python -m walkthroughs {name}", description=doc.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out") / name.rpartition("/")[2], help="where results go (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a few steps: the mechanics, not the result")
    parser.add_argument("--no-plots", action="store_true")
    return parser


def rate(text: str) -> float:
    """A learning rate, as the type of an option: with a larger one, nothing trains and numbers overflow."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} came, expected a number above 0 and at most 1; 0.001 is a usual one")
    return value


def options_of(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The command line's options. The folder --out is there afterwards; the program ends with one line if it cannot be."""
    options = parser.parse_args()
    if options.seed < 0:
        parser.error(f"--seed {options.seed}: expected a number of at least 0")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f"error: --out {options.out} cannot be a folder: {error}; name another one")
    return options
