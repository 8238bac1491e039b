"""One model as the edit of another: the lines that go and come, with the words that change within a line marked."""

import ast
from dataclasses import dataclass
from difflib import SequenceMatcher

from book.highlight import Spans, line_html, words_of
from book.record import ROOT
from book.tree import Tree

CONTEXT = 4  # lines shown on both sides of a change; longer stretches that are equal are folded
ALIKE = 0.5  # how alike two lines must be to count as one line that changed


@dataclass(frozen=True)
class Diff:
    page: str
    title: str
    text: str
    old: str  # a file of the project
    new: str
    parts: tuple[tuple[str, str], ...] = ()  # (classes or functions of the old file, of the new one), by name; none: the whole files


DIFFS = (
    Diff(
        "diffs/gpt1-to-gpt2",
        "From GPT-1 to GPT-2",
        "A year lies between them and a factor of ten in size, yet the architecture hardly changes. The norms move from behind each sum to the front of "
        "each branch, so that the residual stream is never normalised on its way up; one norm is added at the end; the weights of the branches start "
        "smaller the more layers there are. And fine-tuning is gone: what GPT-1 learns with a new head, GPT-2 is asked in words.",
        "models/language/gpt1.py",
        "models/language/gpt.py",
    ),
    Diff(
        "diffs/encoder-to-decoder",
        "From the encoder to the decoder",
        "The Transformer of 2017 is two stacks. A layer of the decoder is a layer of the encoder with two edits: its self-attention is causal, which "
        "also lets it keep a cache, and between attention and feed-forward it looks into the encoder's output. The mask of padding goes to that second attention.",
        "models/language/transformer.py",
        "models/language/transformer.py",
        (("EncoderLayer", "DecoderLayer"), ("Transformer.encode", "Transformer.decode")),
    ),
    Diff(
        "diffs/bert-to-gpt2",
        "From BERT to GPT-2",
        "One is the encoder alone, the other the decoder alone, without the cross-attention that nobody is there to answer. What decides is one word, "
        "`causal=True`: BERT sees both sides and fills in blanks, GPT-2 sees the past and can write. BERT's norms stand behind each sum, as in 2017.",
        "models/language/bert.py",
        "models/language/gpt.py",
        (("Attention", "Attention"), ("Layer", "Block"), ("loss", "loss")),
    ),
    Diff(
        "diffs/ddpm-to-ddim",
        "From DDPM to DDIM",
        "The network and its training stay. Only the way back changes: a step may go from any time t to any earlier s, and the fresh noise gets a "
        "factor eta that can be zero; then the noise the network saw is used again in its place.",
        "models/diffusion/ddpm.py",
        "models/diffusion/ddim.py",
        (("p_sample", "p_sample"), ("sample", "sample")),
    ),
)


def definition(source: str, path: str) -> tuple[int, list[str]]:
    """(first line, lines) of a class or function, `Class` or `Class.method`, or of the whole file for ""."""
    lines = source.splitlines()
    if not path:
        return 1, lines
    body: list = ast.parse(source).body
    node = None
    for name in path.split("."):
        node = next((n for n in body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == name), None)
        if node is None:
            raise ValueError(f"diffs: there is no {path!r} in the file; name a class, a function, or Class.method")
        body = node.body
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return first, lines[first - 1 : node.end_lineno]


def rows_of(old: list[str], new: list[str]) -> list[tuple[str, int, int]]:
    """("equal" | "changed" | "gone" | "come", index in old, index in new): the lines in the order of reading. -1 where there is none."""
    rows: list[tuple[str, int, int]] = []
    for kind, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            rows += [("equal", i + n, k + n) for n in range(j - i)]
        else:
            rows += pair_up(old, new, range(i, j), range(k, m))
    return rows


def pair_up(old: list[str], new: list[str], gone: range, come: range) -> list[tuple[str, int, int]]:
    """Lines that were replaced: those that resemble each other, in order, are one line that changed."""
    pairs: list[tuple[int, int]] = []
    first = come.start
    for i in gone:
        scores = [(SequenceMatcher(None, old[i], new[k]).ratio(), -k) for k in range(first, come.stop) if old[i].strip() and new[k].strip()]
        if scores and max(scores)[0] >= ALIKE:
            k = -max(scores)[1]
            pairs.append((i, k))
            first = k + 1
    rows: list[tuple[str, int, int]] = []
    i, k = gone.start, come.start
    for a, b in [*pairs, (gone.stop, come.stop)]:
        rows += [("gone", n, -1) for n in range(i, a)]
        rows += [("come", -1, n) for n in range(k, b)]
        if a < gone.stop:
            rows.append(("changed", a, b))
        i, k = a + 1, b + 1
    return rows


def changed_words(old: Spans, new: Spans) -> tuple[set[int], set[int]]:
    """The words of two lines, by number, that are not common to both."""
    a, b = [text for _, text in old], [text for _, text in new]
    gone, come = set(range(len(a))), set(range(len(b)))
    for i, k, n in SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks():
        gone -= set(range(i, i + n))
        come -= set(range(k, k + n))
    return gone, come


def diff_html(old: list[str], new: list[str], first_old: int = 1, first_new: int = 1) -> str:
    old_spans, new_spans = words_of(old), words_of(new)
    rows = rows_of(old, new)
    keep = {m for n, (kind, _, _) in enumerate(rows) if kind != "equal" for m in range(n - CONTEXT, n + CONTEXT + 1)}
    out: list[str] = []
    n = 0
    while n < len(rows):
        kind, i, k = rows[n]
        if kind == "equal" and n not in keep:
            end = n
            while end < len(rows) and end not in keep:
                end += 1
            same = [line_html(" ", "", first_new + b, new_spans[b], set()) for _, _, b in rows[n:end]]
            out.append(
                f"<details><summary>{len(same)} lines that stay</summary>{''.join(same)}</details>" if len(same) > 2 else "".join(same)
            )
            n = end
            continue
        if kind == "equal":
            out.append(line_html(" ", "", first_new + k, new_spans[k], set()))
        else:
            gone, come = changed_words(old_spans[i], new_spans[k]) if kind == "changed" else (set(), set())
            if i >= 0:
                out.append(line_html("-", "gone", first_old + i, old_spans[i], gone))
            if k >= 0:
                out.append(line_html("+", "come", first_new + k, new_spans[k], come))
        n += 1
    return f'<div class="diff highlight"><pre>{"".join(out)}</pre></div>'


def write_diffs(tree: Tree) -> dict[str, list[tuple[str, str]]]:
    """Writes the pages; returns file -> the (title, page) of the comparisons that it is part of."""
    shown: dict[str, list[tuple[str, str]]] = {}
    existing = [d for d in DIFFS if (ROOT / d.old).exists() and (ROOT / d.new).exists()]
    for diff in existing:
        for file in dict.fromkeys((diff.old, diff.new)):
            shown.setdefault(file, []).append((diff.title, diff.page))
        write_diff(tree, diff)
    entries = "\n".join(f"{d.title} </{d.page}>" for d in existing)
    lines = "\n".join(f"- [{d.title}]({d.page.removeprefix('diffs/')}.md)" for d in existing)
    tree.write(
        "diffs/index",
        "# One model as the edit of another\n\nA variant is a new file here, never a switch. So two of them can be laid side by side, and what is "
        f"new in a paper is what is new in the file.\n\n{lines}\n\n```{{toctree}}\n:hidden:\n\n{entries}\n```\n",
    )
    return shown


def write_diff(tree: Tree, diff: Diff):
    sources = [(ROOT / file).read_text(encoding="utf-8") for file in (diff.old, diff.new)]
    body = [f"# {diff.title}", diff.text]
    body.append(
        f"Lines with a minus are those of {tree.link(f'`{diff.old}`', diff.old, diff.page)}, lines with a plus those of "
        f"{tree.link(f'`{diff.new}`', diff.new, diff.page)}; what changed within a line is marked."
        if diff.old != diff.new
        else f"All of it stands in {tree.link(f'`{diff.old}`', diff.old, diff.page)}. Lines with a minus go, lines with a plus come; what changed within a line is marked."
    )
    for names in diff.parts or (("", ""),):
        (first_old, old), (first_new, new) = (definition(source, name) for source, name in zip(sources, names))
        if diff.parts:
            body.append(f"## {names[0]} → {names[1]}" if names[0] != names[1] else f"## {names[0]}")
        body.append(diff_html(old, new, first_old, first_new))
    tree.write(diff.page, "\n\n".join(body))
