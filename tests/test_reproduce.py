"""`make reproduce` at profile smoke: the whole path, notebooks included, on data and results of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest

NOTEBOOKS = [p.stem for p in sorted((Path(__file__).parents[1] / "notebooks").glob("[0-9]*.ipynb"))]


def focalrepro(*args, env, check=True):
    command = [sys.executable, "-m", "focalrepro.cli", *args]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    if check:
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """Environment, results folder and output of one reproduction."""
    root = tmp_path_factory.mktemp("reproduction")
    env = {
        **os.environ,
        "FOCALREPRO_DATA": str(root / "data"),
        "FOCALREPRO_RESULTS": str(root / "results"),
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    done = focalrepro("reproduce", "--profile", "smoke", env=env)
    return env, root / "results" / "smoke", done.stdout


def test_it_leaves_everything(reproduced):
    _, results, _ = reproduced
    assert len(list((results / "runs").glob("*.json"))) == 13
    assert {p.name for p in (results / "figures").glob("*.png")} >= {"1a.png", "1b.png"}
    assert {p.stem for p in (results / "notebooks").glob("*.ipynb")} == set(NOTEBOOKS)
    assert not list(results.rglob("*partial*"))


def test_it_ends_with_where_to_read(reproduced):
    _, results, output = reproduced
    assert output.strip().splitlines()[-1].startswith("Done in")
    assert str(results / "README.md") in output.strip().splitlines()[-1]


def test_readme_has_both_tables_beside_the_papers_numbers(reproduced):
    text = (reproduced[1] / "README.md").read_text()
    for row in ("α = 0.75", "γ = 2, α = 0.25"):
        line = next(x for x in text.splitlines() if x.startswith(f"| {row} |"))
        assert ("31.1" if "0.75" in row else "34.0") in line
    linked = [x.split("](runs/")[1].split(")")[0] for x in text.splitlines() if "](runs/" in x]
    assert len(linked) == 14 and all((reproduced[1] / "runs" / name).exists() for name in linked)


def test_results_csv_has_the_promised_columns(reproduced):
    frame = pd.read_csv(reproduced[1] / "results.csv")
    promised = "ablation row gamma alpha loss seed AP AP50 AP75 APs APm APl status run_id seconds"
    promised += " images_per_second device"
    assert list(frame.columns[: len(promised.split())]) == promised.split()
    assert (frame.groupby("ablation").size()[["1a", "1b"]] == 7).all()
    assert set(frame["status"]) == {"done"}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_ran_to_their_end(reproduced, name):
    notebook = nbformat.read(reproduced[1] / "notebooks" / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    assert all(cell.execution_count for cell in code)
    assert not [o for cell in code for o in cell.outputs if o.output_type == "error"]
    assert notebook.metadata.papermill.parameters.profile == "smoke"
    assert any("image/png" in o.get("data", {}) for cell in code for o in cell.outputs)


def test_a_second_time_nothing_is_trained(reproduced):
    env, _, _ = reproduced
    store = os.path.join(env["FOCALREPRO_DATA"], "runs", "smoke")
    before = {
        p: os.stat(os.path.join(store, p)).st_mtime_ns for p in os.listdir(store) if p.endswith(".json")
    }
    output = focalrepro("run", "--profile", "smoke", env=env).stdout
    assert "13 done already" in output
    assert before == {p: os.stat(os.path.join(store, p)).st_mtime_ns for p in before}


def test_verify_passes_on_what_was_frozen_and_fails_on_a_changed_result(reproduced):
    env, results, _ = reproduced
    assert (
        focalrepro("verify", "--profile", "smoke", env=env, check=False).returncode == 2
    )  # nothing expected yet
    focalrepro("verify", "--profile", "smoke", "--freeze", env=env)
    focalrepro("verify", "--profile", "smoke", env=env)
    path = results / "expected.json"
    expected = json.loads(path.read_text())
    expected["rows"]["1a / α = 0.75"] |= {"low": 50.0, "high": 60.0}
    changed = {**env, "FOCALREPRO_RESULTS": env["FOCALREPRO_RESULTS"]}
    path.write_text(json.dumps(expected))
    done = focalrepro("verify", "--profile", "smoke", env=changed, check=False)
    assert done.returncode == 1 and "1a / α = 0.75: AP" in done.stdout
    path.unlink()


def test_committed_runs_are_taken_only_when_asked(reproduced, tmp_path):
    env, results, _ = reproduced
    fresh = {**env, "FOCALREPRO_DATA": str(tmp_path / "data")}
    os.makedirs(fresh["FOCALREPRO_DATA"])
    os.symlink(os.path.join(env["FOCALREPRO_DATA"], "synthetic"), tmp_path / "data" / "synthetic")
    assert (
        "13 committed" not in focalrepro("run", "1a", "--profile", "smoke", "--limit", "1", env=fresh).stdout
    )
    status = focalrepro("status", "--profile", "smoke", env=fresh).stdout
    assert "1 done" in status and "6 committed" in status
    taken = focalrepro("run", "--profile", "smoke", "--reuse", str(results), env=fresh).stdout
    assert "12 finished runs taken" in taken and "13 done already" in taken
