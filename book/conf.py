"""Sphinx's settings. `python -m book` writes the sources and calls Sphinx with these."""

import inspect
import sys
from functools import reduce
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import tinygrad_notes  # noqa: E402

project = "tinygrad_notes"
author = copyright = "tinygrad_notes contributors"
version = release = tinygrad_notes.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.linkcode", "book.mathml", "book.docstrings"]
smartquotes = False
highlight_language = "text"
html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
myst_dmath_allow_space = False  # a dollar before a space is a dollar

autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "tinygrad_notes"
html_static_path = [str(Path(__file__).parent / "static")]
html_css_files = ["book.css"]
html_extra_path = [str(ROOT / "build" / "book" / "_extra")]  # pictures, notebooks, scripts
exclude_patterns = ["_extra"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_search_summary = False  # summaries are fetched, which browsers forbid a page that is a file
pygments_style = "friendly"
pygments_dark_style = "github-dark"


def linkcode_resolve(domain: str, info: dict) -> str | None:
    """The place in the page of its source, for an object of the API; pages of the API are in api/."""
    try:
        found = inspect.unwrap(reduce(getattr, info["fullname"].split("."), sys.modules[info["module"]]))
        file, (_, line) = inspect.getsourcefile(found), inspect.getsourcelines(found)
    except (AttributeError, KeyError, TypeError, OSError):
        return None
    inside = file and Path(file).is_relative_to(ROOT / "tinygrad_notes")
    return f"../source/{Path(file).relative_to(ROOT).as_posix()}.html#L{max(line, 1)}" if inside else None
