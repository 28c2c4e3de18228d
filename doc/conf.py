import sys
from importlib.metadata import version as installed_version
from pathlib import Path

from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    RegressorMixin,
    TransformerMixin,
)

project = "skinfluence"
author = "skinfluence developers"
copyright = f"2026, {author}"
version = release = installed_version("skinfluence")

extensions = [
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
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

# Sections of the gallery, in order; the scripts of each from short to long.
GALLERY = ("rows", "pipelines", "groups", "labels", "nets")
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/(plot_|quickstart)",
    "default_thumb_file": str(Path(__file__).parent / "_static" / "start.png"),
    "subsection_order": [f"../examples/{name}" for name in GALLERY],
    "download_all_examples": False,
}

html_static_path = ["_static"]
html_css_files = ["skinfluence.css"]
# Pages without pages below them need no list of these.
html_sidebars = {
    page: [] for page in ("install", "supported_models", "extending", "comparison", "references")
}
html_title = "skinfluence"
html_theme = "pydata_sphinx_theme"
html_show_sourcelink = False
html_theme_options = {"show_prev_next": False}


def write_support_table(app):
    """The table of models is asked of the package when the documentation is built."""
    sys.path.insert(0, str(app.srcdir))
    import support_table

    page = support_table.page(support_table.table())
    Path(app.srcdir, "supported_models.rst").write_text(page + "\n", encoding="utf-8")


def setup(app):
    app.connect("builder-inited", write_support_table)
