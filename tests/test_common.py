"""Every check of ``tests/common.py`` on every case of ``tests/cases``."""

import importlib
import pkgutil

import pytest

from . import cases, common

MODULES = [
    importlib.import_module(f".cases.{name}", __package__)
    for _, name, _ in pkgutil.iter_modules(cases.__path__)
]
CASES = [case for module in MODULES for case in getattr(module, "CASES", [])]
WEIGHTED = [case for case in CASES if case.takes_weights and case.weights_follow]

every_case = pytest.mark.parametrize("case", CASES, ids=str)
weighted_case = pytest.mark.parametrize("case", WEIGHTED, ids=str)


@every_case
def test_stationary(case):
    common.check_stationary(case)


@weighted_case
def test_derivative(case):
    common.check_derivative(case)


@weighted_case
def test_sum_rule(case):
    common.check_sum_rule(case)


@every_case
def test_exact(case):
    common.check_exact(case)


@weighted_case
def test_weight_zero(case):
    common.check_weight_zero(case)


@every_case
def test_duplicates(case):
    common.check_duplicates(case)


@every_case
def test_permutation(case):
    common.check_permutation(case)


@pytest.mark.parametrize("case", [case for case in CASES if case.takes_sparse], ids=str)
def test_sparse(case):
    common.check_sparse(case)


@pytest.mark.parametrize("case", [case for case in CASES if case.ordered], ids=str)
def test_methods_in_order(case):
    common.check_methods_agree_in_order(case)


@every_case
def test_damping(case):
    common.check_damping(case)
