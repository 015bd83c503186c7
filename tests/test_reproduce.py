"""`make reproduce` at profile smoke: the whole path, notebooks included, on data and results of its own."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from focalrepro import cli
from focalrepro.show.notebooks import sources
from focalrepro.study.status import print_status

NOTEBOOKS = [p.stem for p in sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))]


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


def test_verify_passes_and_names_what_was_changed(reproduced):
    env, results, _ = reproduced
    focalrepro("verify", "--profile", "smoke", env=env)
    page = results / "README.md"
    text = page.read_text()
    page.write_text(text.replace("| α = 0.75 | ", "| α = 0.76 | ", 1))
    done = focalrepro("verify", "--profile", "smoke", env=env, check=False)
    assert done.returncode == 1 and "row 'α = 0.75', 'row': page says α = 0.76, records" in done.stdout
    page.write_text(text)
    stray = results / "runs" / "copy (1).json"
    stray.write_text("{}")
    done = focalrepro("verify", "--profile", "smoke", env=env, check=False)
    assert done.returncode == 1 and "runs/copy (1).json: no run has such a name" in done.stdout
    stray.unlink()


def test_committed_runs_are_taken_only_when_asked(reproduced, tmp_path):
    env, results, _ = reproduced
    fresh = {**env, "FOCALREPRO_DATA": str(tmp_path / "data")}
    os.makedirs(fresh["FOCALREPRO_DATA"])
    os.symlink(os.path.join(env["FOCALREPRO_DATA"], "synthetic"), tmp_path / "data" / "synthetic")
    focalrepro("run", "1a", "--profile", "smoke", "--limit", "1", env=fresh)
    status = focalrepro("status", "--profile", "smoke", env=fresh).stdout
    assert "1 done" in status and "6 committed" in status
    taken = focalrepro("run", "--profile", "smoke", "--reuse", str(results), env=fresh).stdout
    assert "12 finished runs taken" in taken and "13 done already" in taken


# ---- options and files that are wrong: told at once, by name, and nothing is made


@pytest.fixture
def nothing_yet(tmp_path, monkeypatch):
    """Empty folders for data and results."""
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FOCALREPRO_RESULTS", str(tmp_path / "results"))
    return tmp_path


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("run", "--seeds", "-1"), "--seeds is -1; it must be 1 … 1000, or 0 for"),
        (("run", "--workers", "-2"), "--workers is -2; it must be 1 … 1000, or 0 for"),
        (("run", "--limit", "-1"), "--limit is -1; it must be 1 … 1000, or 0 for all"),
        (("run", "--device", "gpu"), "--device is 'gpu'; it must be auto, cpu, cuda or cuda:N"),
        (("run", "--device", "cuda:x"), "--device is 'cuda:x'"),
        (("reproduce", "--device", "cpu:0"), "--device is 'cpu:0'"),
        (("bench", "--device", "mps"), "--device is 'mps'"),
        (("status", "--seeds", "100000"), "--seeds is 100000; it must be 1 … 1000"),
        (("status", "--seeds", "-1"), "--seeds is -1; it must be 1 … 1000, or 0 for"),
        (("notebooks", "77"), "no notebook's name begins with '77'; there are 00_the_answer, 01"),
        (("notebooks", "00", "x"), "no notebook's name begins with 'x'"),
        (("notebooks", "--profile", "typo"), "there is no profile 'typo'; there are smoke, quick"),
        (("report", "--profile", "typo"), "there is no profile 'typo'; there are smoke, quick"),
        (("verify", "--profile", "qick"), "there is no profile 'qick'; there are smoke, quick"),
        (("verify", "--profile", "COCO-CPU"), "; did you mean 'coco-cpu'?"),
        (("run", "1A"), "there is no ablation '1A'; there are lr, rival-lr, "),
        (("run", "normaliser"), "; did you mean 'normalizer'?"),
        (("verify", "--profile", "quick"), "no committed results; make them with focalrepro report"),
    ],
)
def test_wrong_input_is_named_before_anything_is_made(nothing_yet, told, args, message):
    assert message in told(*args)
    assert list(nothing_yet.iterdir()) == []


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_devices_that_there_may_be(name):
    cli.check_device(name)


def test_a_notebook_is_chosen_by_how_its_name_begins():
    assert [p.stem for p in sources(("01", "00"))] == NOTEBOOKS[:2]


def test_status_prints_the_command_of_its_own_runs(data_root, nothing_yet, capsys):
    (nothing_yet / "data").mkdir()
    for name in ("synthetic", "mine"):
        (nothing_yet / "data" / name).symlink_to(data_root / "synthetic")
    print_status("smoke", (), 2)
    assert "  focalrepro run --profile smoke --seeds 2\n" in capsys.readouterr().out
    print_status("mine", ("1a",), 0)
    assert "  focalrepro run 1a --profile mine\n" in capsys.readouterr().out


def test_status_tells_what_data_would_take_that_is_not_here(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path))
    assert cli.status(("1b",), profile="coco") == 0
    said = capsys.readouterr().out
    assert "focalrepro data coco --from PATH" in said and "7 runs: 7 missing" in said
    assert "GPU-hours) on a machine of eight GPUs (a guess: none was run here)" in said
