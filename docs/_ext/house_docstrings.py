"""The reference from the package's docstrings, which are plain text.

`.. public:: HOME` documents the module meanfield.HOME and every public name that lives in it,
under the name that users import: a name that is added to the package is added to the page.
`:module-names:` are names of a module that is itself public.

Docstrings are written to be read in the source: indented formulas, `code`, |absolute values|,
and sections of `name : text` lines. They become reStructuredText here.
"""

import re
from collections.abc import Iterator
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import meanfield as mf

INDENT = "    "


class Public(SphinxDirective):
    """Documents a module and the public names that live in it."""

    required_arguments = 1
    option_spec: ClassVar[Any] = {"module-names": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Return what autodoc makes of the names."""
        home = self.arguments[0]
        named = self.options.get("module-names", "").split()
        objects = {f"{home}.{name}": getattr(getattr(mf, home), name) for name in named}
        objects |= {name: getattr(mf, name) for name in mf._HOMES.get(home, ())}
        lines = [f".. automodule:: meanfield.{home}", ""]
        # Functions come before the records that they return.
        for name, obj in sorted(objects.items(), key=lambda item: isinstance(item[1], type)):
            if isinstance(obj, type):
                lines += [f".. autoclass:: meanfield.{name}", "   :members:", ""]
            else:
                lines += [f".. autofunction:: meanfield.{name}", ""]
        node = nodes.Element()
        content = StringList(lines, source=f"<public names of meanfield.{home}>")
        self.state.nested_parse(content, self.content_offset, node)
        return node.children


def to_rst(lines: list[str]) -> list[str]:
    """Return a docstring as reStructuredText."""
    return [line for block in _blocks(lines) for line in (*_render(block), "")]


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []


def _render(block: list[str]) -> list[str]:
    first = block[0].strip()
    if first.startswith(">>>"):
        return [line.strip() for line in block]
    if len(block) > 1 and re.fullmatch(r"-+", block[1].strip()):
        return [f"**{first}**", "", *_items(block[2:])]
    if all(line.startswith(INDENT) for line in block):
        return ["::", "", *(INDENT + line for line in block)]
    if re.match(r"\[?\d+[].] ", first):
        return _items(block)
    return [_inline(line.strip()) for line in block]


def _items(lines: list[str]) -> list[str]:
    """Return the lines of a section: `name : text` or `[1] text` and what goes on, or prose."""
    out: list[str] = []
    indent = ""
    for line in lines:
        name, colon, text = line.partition(" : ")
        goes_on = line.startswith(" ")
        if colon and not goes_on:
            out += ["", f"``{name}``", INDENT + _inline(text)]
            indent = INDENT
        elif re.match(r"\[?\d+[].] ", line.strip()):
            out += ["", _inline(line.strip())]
            indent = ""
        else:
            out += [(indent if goes_on else "") + _inline(line.strip())]
    return out


def _inline(text: str) -> str:
    """Return prose with `code` as literals and nothing else that reStructuredText would read."""
    parts = re.split(r"`+([^`]+)`+", text)
    for i, part in enumerate(parts):
        parts[i] = f"\\ ``{part}``\\ " if i % 2 else re.sub(r"([\\*|_])", r"\\\1", part)
    return "".join(parts)


def _process(*event: Any) -> None:
    lines = event[-1]
    lines[:] = to_rst(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive and the conversion."""
    app.add_directive("public", Public)
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
