"""Run benchmarks one after the other and write their output into ``benchmarks/README.md``.

    python benchmarks/collect.py CACHE RIVALS [NAME ...]
    python benchmarks/collect.py page

CACHE is a folder for what is made once (truths of the net benchmark, ten million rows, lines of the
benchmark of wrong labels), RIVALS the one that ``install_rivals.sh`` filled. Without names all are
run, which takes hours; each named one is run anew, and the page is made of the latest run of each,
kept in ``benchmarks/results``; the second form makes the page alone. What the figures should be
stands in ``wanted``.
"""

import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import wanted

HERE = Path(__file__).parent
RESULTS = HERE / "results"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
PACKAGES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "torch",
    "cleanlab",
    "pyinfluence",
    "statsmodels",
    "curvlinops-for-pytorch",
)

# name: (title, script and arguments, environment of the rivals or None, variables)
BENCHMARKS = {
    "all_pairs": (
        "All pairs against the bare product and pyinfluence",
        ["all_pairs.py"],
        "rivals",
        {},
    ),
    "streams": ("Streams of rows that fit no memory", ["streams.py"], None, {}),
    "ten_million": ("Ten million rows from a memmap", ["ten_million.py", "{cache}"], None, {}),
    "exact_leave_one_out": (
        "Exact leave-one-out against warm-started refits",
        ["exact_leave_one_out.py"],
        None,
        {},
    ),
    "refits": ("Methods against refits without single rows", ["refits.py"], None, {}),
    "statsmodels_influence": (
        "Diagnostics of unpenalised models against statsmodels",
        ["statsmodels_influence.py"],
        "rivals",
        {},
    ),
    "svc_leave_one_out": ("Leave-one-out of support vectors", ["svc_leave_one_out.py"], None, {}),
    "cross_validation": (
        "Cross-validation against scikit-learn's",
        ["cross_validation.py", "folds", "pipelines", "loo", "accuracy"],
        None,
        {},
    ),
    "search": ("Grid search against scikit-learn's", ["cross_validation.py", "search"], None, {}),
    "stages": ("Pipelines followed against kept", ["stages.py"], None, {}),
    "cost_curves": (
        "Cost against rows, columns, classes, queries",
        ["cost_curves.py", "linear"],
        None,
        {},
    ),
    "net_cost_curves": (
        "Cost of nets against rows, width, classes, queries",
        ["cost_curves.py", "nets"],
        None,
        ONE_THREAD,
    ),
    "import_time": ("Time to import the package", ["import_time.py"], None, {}),
    "dask_workers": ("Two dask workers against one", ["dask_workers.py"], None, {}),
    "device": ("Tensors against the bare product of tensors", ["device.py"], None, {}),
    "nets": (
        "Nets against kronfluence, pyDVL, captum, dattri and curvlinops",
        ["nets.py", "{cache}/nets", "--rivals", "{rivals}"],
        None,
        ONE_THREAD,
    ),
    "net_products": ("Products with a net's curvature", ["net_products.py"], "curv", ONE_THREAD),
    "net_damping": ("Damping of overfitted nets", ["net_damping.py"], None, ONE_THREAD),
    "ensembles": ("Ensembles of nets", ["ensembles.py", "{cache}/nets"], None, ONE_THREAD),
    "hessian_free": (
        "Hessian-free influence and its ensembles",
        ["hessian_free.py", "{cache}/nets", "--repeats", "3", "--copies", "3"],
        None,
        ONE_THREAD,
    ),
    "multi_stage": ("From a fine-tuned net to its pretraining", ["multi_stage.py"], None, {}),
    "groups": ("Groups of rows", ["groups.py"], None, {}),
    "influential_sets": (
        "Sets of rows that conclusions rest on, and certificates of unlearning",
        ["influential_sets.py"],
        None,
        {},
    ),
    "targets": ("Targets against refits and pyinfluence", ["targets.py"], "rivals", {}),
    "fairness": ("Rows removed for fairness and robustness", ["fairness.py"], None, {}),
    "mislabel": (
        "Wrong labels: average precision and F1 against cleanlab and pyinfluence",
        ["mislabel.py", "detect", "--lines", "{cache}/mislabel.jsonl"],
        "rivals",
        {},
    ),
    "cleaned": (
        "Accuracy of estimators trained without suspects",
        ["mislabel.py", "clean", "--lines", "{cache}/cleaned.jsonl"],
        "rivals",
        {},
    ),
    "mislabel_time": (
        "Time to find wrong labels against cleanlab",
        ["mislabel.py", "time"],
        "rivals",
        ONE_THREAD,
    ),
    "audit_scale": ("Audit of a growing table", ["audit_scale.py"], None, ONE_THREAD),
}


def machine(python):
    """One line on the machine and the versions that an interpreter has at hand."""
    cpu, info = "an unnamed processor", Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"model name\s*:\s*(.+)", info.read_text())
        cpu = found.group(1) if found else cpu
    code = f"""
import importlib.metadata as metadata, platform
print("Python " + platform.python_version(), end="")
for name in {PACKAGES}:
    try:
        print(f", {{name}} {{metadata.version(name)}}", end="")
    except metadata.PackageNotFoundError:
        pass
"""
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return f"{os.cpu_count()} cores of {cpu}, {done.stdout}"


def run(name, cache, rivals):
    """Run one benchmark and keep what it printed."""
    _, arguments, environment, variables = BENCHMARKS[name]
    python = sys.executable if environment is None else f"{rivals}/venv-{environment}/bin/python"
    filled = [part.format(cache=cache, rivals=rivals) for part in arguments]
    paths = {"PYTHONPATH": str(HERE.parent)} if environment else {}
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            [python, str(HERE / filled[0]), *filled[1:]],
            stdout=printed,
            stderr=errors,
            env=os.environ | variables | paths,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        for file in (printed, errors):
            file.seek(0)
        if process.returncode:
            sys.exit(f"{name} failed:\n{errors.read()[-2000:]}")
        output = printed.read().strip("\n").splitlines()
    record = {
        "command": shown(arguments),
        "date": datetime.date.today().isoformat(),
        "machine": machine(python),
        "seconds": round(seconds),
        "peak_mb": round(usage.ru_maxrss / 1000),  # of the largest process
        "output": output,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")


def shown(arguments):
    """The command of a benchmark with its folders named."""
    return " ".join(arguments).format(cache="CACHE", rivals="RIVALS")


def kept():
    """``{name: record}`` of the latest run of each, in the order of the page."""
    return {
        name: json.loads((RESULTS / f"{name}.json").read_text())
        for name in BENCHMARKS
        if (RESULTS / f"{name}.json").exists()
    }


def page():
    """The page, from the kept results."""
    found = kept()
    outputs = {name: "\n".join(record["output"]) for name, record in found.items()}
    lines = [
        "# Benchmarks",
        "",
        "Written by `collect.py` from what the scripts printed; each section is one run, and its "
        "ratios are taken within it. Run one yourself: `python benchmarks/SCRIPT`.",
        "",
        *wanted.tables(outputs),
    ]
    for name, record in found.items():
        title, arguments, *_ = BENCHMARKS[name]
        command = record.get("command", shown(arguments))
        memory = f", at most {record['peak_mb']} MB a process" if "peak_mb" in record else ""
        lines += [
            f"## {title}",
            "",
            f"`{command}`, {record['date']}, {record['seconds']} s{memory}, {record['machine']}",
            "",
            "```text",
            *record["output"],
            "```",
            "",
        ]
    missing = [f"`{name}`" for name in BENCHMARKS if name not in found]
    if missing:
        lines += [f"Not run for this page: {', '.join(missing)}.", ""]
    return "\n".join(lines)


def main(cache, rivals, *names):
    """Run the named benchmarks, or all, and write the page after each."""
    for name in names or BENCHMARKS:
        print(name, flush=True)
        run(name, cache, rivals)
        write()


def write():
    """Write the page."""
    (HERE / "README.md").write_text(page())


if __name__ == "__main__":
    write() if sys.argv[1:] == ["page"] else main(*sys.argv[1:])
