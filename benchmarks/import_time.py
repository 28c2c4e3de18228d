"""What importing this package adds to importing scikit-learn's linear models.

    python benchmarks/import_time.py [repeats]

Fresh processes in turn; medians of processor time, byte-code made before.
"""

import subprocess
import sys

import numpy as np

CODE = """
import time
import {first}
start = time.process_time()
import {second}
print(time.process_time() - start)
"""


def seconds(first, second):
    """Seconds to import a module after another."""
    code = CODE.format(first=first, second=second)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout)


def main(repeats=5):
    """Print both times."""
    both = [
        (seconds("time", "sklearn.linear_model"), seconds("sklearn.linear_model", "skinfluence"))
        for _ in range(repeats)
    ]
    base, added = np.median(both, axis=0)
    print(f"scikit-learn's linear models: {base:.3f} s")
    print(f"added by skinfluence: {added:.3f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
