"""The sources of the site: Markdown files in one folder, written from files of the project, with links that follow them.

A page knows which file of the project it shows. A link in that file to another file of the project becomes a link to the page
that shows it; files without a page of their own get a plain one, with their text.
"""

import os
import re
import shutil
from pathlib import Path, PurePosixPath

from book.highlight import listing
from book.record import ROOT

FOLDERS = "models|walkthroughs|tests|docs|benchmarks|tinygrad_notes"
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
NAMED = re.compile(rf"(?<!\]\()(?<![\w/\[`])(`?)((?:{FOLDERS})/[\w/-]+\.(?:py|md))\1(?![\w/\]`])")
LANGUAGES = {".json": "json", ".toml": "toml", ".md": "markdown"}


class Tree:
    def __init__(self, folder: Path):
        self.folder = folder
        self.shows: dict[str, str] = {}  # file of the project -> page, both as paths without a leading /; pages without suffix
        self.plain: set[str] = set()  # files that are linked and have no other page
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def write(self, page: str, text: str, suffix: str = ".md"):
        path = self.folder / (page + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")

    def extra(self, name: str) -> Path:
        """Where to put a file that comes into the site as it is, under this name."""
        path = self.folder / "_extra" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def page_of(self, file: str) -> str | None:
        """The page that shows a file of the project; None where there is no such file."""
        if file in self.shows:
            return self.shows[file]
        if not (ROOT / file).is_file():
            return None
        self.plain.add(file)
        return "source/" + file

    def link(self, text: str, file: str, page: str) -> str:
        """A Markdown link from a page to a file of the project."""
        target = self.page_of(file)
        return f"[{text}]({relative(target + '.md', page)})" if target else text

    def linked(self, markdown: str, page: str, origin: str = "") -> str:
        """Markdown of a file in the folder `origin` of the project, for this page. Code blocks stay as they are."""
        lines, fence = [], ""
        for line in markdown.splitlines():
            opening = re.match(r"\s*(`{3,}|~{3,})", line)
            if opening and not fence:
                fence = opening[1]
            elif fence and line.strip() == fence:
                fence = ""
            elif not fence and not line.startswith("    "):
                line = LINK.sub(lambda m: self._relinked(m, page, origin), line)
                line = NAMED.sub(lambda m: self._named(m, page), line)
            lines.append(line)
        return "\n".join(lines)

    def _relinked(self, match: re.Match, page: str, origin: str) -> str:
        image, text, target = match.groups()
        path, _, anchor = target.partition("#")
        if "://" in target or not path:
            return match[0]
        file = os.path.normpath(os.path.join(origin, path))
        if image:
            shutil.copy(ROOT / file, self.extra(f"pictures/{Path(file).name}"))
            place = relative(f"pictures/{Path(file).name}", page)
            return f'<a class="picture" href="{place}"><img src="{place}" alt="{text}"></a>'
        shown = self.page_of(file)
        if shown is None:  # a folder, say
            return text
        return f"[{text}]({relative(shown + '.md', page)}{'#' + anchor if anchor else ''})"

    def _named(self, match: re.Match, page: str) -> str:
        return match[0] if self.page_of(match[2]) in (None, page) else self.link(f"`{match[2]}`", match[2], page)

    def write_plain(self):
        """The pages of linked files that have no other; a page of code has no links, so that this ends."""
        for file in sorted(self.plain):
            text = (ROOT / file).read_text(encoding="utf-8")
            shown = listing(text) if file.endswith(".py") else code(text, LANGUAGES.get(Path(file).suffix, "text"))
            self.write("source/" + file, f"---\norphan: true\nnosearch: true\n---\n\n# {file}\n\n{shown}")


def code(text: str, language: str, first: int = 1, numbers: bool = False, kind: str = "") -> str:
    """A block of code, fenced by more backticks than it has itself."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    options = [f":lineno-start: {first}"] * numbers + [f":class: {kind}"] * bool(kind)
    return "\n".join([f"{fence}{{code-block}} {language}", *options, "", text.strip("\n"), fence])


def relative(target: str, page: str) -> str:
    """The way to a file from the folder of a page."""
    return PurePosixPath(os.path.relpath(target, os.path.dirname(page) or ".")).as_posix()


def markdown(text: str) -> str:
    """Prose of comments and docstrings, which is nearly Markdown, as Markdown: x_t, <s>, a*b and a % at the left margin are text."""
    blocks = re.split(r"((?:^    [^\n]*\n?)+|^```.*?^```$\n?)", text, flags=re.M | re.S)
    return "".join(block if n % 2 else _prose(block) for n, block in enumerate(blocks))


def _prose(text: str) -> str:
    pieces = re.split(r"((`+).*?\2(?!`)|\$\$.*?\$\$|\$(?! )[^$\n]+\$|\]\([^)\s]*\)|\{[a-z]+\}(?=`))", text, flags=re.S)
    out = ""
    for n, piece in enumerate(pieces):
        if n % 3 == 0:
            piece = re.sub(r"(_|<(?=[a-zA-Z/!?]))", r"\\\1", piece)
            piece = re.sub(r"(?<=[\w)\]])(\*+)(?=[\w(\[])", lambda m: "\\*" * len(m[1]), piece)
        out += piece if n % 3 != 2 else ""
    return re.sub(r"^([%+])(?=\s)", r"\\\1", out, flags=re.M)
