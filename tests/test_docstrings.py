"""Docstrings of everything public, by numpydoc's validation."""

import importlib
import inspect

import pytest

from skinfluence.methods import METHODS as METHODS_BY_NAME
from skinfluence.solvers import SOLVERS
from skinfluence.targets import TARGETS

validate = pytest.importorskip("numpydoc.validate", reason="comes with the doc extra").validate

FACES = [
    "skinfluence",
    "skinfluence.model_selection",
    "skinfluence.inference",
    "skinfluence.inspection",
    "skinfluence.callbacks",
    "skinfluence.evaluation",
    "skinfluence.mislabel",
]
# What solvers, methods, targets and stages are made of is said once, in their base classes.
PARTS = [f"skinfluence.{name}" for name in ("solvers", "methods", "targets", "stages")]

# Layout, spelling of sections, every parameter named, what comes back.
LAYOUT = {"GL01", "GL02", "GL03", "GL05", "GL06", "GL07", "GL08", "GL09", "GL10"}
SUMMARY = {"SS01", "SS02", "SS03", "SS04"}
CONTENT = {"PR01", "PR02", "PR05", "PR06", "RT01", "RT02", "YD01", "RF01"}
EXAMPLE = {"EX01"}


def public(module):
    found = importlib.import_module(module)
    for name in found.__all__:
        if callable(getattr(found, name)):
            yield f"{module}.{name}", getattr(found, name)


NAMED = [pair for module in [*FACES, *PARTS] for pair in public(module)]
METHODS = [
    f"{path}.{name}"
    for module in FACES
    for path, cls in public(module)
    if inspect.isclass(cls)
    for name, member in vars(cls).items()
    if not name.startswith(("_", "on_")) and inspect.isfunction(member)
]


def errors(path, codes):
    return [f"{code} {text}" for code, text in validate(path)["errors"] if code in codes]


CHOICES = {*SOLVERS.values(), *METHODS_BY_NAME.values(), *TARGETS.values()}


@pytest.mark.parametrize(("path", "found"), NAMED)
def test_classes_and_functions(path, found):
    if path.rsplit(".", 1)[0] in PARTS and found not in CHOICES:
        assert errors(path, LAYOUT | SUMMARY) == []  # a base class, or a helper
    else:
        assert errors(path, LAYOUT | SUMMARY | CONTENT | EXAMPLE) == []


@pytest.mark.parametrize("path", METHODS)
def test_methods(path):
    assert errors(path, LAYOUT | SUMMARY | CONTENT) == []
