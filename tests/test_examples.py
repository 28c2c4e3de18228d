"""Every example runs, on the reduced data it takes with ``SKINFLUENCE_FAST=1``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").rglob("*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(script, tmp_path):
    run = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": "Agg", "SKINFLUENCE_FAST": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
