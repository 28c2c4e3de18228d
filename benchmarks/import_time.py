"""What importing this package adds to importing scikit-learn's linear models.

    python benchmarks/import_time.py [repeats]

Fresh processes in turn; medians of processor time, byte-code made before.
"""

import os
import subprocess
import sys
import tempfile

import numpy as np

CODE = """
import time
import {first}
start = time.process_time()
import {second}
print(time.process_time() - start)
"""


def seconds(first, second, folder):
    """Seconds to import a module after another, with byte code kept in a folder."""
    code = CODE.format(first=first, second=second)
    environment = os.environ | {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def main(repeats=5):
    """Print both times."""
    pairs = [("time", "sklearn.linear_model"), ("sklearn.linear_model", "skinfluence")]
    with tempfile.TemporaryDirectory() as folder:
        both = [[seconds(*pair, folder) for pair in pairs] for _ in range(repeats + 1)]
    base, added = np.median(both[1:], axis=0)  # the first made the byte code
    print(f"scikit-learn's linear models: {base:.3f} s")
    print(f"added by skinfluence: {added:.3f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
