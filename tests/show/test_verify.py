"""What differs between two pages is named by its table, row and column."""

import nbformat
import pytest
from made_up import commit, quick_runs
from nbformat.v4 import new_code_cell, new_notebook, new_output

from focalrepro.evidence.difference import Evidence
from focalrepro.show.sentences import takeaway
from focalrepro.show.verify import SAID, behind, differences
from focalrepro.study.study import Study

PAGE = """# Page

Text.

## One

| row | AP |
| --- | --- |
| a\\|b | 1.0 |
| c | 2.0 |

## Two

| verdict | claim |
| --- | --- |
| yes | It works. |
"""


@pytest.mark.parametrize(
    ("change", "off"),
    [
        (("| c | 2.0 |", "| c | 3.0 |"), ["p.md: One, row 'c', 'AP': page says 3.0, records say 2.0"]),
        (("| 1.0 |", "|  |"), ["p.md: One, row 'a\\\\|b', 'AP': page says nothing, records say 1.0"]),
        (("| yes |", "| no |"), ["p.md: Two, row 'It works.', 'verdict': page says no, records say yes"]),
        (("| AP |", "| AR |"), ["p.md: One, row 'row', 'AP': page says AR, records say AP"]),
        (("| c | 2.0 |\n", ""), ["p.md: should be: | c | 2.0 |"]),
        (("Text.", "Words."), ["p.md: stands there: Words.", "p.md: should be: Text."]),
        (("| c | 2.0 |", "| c | 2.0 | x |"), ["p.md: stands there: | c | 2.0 | x |", "p.md: should be: | c | 2.0 |"]),  # noqa: E501
    ],
)  # fmt: skip
def test_a_page(change, off):
    assert differences("p.md", PAGE, PAGE) == []
    assert differences("p.md", PAGE.replace(*change), PAGE) == off


def test_two_rows_that_change_together_are_told_apart():
    there = PAGE.replace("1.0", "1.5").replace("2.0", "2.5")
    assert [line.split(", ")[1] for line in differences("p.md", there, PAGE)] == ["row 'a\\\\|b'", "row 'c'"]


def test_a_csv():
    right = 'ablation,row,seed,AP\n1b,"γ = 2, α = 0.25",0,31.5\n1b,other,1,\n'
    (line,) = differences("results.csv", right.replace("31.5", "32"), right)
    assert line == "results.csv: row '1b, γ = 2, α = 0.25, 0', 'AP': page says 32, records say 31.5"
    (line,) = differences("results.csv", right.replace("1,\n", "1,7\n"), right)
    assert line.endswith("page says 7, records say nothing")


def test_a_notebook_from_before_the_last_records_is_named(results):
    commit(quick_runs())
    study = Study.committed("quick")
    said = takeaway(Evidence(study), "fl-plain-ce", "half-gamma")
    assert SAID.match(f"- **Measured, against it: A claim.** 3.0 (`{study.name}`; 3 seeds)")
    folder = study.folder / "notebooks"
    folder.mkdir()

    def execute(text, name="05_why.ipynb"):
        output = new_output("display_data", {"text/markdown": text})
        nbformat.write(new_notebook(cells=[new_code_cell("…", outputs=[output])]), folder / name)

    execute(said)
    assert behind(study) == []
    execute(said.replace("8 seeds", "7 seeds").replace("3 seeds", "2 seeds"))
    (line,) = behind(study)
    assert line.startswith("notebooks/05_why.ipynb: not as the records have it: - **")
    assert line.endswith("; again: focalrepro notebooks 05 --profile quick")
    execute("- **Other bold text: of no claim** (`quick`, as it is)")
    assert behind(study) == []
