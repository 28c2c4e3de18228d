"""Time and memory of an audit as the table grows: 50 columns, a committee of five.

Each size runs in a process of its own, so that its peak memory is its own. Times are of the
processors (of one thread with OMP_NUM_THREADS=1), so that a busy machine matters little.

    OMP_NUM_THREADS=1 python benchmarks/audit_scale.py
    OMP_NUM_THREADS=1 python benchmarks/audit_scale.py --rows 12500 25000 50000 100000
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np


def one(n):
    """Audit ``n`` rows; print seconds and peak megabytes as JSON."""
    import pandas as pd

    from skinfluence.audit import audit_table

    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 50))
    y = (X[:, :5].sum(axis=1) + rng.normal(size=n) > 0).astype(int)
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(50)]).assign(y=y)
    del X
    stages, started = [], time.process_time()
    audit_table(frame, "y", on_stage=lambda text: stages.append((text, time.process_time())))
    ended = time.process_time()
    starts = [at for _, at in stages] + [ended]
    parts = {
        text: round(after - at, 1) for (text, at), after in zip(stages, starts[1:], strict=True)
    }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(dict(rows=n, seconds=ended - started, peak_mb=peak, parts=parts)))


def main():
    """Run all sizes and fit the exponents of time and memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[25_000, 50_000, 100_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return one(options.one)
    lines = []
    for n in options.rows:
        command = [sys.executable, __file__, "--one", str(n)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        lines.append(json.loads(output.splitlines()[-1]))
        line = lines[-1]
        print(f"{n:>8,} rows: {line['seconds']:7.1f} s of processor, {line['peak_mb']:6.0f} MB")
        print(f"          {line['parts']}", flush=True)
    if len(lines) > 1:
        rows = np.log([line["rows"] for line in lines])
        for what in ("seconds", "peak_mb"):
            slope = np.polyfit(rows, np.log([line[what] for line in lines]), 1)[0]
            print(f"{what} grow as rows to the power {slope:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
