"""Discriminant analysis and naive Bayes: exact closed forms."""

import numpy as np
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.naive_bayes import GaussianNB

from ..common import Case

rng = np.random.default_rng(3)
N, D = 70, 3
X = rng.standard_normal((N, D)) @ rng.standard_normal((D, D)) + 2
SCORES = X @ rng.standard_normal((D, 3)) + rng.gumbel(size=(N, 3))
SCORES -= np.median(SCORES, axis=0)
BINARY = np.where(SCORES[:, 0] > SCORES[:, 1], "yes", "no")
MANY = np.array(["a", "b", "c"])[SCORES.argmax(axis=1)]
WEIGHTS = rng.uniform(0.5, 2, N)


def unweighted(name, estimator, y):
    """Estimators whose fit takes neither weights nor sparse rows."""
    return Case(name, estimator, X, y, takes_weights=False, takes_sparse=False)


def bayes(name, y, weights=None, **options):
    """Naive Bayes; smoothing counts rows, whatever their weight."""
    follow = options.pop("weights_follow", True)
    estimator = GaussianNB(**options)
    return Case(name, estimator, X, y, weights, takes_sparse=False, weights_follow=follow)


CASES = [
    unweighted("lda-binary", LinearDiscriminantAnalysis(), BINARY),
    unweighted("lda-many", LinearDiscriminantAnalysis(), MANY),
    unweighted("lda-lsqr", LinearDiscriminantAnalysis(solver="lsqr"), MANY),
    unweighted("lda-eigen", LinearDiscriminantAnalysis(solver="eigen"), MANY),
    unweighted("lda-priors", LinearDiscriminantAnalysis(priors=[0.5, 0.3, 0.2]), MANY),
    unweighted(
        "lda-lsqr-priors", LinearDiscriminantAnalysis(solver="lsqr", priors=[0.7, 0.3]), BINARY
    ),
    unweighted("qda-binary", QuadraticDiscriminantAnalysis(), BINARY),
    unweighted("qda-many", QuadraticDiscriminantAnalysis(reg_param=0.2), MANY),
    unweighted("qda-priors", QuadraticDiscriminantAnalysis(priors=[0.5, 0.3, 0.2]), MANY),
    bayes("bayes-binary", BINARY, WEIGHTS, var_smoothing=0.0),
    bayes("bayes-many", MANY, WEIGHTS, var_smoothing=0.0),
    bayes("bayes-priors", MANY, priors=[0.5, 0.3, 0.2], var_smoothing=0.0),
    bayes("bayes-default", BINARY, WEIGHTS, weights_follow=False),
    bayes("bayes-smooth", MANY, WEIGHTS, var_smoothing=0.3, weights_follow=False),
]
