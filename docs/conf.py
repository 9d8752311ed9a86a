"""How Sphinx builds these pages.  Parts of them are made from the code by `_ext/`, so that they cannot drift from it."""

import sys
from configparser import ConfigParser
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

_setup = ConfigParser()
_setup.read(HERE.parent / "setup.cfg", encoding="utf-8")

project = "execd"
author = "the execd maintainers"
version = release = _setup["metadata"]["version"]

extensions = ["sphinx.ext.autodoc", "sphinx_click", "execd_docs"]
exclude_patterns = ["_build", "samples"]
default_role = "literal"
html_theme = "alabaster"
html_theme_options = {"description": _setup["metadata"]["description"], "page_width": "1080px", "sidebar_width": "240px"}
html_show_copyright = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
