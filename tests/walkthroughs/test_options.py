"""The options that every walkthrough takes."""

import argparse

from walkthroughs.options import options_of, parser_for, rate

import pytest


@pytest.mark.parametrize("text", ["1e30", "nan", "inf", "0", "-0.1"])
def test_a_rate_that_cannot_be_is_told_in_one_line(text, monkeypatch, tmp_path, capsys):
    parser = parser_for("a/b", "Title.")
    parser.add_argument("--rate", type=rate, default=0.1)
    monkeypatch.setattr("sys.argv", ["b", "--out", str(tmp_path), f"--rate={text}"])
    with pytest.raises(SystemExit):
        options_of(parser)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(f"error: argument --rate: {text} came, expected a number above 0 and at most 1; 0.001 is a usual one")


def test_rates():
    assert (rate("1"), rate("3e-3")) == (1, 3e-3)
    with pytest.raises(argparse.ArgumentTypeError):
        rate("2")
