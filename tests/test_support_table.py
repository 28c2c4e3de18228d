"""Every cell of the documentation's table of models: a small refit check, or its refusal."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from skinfluence.methods import METHODS

path = Path(__file__).parents[1] / "doc" / "support_table.py"
spec = importlib.util.spec_from_file_location("support_table", path)
support = importlib.util.module_from_spec(spec)
spec.loader.exec_module(support)
# One pass after another over the rows ends near the optimum, not at it: a refit ends elsewhere.
# A refitted stack deals its folds anew, where the methods hold them.
ELSEWHERE = ("SGD", "PassiveAggressive", "Perceptron", "Stacking")


@pytest.mark.parametrize("name", support.models())
def test_cells(name):
    cls = support.models()[name]
    refit = support.explain(cls, "refit")
    for method in METHODS:
        results = refit if method == "refit" else support.explain(cls, method)
        for target, found in results.items():
            where = f"{method}/{target}"
            if isinstance(found, Exception):
                assert len(str(found)) > 40, f"{where}: {found!r} explains nothing"
                continue
            assert found.shape == (support.M, support.N)
            assert np.isfinite(found).all() and found.any(), where
            desired = refit[target]
            at_optimum = not name.startswith(ELSEWHERE)
            if method == "exact" and at_optimum and not isinstance(desired, Exception):
                scale = np.abs(desired).max()
                np.testing.assert_allclose(found, desired, atol=2e-4 * scale, err_msg=where)


def test_page_says_what_is_explained_and_why_not():
    page = support.page(support.table(["KNeighborsRegressor", "NuSVR", "Ridge"]))
    rows = page.split("   * - ")[1:]
    assert [row.split("\n")[0] for row in rows[1:]] == [
        "``KNeighborsRegressor``",
        "``NuSVR``",
        "``Ridge``",
    ]
    methods = [f"``{method}``" for method in METHODS]
    assert [line.strip("- ") for line in rows[0].splitlines()[1:] if line] == methods
    assert rows[3].count("loss, decision") >= 5
    assert "loss" not in rows[2].split("Why not")[0]
    assert "nu fixes the total" in page and "looks up the next neighbour" in page
