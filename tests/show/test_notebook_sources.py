"""The committed notebooks: clean sources that hold no logic and run anywhere."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
NAMES = {
    *("00_focal_loss", "01_dataset", "02_one_run", "03_alpha", "04_gamma"),
    *(
        "05_loss_distribution",
        "06_ohem_and_variants",
        "07_anchors_depth_scale",
        "08_rare_events",
        "09_results",
    ),
}


def test_all_are_there():
    assert {path.stem for path in NOTEBOOKS} >= NAMES


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_source_only(notebook):
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in code(notebook))
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


def test_parameters(notebook):
    tagged = [cell for cell in code(notebook) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    lines = tagged[0].source.splitlines()
    assert {"profile", "show_photos"} <= {line.split("=")[0].strip() for line in lines}
    for line in lines:  # papermill loses a parameter whose line holds a second "="
        assert line.count("=") == 1
        ast.literal_eval(line.split("=")[1].strip())


def test_opens_with_what_it_reproduces(notebook):
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    for word in ("**Reproduces**", "**Command:**", "**Time and hardware:**", "**Expected"):
        assert word in first.source


def test_narrates_and_calls(notebook):
    for cell in code(notebook):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                assert node.end_lineno - node.lineno < 6, f"{node.name} belongs into the package"


def test_no_paths(notebook):
    for cell in notebook.cells:
        assert not re.search(r"(^|[\s\"'(`])(/[a-z]+/|\.\./|[A-Z]:\\)", cell.source), cell.source
        assert "chdir" not in cell.source
