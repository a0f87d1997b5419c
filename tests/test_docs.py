"""The documentation runs: every block of code, every command, and the site itself.

What a page may hold, block by block:

    python, pycon            run, one namespace to a page; what `>>>` prints is compared
    console                  `$ meanfield ...` runs; what is printed under it is compared
    {code-block} LANGUAGE    with a `:caption:` that is a file name: written before what follows
    bash, toml, text         shown

`<!-- skip: REASON -->` on the line above a block leaves it out, and `<!-- needs: PACKAGE -->` does
so where PACKAGE is not installed.
"""

import contextlib
import dataclasses
import doctest
import importlib.util
import io
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import meanfield as mf
from meanfield import cli
from meanfield.activations import activations
from meanfield.observables import observables
from meanfield.plots import figures

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(p for p in DOCS.rglob("*.md") if "build" not in p.parts)]
SHOWN = {"bash", "toml", "text"}
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
FENCE = re.compile(r"^(`{3,})([^`\n]*)\n(.*?)^\1 *$", re.MULTILINE | re.DOTALL)
SKIP = re.compile(r"<!-- skip: \S.* -->\n\Z")
NEEDS = re.compile(r"<!-- needs: (\w+) -->\n\Z")
CAPTION = re.compile(r"\A:caption: (\S+\.\w+)\n\n")
ANSI = re.compile(r"\x1b\[[0-9;]*m")
# What the README's reader is taken to have written.
READERS_FILE = "import jax.numpy as jnp\n\n\ndef my_activation(x):\n    return jnp.tanh(x)\n"


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its first line of text, counted from 0."""

    kind: str
    text: str
    line: int
    skipped: bool


def blocks(page):
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        yield Block(
            kind=match[2].strip(),
            text=match[3],
            line=text.count("\n", 0, match.start(3)),
            skipped=is_left_out(text[: match.start()]),
        )


def is_left_out(above):
    """Return whether what stands above a block leaves it out."""
    needs = NEEDS.search(above)
    absent = needs is not None and importlib.util.find_spec(needs[1]) is None
    return absent or SKIP.search(above) is not None


def name_of(page):
    return str(page.relative_to(ROOT))


def run_examples(block, page, names):
    test = doctest.DocTestParser().get_doctest(
        block.text, names, name_of(page), name_of(page), block.line
    )
    test.globs = names
    said = io.StringIO()
    runner = doctest.DocTestRunner(verbose=False, optionflags=FLAGS)
    runner.run(test, out=said.write, clear_globs=False)
    assert runner.summarize(verbose=False).failed == 0, said.getvalue()


def run_plain(block, page, names):
    # Empty lines put the block where it is on its page, so that a traceback points at it.
    exec(compile("\n" * block.line + block.text, str(page), "exec"), names)


def run_command(line):
    """Return what a command prints, its errors included."""
    program, *arguments = shlex.split(line)
    assert program == "meanfield", f"only meanfield's own commands run: {line}"
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["meanfield", *arguments])
        patch.setenv("MEANFIELD_CACHE", "off")
        patch.setenv("COLUMNS", "120")
        with (
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
            pytest.raises(SystemExit) as exit_,
        ):
            cli.main()
    return ANSI.sub("", said.getvalue()), exit_.value.code or 0


def run_commands(block, page):
    for command in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, _, wanted = command.partition("\n")
        said, code = run_command(line)
        where = f"{name_of(page)}, $ {line}"
        if not wanted.strip():
            assert code == 0, f"{where}\n{said}"
        elif not doctest.OutputChecker().check_output(wanted, said, FLAGS):
            pytest.fail(f"{where}\nexpected:\n{wanted}\nprinted:\n{said}")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_of_the_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # A page may register what other tests must not find.
    for registry in (activations, observables, figures):
        monkeypatch.setattr(registry, "_items", dict(registry._items))
    (tmp_path / "my_file.py").write_text(READERS_FILE, encoding="utf-8")
    names = {"__name__": "__main__"}
    for block in blocks(page):
        if block.skipped:
            continue
        if block.kind in ("python", "pycon") and ">>>" in block.text:
            run_examples(block, page, names)
        elif block.kind == "python":
            run_plain(block, page, names)
        elif block.kind == "console":
            run_commands(block, page)
        elif block.kind.startswith("{code-block}") and (caption := CAPTION.match(block.text)):
            (tmp_path / caption[1]).write_text(block.text[caption.end() :], encoding="utf-8")
        else:
            # A name that is misspelt must not leave its block out.
            assert block.kind in SHOWN or block.kind.startswith("{"), block


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site; a warning is an error."""
    out = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    where = ["-d", str(out / "doctrees"), str(DOCS), str(out / "html")]
    done = subprocess.run([*build, *where], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "html"


class Page(HTMLParser):
    """What a page loads, which ids it has, and its prose."""

    LOADS = (("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"))
    NOT_PROSE = ("script", "style", "pre", "code", "math", "svg")

    def __init__(self, html):
        super().__init__()
        self.loaded, self.ids, self.prose, self.formulas = [], set(), [], 0
        self.inside = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.loaded += [values[key] for of, key in self.LOADS if of == tag and key in values]
        self.ids.add(values.get("id"))
        self.formulas += tag == "math"
        if tag in self.NOT_PROSE:
            self.inside.append(tag)

    def handle_endtag(self, tag):
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside:
            self.prose.append(data)


def test_the_site_loads_nothing_from_elsewhere(site):
    pages = [Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")]
    assert len(pages) > 10
    loaded = {address for page in pages for address in page.loaded}
    assert loaded
    assert not [address for address in loaded if re.match(r"\w+:|//", address)]
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"(@import|url\()\s*[\"']?(\w+:)?//", text), sheet


def test_formulas_are_mathml_and_no_tex_is_left(site):
    formulas = 0
    for path in site.rglob("*.html"):
        page = Page(path.read_text(encoding="utf-8"))
        formulas += page.formulas
        left = re.findall(r"\\[a-zA-Z(\[]|\$", "".join(page.prose))
        assert not left, (path, left)
    assert formulas > 50


def test_the_reference_has_every_public_name(site):
    page = Page((site / "api.html").read_text(encoding="utf-8"))
    missing = [
        name
        for name in mf.__all__
        if f"meanfield.{name}" not in page.ids and f"module-meanfield.{name}" not in page.ids
    ]
    assert not missing
