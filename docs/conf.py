"""How Sphinx builds the documentation site; `make docs` runs it, and warnings are errors.

Knows the theme, what is checked, and the names that Sphinx cannot find because they belong to other
packages. Fetches nothing: the site builds offline.
"""

from __future__ import annotations

from typing import Any, is_typeddict

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.ext.napoleon import GoogleDocstring

import versioned_zarr as vz

project = "versioned_zarr"
author = "The versioned_zarr maintainers"
copyright = author  # noqa: A001 - Sphinx reads this name
version = release = vz.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
]
root_doc = "index"
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]

# Links. An address that leads nowhere in the site fails the build; addresses elsewhere are not
# asked, so that it builds offline.
nitpicky = True
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]
nitpick_ignore_regex = [
    # Other packages, of which nothing is fetched, and what typing makes of annotations.
    ("py:.*", r"(collections|datetime|os|builtins)\..*"),
    ("py:.*", r"(numpy|xarray|zarr)\..*"),
    ("py:.*", r"Figure|Store|Link|(Server)?Options|.*\bT|.*\b_T|tuple\[str"),
    # Internals that annotations of attributes name.
    ("py:.*", r"versioned_zarr\.(ipld|_hooks)\..*"),
    ("py:.*", r"versioned_zarr\..*\.(TaskExecutor|ZarrNode)"),
]

# The reference of Python, from docstrings: Google style, single backticks for code as in Markdown.
smartquotes = False  # they would change --options and quotes of commands
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
autodoc_default_options = {
    "members": True,
    "inherited-members": "Exception,Mapping,MutableMapping,Enum,tuple,dict",
}
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]
napoleon_use_rtype = False
add_module_names = False
toc_object_entries_show_parents = "hide"

# The look.
html_theme = "pydata_sphinx_theme"
html_title = "versioned_zarr"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_show_copyright = False
html_theme_options = {
    "logo": {"text": "versioned_zarr"},
    "navbar_end": ["theme-switcher"],
    "navbar_align": "left",
    "show_nav_level": 1,
    "navigation_depth": 3,
    "show_toc_level": 2,
    "header_links_before_dropdown": 8,
    "footer_start": ["sphinx-version"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_context = {"default_mode": "auto"}
html_sidebars = {"index": [], "changelog": []}
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True


class Dump(TextLexer):
    """The hexadecimal dumps of the pages on file formats; shown as they are."""

    name = "hex"
    aliases = ["hex"]


CONSTRUCTED = ("versioned_zarr.FieldValue",)
"""The classes that users make; of the others, the arguments are an internal matter."""


def without_arguments(
    _app: Sphinx, what: str, name: str, obj: object, *_: object
) -> tuple[str, str] | None:
    """No signature for a class that only this package makes."""
    is_hidden = what in ("class", "exception") and name not in CONSTRUCTED
    is_hidden = is_hidden and not is_typeddict(obj)
    return ("", "") if is_hidden else None


def with_sections(
    app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]
) -> None:
    """Read the docstring of a property as that of a method: with sections, without a type."""
    if what == "property":
        made = GoogleDocstring(list(lines), app.config, app, "method", name, obj, options)
        lines[:] = [
            "..",
            "",
            *made.lines(),
        ]  # napoleon, which comes next, looks for a type in line one


def without_constructor(
    _app: Sphinx, what: str, name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """Drop the arguments of a class that only this package makes."""
    if what == "class" and name not in CONSTRUCTED and "Args:" in lines:
        start = lines.index("Args:")
        stop = next((at for at in range(start, len(lines)) if not lines[at]), len(lines))
        del lines[start:stop]


def with_example_as_code(_app: Sphinx, _context: object, lines: list[str]) -> None:
    """The example of a command as a block of code."""
    for at, line in enumerate(lines):
        if line.startswith("Example:  "):
            example = line.removeprefix("Example:  ")
            lines[at : at + 1] = ["Example:", "", ".. code-block:: sh", "", f"   {example}", ""]


def without_arguments_of_commands(_app: Sphinx, _context: object, lines: list[str]) -> None:
    """Drop the list of arguments: the usage shows which there are, and the help what they mean."""
    lines.clear()


def setup(app: Sphinx) -> None:
    """Tell Sphinx what it does not know by itself."""
    app.add_lexer("hex", Dump)
    app.connect("sphinx-click-process-arguments", without_arguments_of_commands)
    app.connect("sphinx-click-process-epilog", with_example_as_code)
    app.connect("autodoc-process-signature", without_arguments)
    app.connect("autodoc-process-docstring", with_sections, priority=400)
    app.connect("autodoc-process-docstring", without_constructor, priority=400)
