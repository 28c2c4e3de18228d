"""What an estimator reads off its data at the fit, and every method but refits holds."""

import warnings

import numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.svm import SVC, SVR

WIDTHS = ("rbf", "poly", "sigmoid")  # kernels that know a gamma


def warn_held(final, refit, stacklevel=3):
    """Say which data-dependent parameters of the last step a removal does not move.

    ``refit`` names the option that would have them follow.
    """
    phrases = list(dict.fromkeys(held(final)))
    if phrases:
        warnings.warn(
            f"{'; '.join(phrases[:3])}: a fit without a row may come to another value. Give the "
            f"value itself to have it fixed, or use {refit}.",
            UserWarning,
            stacklevel=stacklevel,
        )


def held(estimator):
    """Phrases, one a data-dependent parameter."""
    for part in getattr(estimator, "estimators_", ()):
        yield from held(part)
    if isinstance(estimator, SVC | SVR):
        kernel = estimator.kernel if isinstance(estimator.kernel, str) else None
        if kernel in WIDTHS and estimator.gamma == "scale":
            yield f"gamma='scale' is held at {estimator._gamma:.4g}"
    elif isinstance(estimator, GaussianProcessRegressor):
        if estimator.optimizer is not None and estimator.kernel_.n_dims:
            yield f"the kernel is held at {estimator.kernel_}"
    elif type(estimator).__name__.endswith("CV") and _candidates(estimator) > 1:
        for name in ("alpha_", "C_", "l1_ratio_"):
            if hasattr(estimator, name):
                value = np.unique(getattr(estimator, name)).tolist()
                chosen = value[0] if len(value) == 1 else value
                yield f"{name[:-1]} is held at {chosen}, which {type(estimator).__name__} chose"


def _candidates(estimator):
    """How many penalties a cross-validated model chose among."""
    count = 1
    for name in ("alphas", "Cs", "l1_ratio", "l1_ratios"):
        value = getattr(estimator, name, None)
        whole = isinstance(value, int | np.integer) and name in ("alphas", "Cs")
        count *= int(value) if whole else max(1, np.size(value))
    return count
