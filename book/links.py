"""Checks a built site as a reader would: no link is dead, no page empty, and nothing is fetched from elsewhere.

python -m book.links site
"""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FEWEST_WORDS = 20  # that a page must have in its main part
LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src", "embed": "src", "object": "data"}
LOADING = {"stylesheet", "icon", "preload", "preconnect", "dns-prefetch", "modulepreload", "manifest"}  # <link rel=...>
WITHOUT_TEXT = {"genindex.html", "search.html", "py-modindex.html"}


class Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.words = 0
        self.alone: list[str] = []  # pictures without a text that stands for them
        self.problems = 0  # Sphinx's own marks of what it could not read
        self._main = self._silent = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors.update(value for key in ("id", "name") if (value := given.get(key)))
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag == "link" and given.get("href"):
            (self.loads if LOADING & set((given.get("rel") or "").split()) else self.links).append(given["href"])
        elif tag in LOADS and given.get(LOADS[tag]):
            self.loads.append(given[LOADS[tag]])
            if tag == "img" and "alt" not in given:
                self.alone.append(given["src"])
        classes = (given.get("class") or "").split()
        self.problems += "system-message" in classes or "problematic" in classes
        self._main += tag == "article"
        self._silent += tag in ("script", "style")

    def handle_endtag(self, tag):
        self._main -= tag == "article"
        self._silent -= tag in ("script", "style")

    def handle_data(self, data):
        if self._main > 0 and not self._silent:
            self.words += len(data.split())


def faults(site: Path) -> Iterator[str]:
    """What is wrong, one line each."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    if not pages:
        yield f"{site}: there is no page; build the site first"
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        if page.words < FEWEST_WORDS and name not in WITHOUT_TEXT:
            yield f"{name}: an empty page, {page.words} words; expected at least {FEWEST_WORDS}"
        if page.problems:
            yield f"{name}: {page.problems} places that Sphinx could not read"
        for source in page.alone:
            yield f"{name}: a picture without an alt text: {source}"
        for link in page.loads:
            if urlsplit(link).netloc:
                yield f"{name}: loads {link}, which needs a network"
        for link in [*page.links, *page.loads]:
            if fault := dead(link, path, site, pages):
                yield f"{name}: {fault}"
    for path in sorted(site.rglob("*.css")):
        for link in re.findall(r"(?:url\(|@import\s+)\s*['\"]?([^'\")\s;]+)", path.read_text(encoding="utf-8")):
            if urlsplit(link).netloc:
                yield f"{path.relative_to(site).as_posix()}: loads {link}, which needs a network"


def dead(link: str, path: Path, site: Path, pages: dict[Path, Page]) -> str:
    """Why a link of the page at `path` leads nowhere; "" if it does not, or leads out of the site."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return ""
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        return f"a link to a folder, which a browser shows as a list of files: {link}"
    if not target.is_relative_to(site) or not target.is_file():
        return f"a dead link: {link}"
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
        return f"a link to a place that its page does not have: {link}"
    return ""


def main(site: Path) -> int:
    site = site.resolve()
    found = list(faults(site))
    for fault in found:
        print(fault, file=sys.stderr)
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    print(f"{len(list(site.rglob('*.html')))} pages, {size / 1e6:.1f} MB, {len(found)} faults")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
