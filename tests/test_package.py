import importlib.metadata
import subprocess
import sys

import skinfluence


def test_import_is_light():
    # scikit-learn imports pandas wherever it is installed, so pandas is hidden from both.
    code = """
import sys
sys.modules["pandas"] = None
import skinfluence
heavy = {"torch", "skorch", "matplotlib", "dask", "polars"}
print(*sorted(heavy.intersection(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


def test_version_is_that_of_the_metadata():
    assert skinfluence.__version__ == importlib.metadata.version("skinfluence")
