"""The site: links lead to pages or copied files, drawing code is folded, and a dead end is an error."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("site_build", ROOT / "site" / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)

DRAWN = {"output_type": "display_data", "data": {"text/html": "<b>drawn</b>"}, "metadata": {}}


TABLE = {"output_type": "display_data", "data": {"text/markdown": "| a |\n| --- |\n| b |"}, "metadata": {}}


def code(source, outputs=(), tags=()):
    metadata = {"tags": list(tags)}
    return {
        "cell_type": "code",
        "source": source,
        "outputs": list(outputs),
        "metadata": metadata,
        "execution_count": 1,
    }


@pytest.fixture
def checkout(tmp_path):
    """Two profiles with a notebook each; `full` has more runs."""
    cells = [
        {"cell_type": "markdown", "source": "# A notebook\n\n$x^2$ and `a[0](b)`", "metadata": {}},
        code("train = 1", tags=["parameters"]),
        code("train = 2", tags=["injected-parameters"]),
        code("draw_it()", [DRAWN, TABLE]),
        code("def shown(): ..."),
    ]
    language = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    notebook = {"cells": cells, "metadata": language, "nbformat": 4, "nbformat_minor": 4}
    for profile, runs in (("quick", 1), ("full", 2)):
        (folder := tmp_path / "results" / profile / "runs").mkdir(parents=True)
        for i in range(runs):
            (folder / f"{i}.json").write_text("{}")
        (folder.parent / "notebooks").mkdir()
        (folder.parent / "notebooks" / "01.ipynb").write_text(json.dumps(notebook))
        (folder.parent / "README.md").write_text(
            "# A profile\n\n## Table 1\n\n[0](runs/0.json) [n](notebooks/)"
        )
    (tmp_path / "results" / "README.md").write_text("# Results\n\n[quick](quick/README.md#table-1)\n")
    (tmp_path / "loss.py").write_text("x = 1\n")
    (tmp_path / "README.md").write_text("# Front\n\n[1](notebooks/01.ipynb) [code](loss.py)\n")
    return tmp_path


def test_no_link_of_the_committed_pages_leads_nowhere():
    stage = build.Stage(ROOT)
    assert stage.broken == [] and ROOT / "LICENSE" in stage.pages and len(stage.files) > 100


def test_links_lead_to_pages_and_to_copied_files(checkout):
    stage = build.Stage(checkout)
    assert "[1](results/full/notebooks/01.ipynb) [code](loss.py.md)" in stage.pages[checkout / "README.md"]
    quick = checkout / "results" / "quick"
    assert "[0](copy:runs/0.json) [n](notebooks/01.ipynb)" in stage.pages[quick / "README.md"]
    assert quick / "runs" / "0.json" in stage.files and checkout / "loss.py" in stage.pages


def test_parameters_go_and_drawing_folds(checkout):
    cells = json.loads(build.Stage(checkout).pages[checkout / "results" / "quick" / "notebooks" / "01.ipynb"])
    title, *tags = (
        cell["metadata"]["tags"] if i else cell["source"] for i, cell in enumerate(cells["cells"])
    )
    assert title.startswith("# A notebook (`quick`)") and "[`full`](../../full/notebooks/01.ipynb)" in title
    assert ["remove-cell" in t for t in tags] == [True, True, False, False]
    assert ["hide-input" in t for t in tags] == [False, False, True, False]


def test_a_broken_link_is_named(checkout):
    (checkout / "results" / "README.md").write_text("# R\n\n[a](gone.md) ![b](../gone.png) [c](/etc/passwd)")
    broken = build.Stage(checkout).broken
    assert [line.split()[-1] for line in broken] == ["gone.md", "../gone.png", "/etc/passwd"]
    assert all(line.startswith("results/README.md: ") for line in broken)


def test_dead_ends_of_built_pages_are_named(tmp_path):
    (tmp_path / "b.html").write_text('<p id="there">')
    parts = (
        '<a href="b.html#there"><a href="b.html#gone"><img alt="" src="c.png"><script src="https://x/y.js">'
    )
    (tmp_path / "a.html").write_text(parts + '<a class="e" href="https://x/">')
    assert build.dead_ends(tmp_path) == [
        "a.html: no such place on the page b.html#gone",
        "a.html: no file behind c.png",
        "a.html: loads from the network https://x/y.js",
    ]


def built(checkout):
    own = ROOT / ".venv-site" / "bin" / "python"
    python = own if own.exists() else sys.executable
    if python == sys.executable and not importlib.util.find_spec("myst_nb"):
        pytest.skip("the site's builder is not installed: `make site` installs it")
    command = [python, ROOT / "site" / "build.py", "--root", checkout, "--out", checkout / "build" / "site"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_site_builds(checkout):
    done = built(checkout)
    assert done.returncode == 0, done.stderr
    site = checkout / "build" / "site"
    page = (site / "results" / "full" / "notebooks" / "01.html").read_text()
    assert "<p>b</p></td>" in page
    assert "<math" in page and "<b>drawn</b>" in page and "train = 2" not in page and "shown" in page
    assert (site / "results" / "quick" / "runs" / "0.json").read_text() == "{}"
    assert 'href="results/full/notebooks/01.html"' in (site / "index.html").read_text()
    assert (site / ".nojekyll").exists() and (site / "search.html").exists()


def test_an_image_that_is_not_there_fails_the_build(checkout):
    (checkout / "results" / "README.md").write_text('# Results\n\n<img alt="" src="gone.png">\n')
    done = built(checkout)
    assert done.returncode and "results/index.html: no file behind gone.png" in done.stderr


def test_a_folder_of_others_is_not_emptied(tmp_path, monkeypatch):
    (mine := tmp_path / "docs").mkdir()
    (mine / "thesis.txt").write_text("mine")
    monkeypatch.setattr(sys, "argv", ["build.py", "--root", str(ROOT), "--out", str(mine)])
    with pytest.raises(SystemExit, match="docs is there, was not made by this, and would be lost"):
        build.main()
    assert (mine / "thesis.txt").read_text() == "mine"
