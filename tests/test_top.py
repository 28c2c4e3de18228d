"""The largest values of blocks in any order: those of a full sort, ties by position."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skinfluence._top import TopValues


def sorted_whole(values, k, by):
    scores = {"magnitude": np.abs(values), "helpful": values, "harmful": -values}[by]
    columns = np.broadcast_to(np.arange(values.shape[1]), values.shape)
    order = np.lexsort((columns, -scores), axis=1)[:, :k]
    return order, np.take_along_axis(values, order, axis=1)


@pytest.mark.parametrize("by", ["magnitude", "helpful", "harmful"])
@pytest.mark.parametrize("k", [1, 7, 40])
@pytest.mark.parametrize("kind", ["distinct", "ties", "zeros"])
@pytest.mark.parametrize("limit", [0, 50, 10**6])
def test_equals_a_full_sort(kind, k, by, limit):
    rng = np.random.default_rng(0)
    values = rng.standard_normal((5, 300)).astype(np.float32)
    values = {"distinct": values, "ties": values.round(), "zeros": 0 * values}[kind]
    starts = rng.permutation(np.arange(0, 300, 20))
    top = TopValues(5, k, by)
    top.limit = limit  # sorted after every block, sometimes, or only at the end
    for start in starts:
        top.update(slice(start, start + 20), values[:, start : start + 20])
    indices, found = top.result()
    expected, sorted_values = sorted_whole(values, k, by)
    assert_array_equal(indices, expected)
    assert_array_equal(found, sorted_values)


def test_values_that_are_no_numbers_are_refused():
    top = TopValues(2, 3, "magnitude")
    top.update(slice(0, 4), np.array([[1.0, 2.0, 3.0, 4.0], [1.0, np.nan, np.nan, 4.0]]))
    with pytest.raises(ValueError, match="not numbers"):
        top.result()
