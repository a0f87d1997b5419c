"""Formulas as MathML, written when the site is built: no script, no font, no image.

Browsers draw MathML themselves. A formula that the converter does not understand is a
warning, and warnings fail the build.
"""

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)


def _convert(node: nodes.Element, display: str) -> str:
    tex = node.astext()
    try:
        # latex2mathml passes on what it does not know.
        mathml = convert(tex, display=display).replace("<mi>~</mi>", "<mo>~</mo>")
    except Exception as error:  # the converter raises many kinds
        logger.warning("formula %r: %s", tex, error, location=node)
        return ""
    if "\\" in mathml or "<mi>&</mi>" in mathml:
        logger.warning("formula %r has a command that is not converted", tex, location=node)
    return mathml


def _inline(translator: Any, node: nodes.Element) -> None:
    translator.body.append(f'<span class="math">{_convert(node, "inline")}</span>')
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.Element) -> None:
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    translator.body.append(_convert(node, "block"))
    if node.get("number"):
        number = get_node_equation_number(translator, node)  # pyright: ignore[reportArgumentType]
        translator.body.append(f'<span class="eqno">({number})</span>')
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
