"""scikit-learn estimators whose own fit stops early, finished by scipy on the stated objective."""

import numpy as np
from scipy.optimize import root
from sklearn.linear_model import HuberRegressor
from sklearn.linear_model._huber import _huber_loss_and_gradient


class TightHuber(HuberRegressor):
    """The root of scikit-learn's own gradient: its L-BFGS stops at a relative decrease of 2e-9."""

    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        weights = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, float)

        def gradient(theta):
            return _huber_loss_and_gradient(theta, X, y, self.epsilon, self.alpha, weights)[1]

        bias = [self.intercept_] if self.fit_intercept else []
        theta = root(gradient, [*self.coef_, *bias, self.scale_], tol=1e-15).x
        self.coef_, self.scale_ = theta[: X.shape[1]], theta[-1]
        self.intercept_ = theta[-2] if self.fit_intercept else 0.0
        return self
