"""How the documentation is built, from docstrings and notebooks; nothing is run and nothing is published.

From the folder above: ``sphinx-build -c docs . build/docs``.
"""

from importlib.metadata import distributions

project, author = "siamese_np", "siamese_np maintainers"
release = next((found.version for found in distributions(name="siamese_np")), "")
root_doc = "docs/index"
include_patterns = ["docs/*.md", "docs/*.rst", "notebooks/*.ipynb"]
extensions = ["sphinx.ext.autodoc", "numpydoc", "myst_nb"]
html_theme = "alabaster"
html_theme_options = {"page_width": "1100px", "fixed_sidebar": True}
html_static_path, html_css_files = ["static"], ["tables.css"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc shows the types that docstrings tell
numpydoc_show_class_members = False
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
# links of notebooks to files of the repository, which are no pages
suppress_warnings = ["myst.xref_missing", "mystnb.unknown_mime_type"]
