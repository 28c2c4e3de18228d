import configparser
import importlib.metadata
import subprocess
import sys
from pathlib import Path

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


def test_data_files_are_installed():
    """Every file in the package that is no module matches a pattern of setup.cfg."""
    root = Path(__file__).parents[1]
    setup = configparser.ConfigParser()
    setup.read(root / "setup.cfg")
    covered = {
        path
        for package, patterns in setup["options.package_data"].items()
        for pattern in patterns.split()
        for path in root.joinpath(*package.split(".")).glob(pattern)
    }
    files = {path for path in (root / "skinfluence").rglob("*") if path.is_file()}
    data = {p for p in files if p.suffix not in (".py", ".pyc")}
    assert data and data == covered
