"""`focalrepro bench` as a process of its own: the whole way, and what Ctrl-C leaves."""

import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from importlib.util import find_spec

import pytest
import torch

COMMAND = [sys.executable, "-m", "focalrepro.cli", "bench", "--trial", "--device"]
CPU_ROWS = 7 + bool(find_spec("ray"))


@pytest.fixture
def own(data_root, tmp_path):
    """The environment of a process whose data, and so whose trial, is its own."""
    shutil.copytree(data_root / "synthetic", tmp_path / "synthetic")
    return os.environ | {"FOCALREPRO_DATA": str(tmp_path), "OMP_NUM_THREADS": "1"}


def record_in(folder, ending="json"):
    (file,) = (folder / "bench-trial").glob(f"*.{ending}")
    return json.loads(file.read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "rows", "curves"), [("cpu", CPU_ROWS, 4), pytest.param("cuda", 5, 2, marks=pytest.mark.cuda)]
)
def test_the_whole_way(own, tmp_path, device, rows, curves):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    done = subprocess.run([*COMMAND, device], env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record, page = record_in(tmp_path), (tmp_path / "bench-trial" / "README.md").read_text()
    assert (len(record["rows"]), len(record["curves"])) == (rows, curves)
    for row in record["rows"]:
        assert f"| {row['what']} |" in page and f"{row['what']}: " in done.stdout
        assert row["ours"]["low"] > 0 and row["theirs"]["low"] > 0
    assert list((tmp_path / "bench-trial").glob("*.png"))


@pytest.mark.slow
def test_ctrl_c_keeps_the_rows_that_were_measured(own, tmp_path):
    # Where the tests run in the background, Ctrl-C is ignored, and so it would be by what they start.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    command = [*COMMAND, "cpu"]
    process = subprocess.Popen(command, env=own, stdout=subprocess.PIPE, text=True, preexec_fn=heard)
    said = []
    for line in process.stdout:  # limits, then a line for each row
        said.append(line)
        if "ratio" in line and len(said) == 3:
            process.send_signal(signal.SIGINT)
            break
    rest = process.stdout.read().splitlines()
    assert process.wait() == 130
    rows = record_in(tmp_path, "unfinished")["rows"]
    assert not list((tmp_path / "bench-trial").glob("*.json")), "which would take a whole record's place"
    assert [line.split(": ")[0] for line in [*said[1:], *rest]] == [row["what"] for row in rows]
    assert 2 <= len(rows) < CPU_ROWS
