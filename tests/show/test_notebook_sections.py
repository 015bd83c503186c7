"""An executed notebook has no empty section: one line stands for what no record holds."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from focalrepro.show import notebooks, sentences
from focalrepro.show.notebooks import with_data
from focalrepro.show.study import Study


def shown(text, mime="text/markdown"):
    return new_output("execute_result", {mime: text})


LEFT = shown(sentences.left_out(Study("quick", records=[]), "how it looks.", "1b", "1a", "1b"))
UNJUDGED = shown(Study("coco256", records=[]).takeaway("nine-anchors").data)
PICTURE = shown("iVBOR", "image/png")


@pytest.mark.parametrize(
    ("outputs", "empty"),
    [
        ([[LEFT]], True),
        ([[], [LEFT], [LEFT]], True),
        ([[shown("–")], [LEFT], [UNJUDGED]], True),
        ([[LEFT], [PICTURE]], False),
        ([[LEFT], [shown("- **Confirmed**")]], False),
        ([[LEFT], [new_output("stream", text="printed")]], False),
        ([[], []], False),
    ],
)
def test_a_section_of_nothing_is_one_line(outputs, empty):
    title, after = new_markdown_cell("# A notebook"), new_markdown_cell("## Next")
    section = [new_markdown_cell("## How it looks"), *(new_code_cell("x", outputs=o) for o in outputs)]
    kept = with_data([title, new_code_cell("import x"), *section, new_markdown_cell("More."), after])
    assert kept[0] is title and kept[-1] is after
    if empty:
        assert [cell.cell_type for cell in kept[2:-1]] == ["markdown"]
        assert "how it looks. To make them: `focalrepro run 1b 1a --profile quick`." in kept[2].source
    else:
        assert kept[2:-2] == section


@pytest.mark.parametrize("kind", [RuntimeError, TimeoutError])  # as nbclient's of dead and of slow kernels
def test_what_ends_a_kernel_names_the_notebook(tmp_path, monkeypatch, kind):
    def killed(*_, **more):
        raise kind("Kernel died\nHere is a preview of the cell")

    monkeypatch.setattr(notebooks.papermill, "execute_notebook", killed)
    source = notebooks.sources(["09"])[0]
    with pytest.raises(RuntimeError, match=rf"^{source.name}: {kind.__name__}: Kernel died \(see .*partial"):
        notebooks.execute(source, tmp_path, "smoke")


def test_a_process_that_is_killed_ends_the_execution(tmp_path, monkeypatch):
    """A pool would wait for it for ever. The cell kills its kernel's parent, which executes the notebook."""
    notebook = nbformat.read(notebooks.sources(["09"])[0], as_version=4)
    notebook.cells = [*notebook.cells[:2], new_code_cell("import os; os.kill(os.getppid(), 9)")]
    nbformat.write(notebook, tmp_path / "09_killed.ipynb")
    monkeypatch.setattr(notebooks, "sources", lambda only: [tmp_path / "09_killed.ipynb"])
    monkeypatch.setattr(notebooks, "results_root", lambda profile: tmp_path / "results")
    with pytest.raises(RuntimeError, match="a process that executes notebooks was killed"):
        notebooks.execute_all("smoke")


def test_only_the_checkout_itself_is_taken_out_of_a_path(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "repo_root", lambda: tmp_path / "repo")
    told = f"{tmp_path}/repo/data/x and {tmp_path}/repo2/data, from {tmp_path}/repo."
    assert notebooks.without_paths(told) == f"data/x and {tmp_path}/repo2/data, from .."
