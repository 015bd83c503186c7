"""The committed notebooks: clean sources that hold no logic and run anywhere."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
NAMES = {
    *("00_the_answer", "01_the_loss", "02_the_data", "03_one_image", "04_alpha_gamma", "05_why"),
    *("06_is_it_fair", "07_alternatives", "08_anchors_depth_size", "09_rare_events", "10_your_own"),
    "A_all_results",
}


def test_all_are_there():
    assert {path.stem for path in NOTEBOOKS} == NAMES


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
    assert {"profile", "show_photos", "train"} <= {line.split("=")[0].strip() for line in lines}
    for line in lines:  # papermill loses a parameter whose line holds a second "="
        assert line.count("=") == 1
        value, comment = line.split("=")[1].split("#")
        ast.literal_eval(value.strip())
        assert re.match(r" (str|bool|int|list of float)\b", comment), "its type"


def test_opens_with_its_question(notebook):
    first = notebook.cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    assert re.search(r"\*\*[^*]+[?.]\*\*", first.source), "a question in bold"
    assert re.search(r"^\*.*\*( |$)", first.source, re.MULTILINE), "what it reads or trains, in italics"


def test_narrates_and_calls(notebook):
    for cell in code(notebook):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                assert node.end_lineno - node.lineno < 10, f"{node.name} belongs into the package"


def test_no_paths(notebook):
    for cell in notebook.cells:
        assert not re.search(r"(^|[\s\"'(`])(/[a-z]+/|\.\./|[A-Z]:\\)", cell.source), cell.source
        assert "chdir" not in cell.source
