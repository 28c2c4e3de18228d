"""Kernel ridge regression and Gaussian processes."""

import numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern, WhiteKernel
from sklearn.kernel_ridge import KernelRidge

from ..common import Case

rng = np.random.default_rng(2)
N, D = 50, 3
X = rng.standard_normal((N, D))
VALUES = np.sin(X[:, 0]) + X[:, 1] + 0.3 * rng.standard_normal(N)
TWO = np.column_stack([VALUES, np.cos(VALUES)])
WEIGHTS = rng.uniform(0.5, 2, N)
NO_WEIGHTS = {"takes_weights": False, "takes_sparse": False}


def process(kernel, **options):
    """A Gaussian process whose kernel is not tuned."""
    return GaussianProcessRegressor(kernel, optimizer=None, **options)


CASES = [
    Case("kernel-ridge-linear", KernelRidge(alpha=2.0), X, VALUES, WEIGHTS),
    Case("kernel-ridge-rbf", KernelRidge(kernel="rbf", alpha=0.3, gamma=0.2), X, VALUES, WEIGHTS),
    Case("kernel-ridge-poly", KernelRidge(kernel="poly", degree=2), X, VALUES),
    Case("kernel-ridge-two", KernelRidge(kernel="rbf", gamma=0.2), X, TWO, WEIGHTS),
    Case("kernel-ridge-alphas", KernelRidge(kernel="rbf", alpha=[0.1, 3.0]), X, TWO, WEIGHTS),
    Case("process-rbf", process(RBF(1.5), alpha=0.1), X, VALUES, **NO_WEIGHTS),
    Case(
        "process-white",
        process(ConstantKernel(2.0) * Matern(2.0) + WhiteKernel(0.2), normalize_y=True),
        X,
        VALUES,
        **NO_WEIGHTS,
    ),
    Case(
        "process-two",
        process(RBF(1.0) + WhiteKernel(0.5), normalize_y=True),
        X,
        TWO,
        **NO_WEIGHTS,
    ),
]
