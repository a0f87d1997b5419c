"""How the site is built: `sphinx-build -b html docs site`. It loads nothing from elsewhere."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "meanfield"
author = "The meanfield developers"
extensions = ["myst_parser", "sphinx.ext.autodoc", "mathml", "house_docstrings"]

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
myst_update_mathjax = False
smartquotes = False
html_math_renderer = "mathml"

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
# Docstrings say what is legal; the signatures stay short.
autodoc_typehints = "none"
add_module_names = False

html_theme = "furo"
html_title = "meanfield"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_copy_source = False
templates_path = []
exclude_patterns = ["build", "_ext"]
pygments_style = "default"
