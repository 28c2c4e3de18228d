"""Which method explains which target of which model: asked of the package itself.

Every registered scikit-learn model is fitted on a few rows and every method and target is tried.
``python doc/support_table.py`` prints the page that the documentation shows.
"""

import re
import warnings

import numpy as np
from sklearn.base import is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import StackingClassifier, StackingRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, Ridge
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.svm import LinearSVR

from skinfluence import InfluenceExplainer
from skinfluence.methods import METHODS
from skinfluence.objectives import objective_for

# of one query each; scalar targets are functions of these
TARGETS = ("loss", "decision", "proba", "log_odds", "brier")
N, M = 30, 8
SMALL_NET = {"hidden_layer_sizes": (4,), "solver": "lbfgs", "alpha": 0.5, "random_state": 0}
# Models whose constructor needs something, or whose default is large.
EXAMPLES = {
    OneVsRestClassifier: lambda: OneVsRestClassifier(tight(LogisticRegression())),
    OneVsOneClassifier: lambda: OneVsOneClassifier(tight(LogisticRegression())),
    MultiOutputClassifier: lambda: MultiOutputClassifier(tight(LogisticRegression())),
    MultiOutputRegressor: lambda: MultiOutputRegressor(Ridge()),
    TransformedTargetRegressor: lambda: TransformedTargetRegressor(
        Ridge(), func=np.arcsinh, inverse_func=np.sinh
    ),
    LogisticRegressionCV: lambda: LogisticRegressionCV(
        Cs=[0.5], cv=2, l1_ratios=(0.0,), use_legacy_attributes=False, scoring="accuracy", tol=1e-10
    ),
    GaussianProcessRegressor: lambda: GaussianProcessRegressor(alpha=0.1, optimizer=None),
    # its default loss is solved in the dual alone
    LinearSVR: lambda: LinearSVR(dual=True, tol=1e-10, max_iter=100_000, random_state=0),
    MLPClassifier: lambda: MLPClassifier(**SMALL_NET),
    MLPRegressor: lambda: MLPRegressor(**SMALL_NET),
    CalibratedClassifierCV: lambda: CalibratedClassifierCV(LogisticRegression()),
    StackingClassifier: lambda: StackingClassifier([("base", tight(LogisticRegression()))], cv=2),
    StackingRegressor: lambda: StackingRegressor([("base", Ridge())], Ridge(), cv=2),
}


def models():
    """Registered scikit-learn classes by name."""
    known = [cls for cls in objective_for.registry if cls.__module__.startswith("sklearn.")]
    return {cls.__name__: cls for cls in sorted(known, key=lambda cls: cls.__name__)}


def tight(model):
    """Tolerances that leave nothing to a solver, and kernel widths that do not follow the data."""
    options = {"tol": 1e-10, "max_iter": 100_000, "gamma": 0.3, "dual": False, "nu": 0.3}
    if type(model).__name__.endswith(("LassoCV", "ElasticNetCV")):
        options |= {"alphas": [0.05], "cv": 2}  # a refit chooses alpha anew
    known = model.get_params()
    if "max_iter" not in known or "n_iter_no_change" in known:  # tol is then no stopping rule
        options.pop("dual")
    return model.set_params(**{k: v for k, v in options.items() if k in known})


def example(cls):
    """``(estimator, X, y)``: a small fit of a model."""
    estimator = EXAMPLES[cls]() if cls in EXAMPLES else tight(cls())
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, 3))
    score = X @ [1.0, -1.0, 0.5] + rng.standard_normal(N)
    # positive targets: what a count or gamma model takes, the others as well
    y = (score > 0).astype(int) if is_classifier(estimator) else np.exp(score / 3)
    several = cls.__name__.startswith("Multi")
    return estimator, X, np.column_stack([y, np.roll(y, 1)]) if several else y


def explain(cls, method):
    """``{target: influences of every row on a few}``; an error where it is refused."""
    out = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator, X, y = example(cls)
        try:
            explainer = InfluenceExplainer(estimator, method=method).fit(X, y)
        except (ValueError, TypeError) as error:
            return dict.fromkeys(TARGETS, error)
        for target in TARGETS:
            try:
                out[target] = explainer.set_params(target=target).transform(X[:M], y[:M])
            except (ValueError, TypeError) as error:
                out[target] = error
    return out


def table(names=None):
    """``{model: {method: {target: None, or the reason of its refusal}}}``."""
    known = models()
    out = {}
    for name in known if names is None else names:
        out[name] = {}
        for method in METHODS:
            results = explain(known[name], method)
            out[name][method] = {
                target: str(value) if isinstance(value, Exception) else None
                for target, value in results.items()
            }
    return out


def page(cells):
    """The page in reStructuredText, from a :func:`table`."""
    lines = [
        ":html_theme.sidebar_secondary.remove:",
        "",
        "Supported models",
        "================",
        "",
        "Which targets each method explains, found by trying every model on a few rows "
        "(``doc/support_table.py``). A dash is refused by name; the reasons stand below.",
        "",
        ".. list-table::",
        "   :class: support",
        "   :header-rows: 1",
        "",
    ]
    lines += _row(["Model", *[f"``{method}``" for method in METHODS]])
    for name, methods in cells.items():
        found = [
            ", ".join(t for t, reason in m.items() if reason is None) for m in methods.values()
        ]
        lines += _row([f"``{name}``", *[targets or "–" for targets in found]])
    lines += ["", "Why not", "-------", ""]
    for reason, models in _reasons(cells).items():
        lines.append(re.sub(r"([\\\\`*_|])", r"\\\1", reason))
        for where, names in models.items():
            lines.append(f"   | {', '.join(f'``{name}``' for name in names)}: {where}")
        lines.append("")
    return "\n".join(lines)


def _reasons(cells):
    """``{reason: {what is refused: [models]}}``."""
    out = {}
    for name, methods in cells.items():
        refused = {}
        for method, targets in methods.items():
            for target, reason in targets.items():
                if reason is not None:
                    refused.setdefault(reason, {}).setdefault(method, []).append(target)
        for reason, where in refused.items():
            out.setdefault(reason, {}).setdefault(_refused(where), []).append(name)
    return out


def _refused(where):
    """In words, the cells ``{method: [targets]}``."""
    methods = {}
    for method, targets in where.items():
        methods.setdefault(tuple(targets), []).append(method)
    parts = []
    for targets, names in methods.items():
        by = "every method" if len(names) == len(METHODS) else ", ".join(names)
        what = "" if targets == TARGETS else f" ({', '.join(targets)})"
        parts.append(by + what)
    return "; ".join(parts)


def _row(cells):
    return [f"   {'* -' if k == 0 else '  -'} {cell}" for k, cell in enumerate(cells)]


if __name__ == "__main__":
    print(page(table()))
