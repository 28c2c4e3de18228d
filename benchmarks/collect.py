"""Run benchmarks one after the other and write their output into ``benchmarks/README.md``.

    python benchmarks/collect.py CACHE RIVALS [NAME ...]

CACHE is a folder for what is made once (truths of the net benchmark, ten million rows), RIVALS the
one that ``install_rivals.sh`` filled. Without names all are run, which takes hours; each named one
is run anew, and the page is made of the latest run of each, kept in ``benchmarks/results``.
"""

import datetime
import json
import os
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}

# name: (title, script and arguments, environment of the rivals or None, variables)
BENCHMARKS = {
    "all_pairs": ("All pairs against the bare product and pyinfluence", ["all_pairs.py"], None, {}),
    "streams": ("Streams of rows that fit no memory", ["streams.py"], None, {}),
    "ten_million": ("Ten million rows from a memmap", ["ten_million.py", "{cache}"], None, {}),
    "exact_leave_one_out": (
        "Exact leave-one-out against warm-started refits",
        ["exact_leave_one_out.py"],
        None,
        {},
    ),
    "svc_leave_one_out": ("Leave-one-out of support vectors", ["svc_leave_one_out.py"], None, {}),
    "cross_validation": (
        "Cross-validation and grid search against scikit-learn's",
        ["cross_validation.py"],
        None,
        {},
    ),
    "stages": ("Pipelines followed against kept", ["stages.py"], None, {}),
    "cost_curves": ("Cost against rows, columns, classes, queries", ["cost_curves.py"], None, {}),
    "dask_workers": ("Two dask workers against one", ["dask_workers.py"], None, {}),
    "nets": (
        "Nets against kronfluence, pyDVL, captum, dattri and curvlinops",
        ["nets.py", "{cache}/nets", "--rivals", "{rivals}"],
        None,
        ONE_THREAD,
    ),
    "net_products": ("Products with a net's curvature", ["net_products.py"], "curv", ONE_THREAD),
    "net_damping": ("Damping of overfitted nets", ["net_damping.py"], None, ONE_THREAD),
    "ensembles": ("Ensembles of nets", ["ensembles.py", "{cache}/nets"], None, ONE_THREAD),
    "multi_stage": ("From a fine-tuned net to its pretraining", ["multi_stage.py"], None, {}),
    "groups": ("Groups of rows", ["groups.py"], None, {}),
    "targets": ("Targets against refits and pyinfluence", ["targets.py"], "rivals", {}),
    "fairness": ("Rows removed for fairness and robustness", ["fairness.py"], None, {}),
    "mislabel": (
        "Wrong labels: average precision and F1 against cleanlab and pyinfluence",
        ["mislabel.py", "show", "--lines", "{cache}/mislabel.jsonl"],
        "rivals",
        {},
    ),
    "mislabel_time": (
        "Time to find wrong labels against cleanlab",
        ["mislabel.py", "time"],
        "rivals",
        ONE_THREAD,
    ),
    "audit_scale": ("Audit of a growing table", ["audit_scale.py"], None, {}),
}

# Ratios and figures first: label, benchmark, pattern with one group, target
NUMBER = r"([\d.e+-]+)"
SUMMARY = [
    (
        "all pairs, float64: time over the bare product",
        "all_pairs",
        rf"influence float64 / bare float64: {NUMBER}",
        "≤ 1.25",
    ),
    (
        "all pairs: time over pyinfluence's",
        "all_pairs",
        rf"influence float64 / pyinfluence: {NUMBER}",
        "≤ 1",
    ),
    (
        "all pairs: newton over first order",
        "all_pairs",
        rf"newton float64 / influence float64: {NUMBER}",
        "≤ 3",
    ),
    (
        "all pairs: float32 over float64",
        "all_pairs",
        rf"influence float64 / influence float32: {NUMBER}",
        "≥ 1.6",
    ),
    (
        "leave-one-out of 200 000 rows over one fit",
        "streams",
        rf"newton self-influence / LogisticRegression\(\).fit: {NUMBER}",
        "≤ 0.5",
    ),
    (
        "top 10 of a million rows over the bare blocks",
        "streams",
        rf"top_influences / bare blocks: {NUMBER}",
        "≤ 1.6",
    ),
    (
        "top 10 of ten million rows: speed of the bare product",
        "ten_million",
        r"speed of the bare product reached: (\d+%)",
        "≥ 70%",
    ),
    (
        "ten million rows: peak memory, MB",
        "ten_million",
        rf"peak resident memory, mapped file pages included: {NUMBER}",
        "≤ 24 000",
    ),
    (
        "exact leave-one-out, n = 5 000: speed over refits",
        "exact_leave_one_out",
        r"(\d+) x refits",
        "≥ 40",
    ),
    (
        "exact leave-one-out, n = 100 000, tol 1e-5: speed over refits",
        "exact_leave_one_out",
        r"tol=1e-05: .* fits; (\d+) x refits",
        "≥ 1 000",
    ),
    (
        "5 folds: speed over scikit-learn's",
        "cross_validation",
        rf"5 folds, default tol: .* = {NUMBER} x",
        "≥ 3",
    ),
    (
        "5 folds, scikit-learn by newton-cholesky: speed",
        "cross_validation",
        rf"5 folds, .*newton-cholesky.* = {NUMBER} x",
        "≥ 3",
    ),
    (
        "exact leave-one-out, n = 5 000: speed over scikit-learn's",
        "cross_validation",
        r"exact leave-one-out n=5000, .* = (\d+) x",
        "≥ 200",
    ),
    (
        "exact leave-one-out, n = 100 000: speed over scikit-learn's",
        "cross_validation",
        r"exact leave-one-out n=100000, .* = (\d+) x",
        "≥ 5 000",
    ),
    (
        "search on wine, leave-one-out: speed over scikit-learn's",
        "cross_validation",
        r"search, wine: .* auto .* = (\d+) x, exact",
        "≥ 50",
    ),
    (
        "scaler followed over kept",
        "stages",
        rf"scaler \+ logistic\s+influence .*ratio {NUMBER}",
        "≤ 3",
    ),
    (
        "scaler and components followed over kept",
        "stages",
        rf"scaler \+ PCA \+ logistic\s+influence .*ratio {NUMBER}",
        "small",
    ),
    (
        "two dask workers over one: speed",
        "dask_workers",
        rf"two workers .* {NUMBER} x",
        "≥ 1.6",
    ),
    (
        "digits net: LDS of the default",
        "nets",
        r"default +[\d.]+ +\d+ +([\d.]+)",
        "≥ .73",
    ),
    (
        "digits net: time of the default over exact",
        "nets",
        rf"time of default / dense reference: {NUMBER}",
        "≤ 0.2",
    ),
    (
        "digits net: LDS of EKFAC",
        "nets",
        r"\nEKFAC +[\d.]+ +\d+ +([\d.]+)",
        "≥ .58",
    ),
    (
        "digits net: time of EKFAC over kronfluence's",
        "nets",
        rf"time of EKFAC / kronfluence EKFAC: {NUMBER}",
        "≤ 0.2",
    ),
    (
        "digits net: time of EKFAC over pyDVL's",
        "nets",
        rf"time of EKFAC / pyDVL EKFAC: {NUMBER}",
        "≤ 0.2",
    ),
    (
        "wrong labels, uniform 10 %: average precision",
        "mislabel",
        r"AP, uniform noise, 10%, (?:.*\n)+?skinfluence .* ([\d.]+)",
        "≥ .78",
    ),
    (
        "the same, best of cleanlab",
        "mislabel",
        r"AP, uniform noise, 10%, (?:.*\n)+?cleanlab, average .* ([\d.]+)",
        "below",
    ),
    (
        "functional AUROC: correlation with refits",
        "targets",
        rf"AUROC +newton +slope +[\d.]+ +correlation {NUMBER}",
        "≥ .99",
    ),
    (
        "the same, pyinfluence",
        "targets",
        rf"AUROC +pyinfluence +slope +[\d.]+ +correlation {NUMBER}",
        "below",
    ),
]


def machine():
    """One line on the machine and the versions."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"model name\s*:\s*(.+)", info.read_text())
        cpu = found.group(1) if found else cpu
    parts = [f"{os.cpu_count()} cores of {cpu}, Python {platform.python_version()}"]
    for name in ("numpy", "scipy", "scikit-learn", "torch"):
        try:
            parts.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(parts)


def run(name, cache, rivals):
    """Run one benchmark and keep what it printed."""
    _, arguments, environment, variables = BENCHMARKS[name]
    python = sys.executable if environment is None else f"{rivals}/venv-{environment}/bin/python"
    filled = [part.format(cache=cache, rivals=rivals) for part in arguments]
    start = time.perf_counter()
    paths = {"PYTHONPATH": str(HERE.parent)} if environment else {}
    done = subprocess.run(
        [python, str(HERE / filled[0]), *filled[1:]],
        capture_output=True,
        text=True,
        env=os.environ | variables | paths,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-2000:]}")
    RESULTS.mkdir(exist_ok=True)
    keep(name, done.stdout, time.perf_counter() - start)


def keep(name, output, seconds):
    """Write one result with its date and machine."""
    record = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "seconds": round(seconds),
        "output": output.rstrip().splitlines(),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")


def page():
    """The page, from the kept results."""
    found = {
        name: json.loads((RESULTS / f"{name}.json").read_text())
        for name in BENCHMARKS
        if (RESULTS / f"{name}.json").exists()
    }
    lines = [
        "# Benchmarks",
        "",
        "Written by `collect.py` from what the scripts printed; each section is one run, and its "
        "ratios are taken within it. Run one yourself: `python benchmarks/SCRIPT`.",
        "",
        *summary(found),
    ]
    for name, record in found.items():
        title, arguments, *_ = BENCHMARKS[name]
        lines += [
            f"## {title}",
            "",
            f"`{' '.join(arguments).replace('{cache}', 'CACHE').replace('{rivals}', 'RIVALS')}`, "
            f"{record['date']}, {record['seconds']} s, {record['machine']}",
            "",
            "```text",
            *record["output"],
            "```",
            "",
        ]
    missing = [
        f"`{arguments[0]}`" for n, (_, arguments, *_) in BENCHMARKS.items() if n not in found
    ]
    if missing:
        lines += [f"Not run for this page: {', '.join(missing)}.", ""]
    (HERE / "README.md").write_text("\n".join(lines))


def summary(found):
    """The table of ratios, as far as their benchmarks were run."""
    rows = []
    for label, name, pattern, target in SUMMARY:
        if name in found:
            match = re.search(pattern, "\n".join(found[name]["output"]))
            rows.append(f"| {label} | {match.group(1) if match else 'not found'} | {target} |")
    if not rows:
        return []
    return ["| | found | wanted |", "|---|---|---|", *rows, ""]


def main(cache, rivals, *names):
    """Run the named benchmarks, or all, and write the page."""
    for name in names or BENCHMARKS:
        print(name, flush=True)
        run(name, cache, rivals)
        page()


if __name__ == "__main__":
    main(*sys.argv[1:])
