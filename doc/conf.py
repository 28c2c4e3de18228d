import re
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    RegressorMixin,
    TransformerMixin,
)
from sphinx.util import inspect, logging

project = "skinfluence"
author = "skinfluence developers"
copyright = f"2026, {author}"
version = release = installed_version("skinfluence")

extensions = [
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "templates"]
templates_path = ["templates"]
default_role = "py:obj"
toc_object_entries_show_parents = "hide"

# A module's page lists what its ``__all__`` names, each on a page of its own.
autosummary_ignore_module_all = False
autosummary_imported_members = True
# Class pages leave out what every scikit-learn estimator has: those docstrings refer to
# pages of scikit-learn's own documentation.
autosummary_context = {
    "generic": sorted(
        name
        for base in (
            BaseEstimator,
            ClassifierMixin,
            ClassNamePrefixFeaturesOutMixin,
            RegressorMixin,
            TransformerMixin,
        )
        for name in dir(base)
        if name != "get_feature_names_out"
    )
}
numpydoc_show_class_members = False
# To a reader ``objective_for`` and ``stage_for`` are one function, not one a registered class.
inspect.is_singledispatch_function = lambda obj: False

# Every reference has to be found. These packages' own documentation is not looked up, and
# attributes that are properties have no entry beside their class's.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(numpy|sklearn)\..*")]
nitpick_ignore = [
    ("py:obj", name)
    for name in (
        *("parameters_", "parameter_names_", "covariance_", "standard_errors_", "bias_"),
        "memorized",
    )
]

# Formulas are MathML, which browsers draw themselves: pages fetch nothing from elsewhere.
html_math_renderer = "mathml"

# Sections of the gallery, in order; the scripts of each from short to long.
GALLERY = ("rows", "pipelines", "groups", "labels", "nets")
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/(plot_|quickstart)",
    "default_thumb_file": str(Path(__file__).parent / "_static" / "start.png"),
    "subsection_order": [f"../examples/{name}" for name in GALLERY],
    "download_all_examples": False,
    # What a line returns beside the picture it draws is not shown.
    "ignore_repr_types": r"matplotlib|skinfluence\.inspection",
}

html_static_path = ["_static"]
html_css_files = ["skinfluence.css"]
# Pages without pages below them need no list of these.
ALONE = ("install", "supported_models", "extending", "comparison", "references", "changelog")
html_sidebars = {page: [] for page in ALONE}
html_title = "skinfluence"
html_theme = "pydata_sphinx_theme"
html_show_sourcelink = False
html_theme_options = {"show_prev_next": False}
html_context = {"default_mode": "auto"}


sys.path.insert(0, str(Path(__file__).parent))


def write_support_table(app):
    """The table of models is asked of the package when the documentation is built."""
    import support_table

    page = support_table.page(support_table.table())
    Path(app.srcdir, "supported_models.rst").write_text(page + "\n", encoding="utf-8")


def write_changelog(app):
    """``CHANGELOG.md`` as a page."""
    text = Path(app.srcdir, "..", "CHANGELOG.md").read_text(encoding="utf-8")
    text = re.sub(r"\[([^]]+)\]\(([^)]+)\)", r"`\1 <\2>`__", text.replace("`", "``"))
    for mark, line in (("#", "="), ("##", "-"), ("###", "~")):
        text = re.sub(
            f"^{mark} (.+)$", lambda m, c=line: f"{m[1]}\n{c * len(m[1])}", text, flags=re.M
        )
    Path(app.srcdir, "changelog.rst").write_text(text, encoding="utf-8")


def write_math(translator, node):
    """A formula as MathML, in the text or on a line of its own."""
    translator.body.append(tex2mathml(node.astext(), isinstance(node, nodes.math_block)))
    raise nodes.SkipNode


def check_links(app, exception):
    """Warn of links between the pages that lead nowhere."""
    from links import dead_links

    if exception is None and app.builder.name == "html":
        for page, link in dead_links(app.outdir):
            logging.getLogger("links").warning("%s: dead link %s", page, link)


def setup(app):
    app.connect("build-finished", check_links)
    app.connect("builder-inited", write_support_table)
    app.connect("builder-inited", write_changelog)
    app.add_html_math_renderer("mathml", (write_math, None), (write_math, None))
