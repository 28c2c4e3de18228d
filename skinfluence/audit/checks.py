"""What else is wrong with a table: duplicates that disagree, constant columns, leakage."""

from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

# A single column that predicts the target this well, on rows the tree has not seen, is suspect.
LEAKS_FROM = 0.98
ROWS_FOR_LEAKAGE = 5_000
HIGH_LEVERAGE = 0.9


@dataclass
class Finding:
    """A finding on the whole table.

    Attributes
    ----------
    kind : str
        "constant", "duplicates", "leakage", "leverage", "missing target", ...
    text : str
    rows : list of int
        Positions concerned.
    """

    kind: str
    text: str
    rows: list


def table_warnings(features, y, classify, seed=0):
    """Warnings on the raw columns, as a list of :class:`Finding`."""
    found = constant_columns(features)
    if classify:
        found += disagreeing_duplicates(features, y)
    return found + leaking_columns(features, y, classify, seed)


def constant_columns(features):
    """Columns with one value."""
    names = [name for name in features.columns if features[name].nunique(dropna=False) <= 1]
    if not names:
        return []
    return [Finding("constant", f"constant columns, which say nothing: {_list(names)}", [])]


def disagreeing_duplicates(features, y):
    """Rows equal in every column but the target."""
    import pandas as pd

    keys = pd.util.hash_pandas_object(features, index=False).to_numpy()
    _, group = np.unique(keys, return_inverse=True)
    codes = np.unique(y, return_inverse=True)[1]
    pairs = np.unique(np.column_stack([group, codes]), axis=0)
    several = np.flatnonzero(np.bincount(pairs[:, 0]) > 1)
    rows = np.flatnonzero(np.isin(group, several))
    if len(rows) == 0:
        return []
    text = (
        f"{len(rows)} rows are equal to another in every column but carry different labels "
        f"({len(several)} groups)"
    )
    return [Finding("duplicates", text, rows.tolist())]


def leaking_columns(features, y, classify, seed=0):
    """Columns from which alone a small tree predicts the target almost without error."""
    rng = np.random.default_rng(seed)
    rows = np.arange(len(y))
    if len(y) > ROWS_FOR_LEAKAGE:
        rows = np.sort(rng.choice(rows, ROWS_FOR_LEAKAGE, replace=False))
    found = []
    for name in features.columns:
        score = _alone(features[name].iloc[rows], y[rows], classify, seed)
        if score >= LEAKS_FROM:
            measure = "balanced accuracy" if classify else "R²"
            text = (
                f"column {name} alone predicts the target ({measure} {score:.3f} on unseen rows): "
                "is it known before the target is?"
            )
            found.append(Finding("leakage", text, []))
    return found


def _alone(column, y, classify, seed):
    """Cross-validated score of a small tree on one column; words become numbers."""
    import pandas as pd

    if column.dtype.kind in "iufb":
        x = column.to_numpy(dtype=float)
    else:
        x = pd.factorize(column.astype(str), sort=True)[0].astype(float)
        if len(np.unique(x)) > len(x) / 2:
            return 0.0  # a name for each row predicts nothing about another
    if classify:
        codes = np.unique(y, return_inverse=True)[1]
        often = np.bincount(codes)[codes] >= 3
        x, codes = x[often], codes[often]
        if len(np.unique(codes)) < 2:
            return 0.0
        tree = DecisionTreeClassifier(max_leaf_nodes=64, min_samples_leaf=3, random_state=seed)
        folds = StratifiedKFold(3, shuffle=True, random_state=seed)
        options = dict(cv=folds, scoring="balanced_accuracy")
        return cross_val_score(tree, x[:, None], codes, **options).mean()
    tree = DecisionTreeRegressor(min_samples_leaf=3, random_state=seed)
    folds = KFold(3, shuffle=True, random_state=seed)
    return cross_val_score(tree, x[:, None], y, cv=folds, scoring="r2").mean()


def high_leverage(leverage):
    """Rows that nearly determine their own fit in the explaining model."""
    rows = np.flatnonzero(leverage > HIGH_LEVERAGE)
    if len(rows) == 0:
        return []
    text = (
        f"{len(rows)} rows have leverage above {HIGH_LEVERAGE}: the linear model follows each of "
        "them wherever it goes, and its errors there stay hidden"
    )
    return [Finding("leverage", text, rows.tolist())]


def _list(names, longest=8):
    shown = ", ".join(map(str, names[:longest]))
    return shown + (f" and {len(names) - longest} more" if len(names) > longest else "")
