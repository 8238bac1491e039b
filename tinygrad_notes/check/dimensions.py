"""The dimensions of shape comments: `3*C`, `T//2 + 1`, `...`; how they are read and held against a shape."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np

TOKEN = re.compile(r"\s*(\d+|[^\W\d]\w*|//|[-+*/()])")


def parse(text: str) -> Any:
    """A dimension as nested tuples: an int, a name, or (operator, left, right). ValueError if the text is none, with the text."""
    tokens = TOKEN.findall(text)
    if "".join(tokens) != re.sub(r"\s+", "", text) or not tokens or re.search(r"\w\s+\w", text):
        raise ValueError(text)
    tokens.append("")

    def atom():
        token = tokens.pop(0)
        if token == "(":
            inside = total()
            if tokens.pop(0) != ")":
                raise ValueError(text)
            return inside
        if token.isdigit():
            return int(token)
        if not token or not (token[0].isalpha() or token[0] == "_"):
            raise ValueError(text)
        return token

    def product():
        left = atom()
        while tokens[0] in ("*", "/", "//") or (isinstance(left, int) and tokens[0][:1].isalpha()):  # 4C is 4*C
            left = (tokens.pop(0)[0] if tokens[0] in ("*", "/", "//") else "*", left, atom())
        return left

    def total():
        left = product()
        while tokens[0] in ("+", "-"):
            left = (tokens.pop(0), left, product())
        return left

    parsed = total()
    if tokens != [""]:
        raise ValueError(text)
    return parsed


def evaluate(dimension: Any, number: Callable[[str], int | None]) -> int | None:
    """The number of a parsed dimension, or None while one of its letters is not known. number: from a letter to its number, or None."""
    if isinstance(dimension, int):
        return dimension
    if isinstance(dimension, str):
        return number(dimension)
    operator, left, right = dimension[0], evaluate(dimension[1], number), evaluate(dimension[2], number)
    if left is None or right is None:
        return None
    return {"+": left + right, "-": left - right, "*": left * right, "/": left // right if right else 0}[operator]


def mismatch(shape: list, actual: tuple[int, ...], variables: Any, letters: dict[str, int]) -> str:
    """Why `actual` is not `shape`, the end of a sentence, or "" if it is; new letters are added to `letters` with their numbers.

    shape: parsed dimensions, one of which may be "..."; variables: the local ones of the function, whose integers count first.
    """
    dimensions = list(shape)
    if "..." in dimensions:
        at = dimensions.index("...")
        dimensions[at : at + 1] = [None] * max(0, len(actual) - len(shape) + 1)
    if len(dimensions) != len(actual):
        return f", {len(actual)} dimensions for {len(dimensions)}"
    for dimension, n in zip(dimensions, actual):
        if dimension is None:
            continue
        unknown: list[str] = []

        def number(name, unknown=unknown):
            local = variables.get(name)
            if isinstance(local, int | np.integer) and not isinstance(local, bool):
                return int(local)
            if name not in letters:
                unknown.append(name)
            return letters.get(name)

        expected = evaluate(dimension, number)
        if expected is None and len(set(unknown)) == 1:  # one new letter: the number that fits
            name = unknown[0]
            for letters[name] in range(n + 1):
                if (expected := evaluate(dimension, number)) == n:
                    break
            else:
                del letters[name]
        if expected is not None and expected != n:
            known = ", ".join(f"{k} = {v}" for k in sorted(names_of(dimension)) if (v := number(k)) is not None)
            return f", {n} where {spell(dimension)} is {expected}" + (f" ({known})" if known and not isinstance(dimension, str) else "")
    return ""


def names_of(dimension: Any) -> set[str]:
    """The letters in a parsed dimension."""
    if isinstance(dimension, tuple):
        return names_of(dimension[1]) | names_of(dimension[2])
    return {dimension} if isinstance(dimension, str) else set()


def spell(dimension: Any) -> str:
    """A parsed dimension as text."""
    return f"{spell(dimension[1])}{dimension[0]}{spell(dimension[2])}" if isinstance(dimension, tuple) else str(dimension)
