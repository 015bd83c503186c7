"""The house: no import climbs from a room to one above it,
and no two modules import each other in a circle."""

import ast
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def modules():
    """Every module of the package by its name, with the modules of
    the package that it imports anywhere in it."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / "focalrepro").rglob("*.py")
    }
    found = {}
    for name, path in files.items():
        imported = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        found[name] = {i for i in imported if i in files and i not in (name, "focalrepro")}
    return found


def layers():
    """The rooms from the roof to the ground, as pyproject.toml has them; those beside each other in a set."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (contract,) = tool["contracts"]
    return [set(line.replace("|", " ").replace(":", " ").split()) for line in contract["layers"]]


def floor(name, rooms):
    """How far below the roof a module lies; None for the package itself."""
    return next((i for i, beside in enumerate(rooms) for r in beside if f"{name}.".startswith(f"{r}.")), None)


def test_every_module_has_a_room():
    rooms = layers()
    assert [name for name in modules() if floor(name, rooms) is None] == ["focalrepro"]


def test_no_circle():
    graph = {name: {i for i in imported if i != "focalrepro"} for name, imported in modules().items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports in a circle: {' -> '.join(error.args[1])}")


def test_import_linter_says_the_same():
    pytest.importorskip("importlinter", reason="import-linter is not installed (extra dev)")
    # In a process of its own: it configures logging, which would silence the loggers of tests after this one.
    lint = [
        sys.executable,
        "-c",
        "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())",
    ]
    found = subprocess.run(lint, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
