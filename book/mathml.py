"""Mathematics as MathML, which browsers draw by themselves: no script, no fonts to fetch, and nothing that needs a network.

MathJax and KaTeX draw in the browser, with one or two megabytes of script and fonts that would have to be copied from npm's
registry into every build. All browsers in use read MathML Core since January 2023; latex2mathml, in plain Python, writes it.
"""

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx


def visit_math(self, node: nodes.math):
    self.body.append(convert(node.astext(), display="inline"))
    raise nodes.SkipNode


def visit_displaymath(self, node: nodes.math_block):
    self.body.append(self.starttag(node, "div", CLASS="math"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({node["number"]})</span>')
    self.body.append(convert(node.astext(), display="block") + "</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx):
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displaymath, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
