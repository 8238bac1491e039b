"""Python in the colours of the theme, line by line."""

import html
import re
from itertools import groupby

Spans = list[tuple[str, str]]  # (class of the word, text)
WORD = re.compile(r"\w+|\s+|[^\w\s]")


def words_of(lines: list[str]) -> list[Spans]:
    """The lines of some Python, each as words with the class that the colour scheme gives them."""
    from pygments.lexers import PythonLexer
    from pygments.token import STANDARD_TYPES

    found: list[Spans] = [[]]
    for kind, text in PythonLexer(stripnl=False).get_tokens("\n".join(lines)):
        while kind not in STANDARD_TYPES:
            kind = kind.parent
        for n, piece in enumerate(text.split("\n")):
            if n:
                found.append([])
            found[-1] += [(STANDARD_TYPES[kind], word) for word in WORD.findall(piece)]
    return found[: len(lines)]


def listing(source: str) -> str:
    """Some Python in the colours of the theme, with an anchor L12 for each line."""
    lines = words_of(source.splitlines())
    rows = (line_html("", "", number, spans, set(), f' id="L{number}"') for number, spans in enumerate(lines, 1))
    return f'<div class="diff highlight"><pre>{"".join(rows)}</pre></div>'


def line_html(sign: str, kind: str, number: int, spans: Spans, marked: set[int], attributes: str = "") -> str:
    inner = ""
    for (style, mark), words in groupby(enumerate(spans), key=lambda entry: (entry[1][0], entry[0] in marked)):
        text = "".join(word for _, (_, word) in words)
        piece = f'<span class="{style}">{html.escape(text)}</span>' if style else html.escape(text)
        inner += f"<mark>{piece}</mark>" if mark and text.strip() else piece
    return (
        f'<span class="line {kind}"{attributes}><span class="number">{number}</span>'
        f'<span class="sign">{sign}</span><code>{inner or " "}</code></span>'
    )
