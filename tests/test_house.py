"""The house: no import climbs from a room to one above it, all modules have one, and there is no circle."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_rooms_of_pyproject_hold():
    pytest.importorskip("importlinter", reason="import-linter is not installed (extra dev)")
    # In a process of its own: it configures logging, which would silence the loggers of tests after this one.
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "Contracts: 2 kept, 0 broken" in found.stdout
