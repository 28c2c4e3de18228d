"""The audit itself: a table in, an :class:`~skinfluence.audit.result.Audit` out."""

import numbers
import warnings

import numpy as np
from sklearn.metrics import average_precision_score, r2_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC, LinearSVR

from .._partitions import refuse_dask
from ..mislabel import MislabelDetector
from ..mislabel.committee import _scaled, default_committee
from .checks import Finding, high_leverage, table_warnings
from .result import Audit, Neighbour, Suspect
from .tables import UsageProblem, printable

ESTIMATORS = (
    "auto",
    "logistic",
    "ridge",
    "linear-svm",
    "kernel",
    "forest",
    "extra-trees",
    "boosting",
    "knn",
)
N_DRIVING = 10
N_BELOW = 5  # rows shown that were not flagged


def audit_table(
    table,
    target,
    *,
    id=None,
    task="auto",
    estimator="auto",
    exclude=(),
    contamination="auto",
    truth=None,
    n_top=50,
    n_evidence=3,
    random_state=0,
    source="table",
    on_stage=None,
):
    """Audit the labels of a table.

    Parameters
    ----------
    table : pandas.DataFrame
    target : str
        The column whose labels are doubted.
    id : str, optional
        Column that names rows; no feature.
    task : {"auto", "classification", "regression"}
    estimator : str
        One of ``ESTIMATORS``: who judges.
    exclude : list of str
        Columns not to learn from.
    contamination : "auto" or float
    truth : str, optional
        Column of true targets, where they are known: gives the detection curve.
    n_top : int
        Flagged rows to explain; a few that are not flagged follow.
    n_evidence : int
        Rows for and against each.
    random_state : int
    source : str
        Name of the table, for the report.
    on_stage : callable, optional
        Called with a sentence as each stage begins.

    Returns
    -------
    Audit

    Raises
    ------
    UsageProblem
        If the table cannot be audited as asked.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skinfluence.audit import audit_table
    >>> table = load_iris(as_frame=True).frame
    >>> audit = audit_table(table, "target", estimator="logistic")
    >>> audit.task, audit.n_rows, audit.n_features
    ('classification', 150, 4)
    """
    refuse_dask(table, "audit_table")
    stage = on_stage or (lambda text: None)
    stage("reading columns")
    features, y, truths, names, findings = _columns(table, target, id, exclude, truth)
    y, classify = _targets(y, task, target)
    X, columns = _vectorise(features)
    judges = _judges(estimator, X, y, classify, random_state, task)
    findings += _rare_classes(y) if classify else []
    stage("looking for constant, duplicate and leaking columns")
    findings += table_warnings(features, y, classify, random_state)
    stage("judging every row by models that have not seen it")
    detector = MislabelDetector(judges, contamination=contamination, random_state=random_state)
    try:
        detector.fit(X, y)
    except ValueError as error:
        raise UsageProblem(f"the table cannot be judged: {printable(error, 300)}") from error
    stage("asking which rows speak for and against the suspects")
    explainer = detector.explainer_
    findings += high_leverage(explainer.leverage_)
    suspects = _suspects(detector, features, names, n_top, n_evidence)
    kept = detector.sample_indices_
    effect = detector.removal_effect(X[kept], y[kept])
    flagged = detector.ranking_[detector.is_mislabeled_[detector.ranking_]]
    return Audit(
        source=source,
        target=target,
        task="classification" if classify else "regression",
        n_rows=len(y),
        n_features=features.shape[1],
        contamination=detector.contamination_,
        n_flagged=int(detector.is_mislabeled_.sum()),
        members=[(m.name, m.how, m.weight) for m in detector.members_],
        suspects=suspects,
        driving=_driving(explainer, y, names),
        scores=_scores(explainer, y, classify),
        findings=findings,
        flagged_rows=flagged,
        flagged_suggestions=detector.suggested_labels_[flagged],
        qualities=detector.label_quality_,
        quality_by_class=_by_class(detector, y) if classify else {},
        classes=detector.classes_.tolist() if classify else None,
        noise_matrix=detector.noise_matrix_ if classify else None,
        removal={"loss": effect.loss, "loss_without": effect.loss_without},
        curve=_curve(detector, y, truths),
    )


def _columns(table, target, id, exclude, truth):
    """Feature columns, targets, true targets, row names, findings; rows without target go."""
    for option, name in [("--target", target), ("--id", id), ("--truth", truth)] + [
        ("--exclude", name) for name in exclude
    ]:
        if name is not None and name not in table.columns:
            known = ", ".join(printable(c, 40) for c in table.columns[:20])
            raise UsageProblem(f"{option}: no column {printable(name, 60)!r}; there are {known}")
    findings = []
    missing = table[target].isna().to_numpy()
    if missing.all():
        raise UsageProblem(f"the target column {printable(target)} is empty")
    if missing.any():
        text = f"{int(missing.sum())} rows without a target were left out"
        findings.append(Finding("missing target", text, []))
        table = table[~missing]
    names = table.index.to_numpy() + 1 if id is None else table[id].to_numpy()
    names = np.array([printable(name, 60) for name in names.tolist()], dtype=object)
    drop = {target, id, truth, *exclude} - {None}
    features = table[[c for c in table.columns if c not in drop]].reset_index(drop=True)
    if features.shape[1] == 0:
        raise UsageProblem("no column is left to learn from")
    truths = None if truth is None else table[truth].to_numpy()
    return features, table[target], truths, names, findings


def _targets(column, task, target):
    """Targets as an array, and whether they are labels."""
    numeric = column.dtype.kind in "iuf"
    if task == "regression" and not numeric:
        raise UsageProblem(
            f"--task regression needs numbers, but {printable(target)} holds {column.dtype}"
        )
    if numeric:
        y = column.to_numpy()
        many = len(np.unique(y)) > max(20, len(y) / 10)
        classify = task == "classification" or (
            task == "auto" and not many and bool((y == np.round(y)).all())
        )
    else:
        y = np.array([str(v) for v in column.tolist()])
        classify = True
    n_labels = len(np.unique(y))
    if classify and n_labels < 2:
        raise UsageProblem(f"the target {printable(target)} has one value only: {y[0]}")
    if classify and n_labels > len(y) / 2:
        raise UsageProblem(
            f"the target {printable(target)} has {n_labels} labels in {len(y)} rows; name a column "
            "of classes, or use --task regression for a number"
        )
    if not classify and not np.isfinite(y.astype(float)).all():
        raise UsageProblem(f"the target {printable(target)} holds infinite values")
    return (y if classify else y.astype(float)), classify


def _vectorise(features):
    """Columns as numbers, by skrub's TableVectorizer."""
    try:
        from skrub import TableVectorizer
    except ImportError as error:
        raise UsageProblem("an audit needs skrub: pip install 'skinfluence[cli]'") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = TableVectorizer().fit_transform(features)
    X = frame.to_numpy(dtype=np.float64)
    X[np.isinf(X)] = np.nan
    if X.shape[1] == 0:
        raise UsageProblem("no column holds anything to learn from")
    return X, [str(name) for name in frame.columns]


def _judges(name, X, y, classify, seed, task):
    """``estimators`` of the detector for a name on the command line."""
    if name not in ESTIMATORS:
        raise UsageProblem(f"--estimator {printable(name)!r} is not one of {', '.join(ESTIMATORS)}")
    n_classes = len(np.unique(y)) if classify else None
    committee = default_committee(X, n_classes, seed, n_jobs=-1)
    if name == "auto":
        return list(committee.items())
    fits_task = {"logistic": True, "ridge": False}.get(name, classify)
    if fits_task != classify:
        other = "ridge" if name == "logistic" else "logistic"
        raise UsageProblem(f"--estimator {name} does not judge such a target; use {other}")
    scaled = _scaled(X)
    if name == "linear-svm":
        return make_pipeline(*scaled, LinearSVC(C=0.1) if classify else LinearSVR(C=0.1))
    if name == "knn":
        return make_pipeline(
            *scaled, (KNeighborsClassifier if classify else KNeighborsRegressor)(15)
        )
    key = {"logistic": "linear", "ridge": "linear", "extra-trees": "extra trees"}.get(name, name)
    return [(name, committee[key])]


def _rare_classes(y):
    labels, counts = np.unique(y, return_counts=True)
    alone = labels[counts == 1]
    if len(alone) == 0:
        return []
    names = ", ".join(printable(label, 40) for label in alone[:8])
    text = f"{len(alone)} labels occur once, so nothing can confirm them: {names}"
    return [Finding("rare label", text, np.flatnonzero(np.isin(y, alone)).tolist())]


def _suspects(detector, features, names, n_top, n_evidence):
    flagged = detector.is_mislabeled_
    ranked = detector.ranking_
    below = ranked[~flagged[ranked]][:N_BELOW]
    rows = np.concatenate([ranked[flagged[ranked]][:n_top], below])
    y, quality = detector._y, detector.label_quality_
    likelier, own = suggestions(detector), own_probability(detector)
    suspects = {
        int(i): Suspect(
            row=int(i),
            name=names[i],
            label=y[i],
            suggested=likelier[0][i],
            quality=float(quality[i]),
            probability=float(own[i]),
            suggested_probability=float(likelier[1][i]),
            flagged=bool(flagged[i]),
            values=dict(zip(features.columns, features.iloc[i].tolist(), strict=True)),
        )
        for i in rows
    }
    found = detector.explain(rows, k=n_evidence)
    for line in found.itertuples(index=False):
        other = Neighbour(
            int(line.other), names[line.other], line.other_label, float(line.influence)
        )
        suspect = suspects[int(line.row)]
        (suspect.supports if line.role == "supports" else suspect.contradicts).append(other)
    return list(suspects.values())


def suggestions(detector):
    """Likeliest other label of every row and its held-out probability (prediction and NaN)."""
    if detector.classes_ is None:
        return detector.likeliest_other_, np.full(len(detector._y), np.nan)
    codes = np.searchsorted(detector.classes_, detector.likeliest_other_)
    return detector.likeliest_other_, detector.predict_proba_[np.arange(len(codes)), codes]


def own_probability(detector):
    """Held-out probability of every row's label; NaN in regression."""
    if detector.classes_ is None:
        return np.full(len(detector._y), np.nan)
    codes = np.searchsorted(detector.classes_, detector._y)
    return detector.predict_proba_[np.arange(len(codes)), codes]


def _driving(explainer, y, names):
    """Rows by how far their own loss would rise without them."""
    values = explainer.self_influence()
    rows = np.argsort(-values, kind="stable")[:N_DRIVING]
    return [(names[i], y[i], float(values[i])) for i in rows]


def _scores(explainer, y, classify):
    """Fitted and leave-one-out score of the explaining model."""
    objective = explainer.objective_
    try:
        outputs = explainer.effects_.left_out_outputs()
    except ValueError:  # a row of leverage one, or the only one of its class
        return {}
    if not classify:
        score = [r2_score(y, objective.head.decision(Z, 0)) for Z in (objective.outputs, outputs)]
        return {"measure": "R²", "fitted": score[0], "left_out": score[1]}
    codes = np.searchsorted(objective.head.classes, y)
    guess = [objective.head.predicted_index(Z) for Z in (objective.outputs, outputs)]
    score = [float((g == codes).mean()) for g in guess]
    return {"measure": "accuracy", "fitted": score[0], "left_out": score[1]}


def _by_class(detector, y):
    out = {}
    for label in detector.classes_:
        mask = y == label
        quality = float(detector.label_quality_[mask].mean())
        out[label] = (int(mask.sum()), int(detector.is_mislabeled_[mask].sum()), quality)
    return out


def _curve(detector, y, truths):
    """``(looked at, found, average precision)`` where the true targets are known."""
    if truths is None:
        return None
    same = [str(a) == str(b) for a, b in zip(y.tolist(), truths.tolist(), strict=True)]
    wrong = ~np.array(same)
    if isinstance(y[0], numbers.Real) and truths.dtype.kind in "iuf":
        wrong = y != truths
    if not wrong.any():
        return None
    found = np.cumsum(wrong[detector.ranking_])
    precision = average_precision_score(wrong, -detector.label_quality_)
    points = np.unique(np.linspace(1, len(y), min(len(y), 400)).round().astype(int))
    return points, found[points - 1], float(precision)
