"""The script of `make stress`, with few of each: kills at random moments, and inputs spoiled at random."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import inputs
import kills
import stress
from made_up import record

from focalrepro.config import RunConfig

SCRIPT = Path(__file__).with_name("stress.py")


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc; PR_SET_PDEATHSIG is Linux's")
def test_nothing_is_lost(tmp_path):
    asked = {"--kills": 3, "--runs": 2, "--inputs": 10, "--seed": 3, "--minutes": 4, "--out": tmp_path}
    command = [sys.executable, SCRIPT, *(text for pair in asked.items() for text in pair)]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "stress.json").read_text())["found"]
    assert found.pop("kills")["tried"] == 3 and found.pop("killed campaigns")["tried"] >= 1
    assert set(found) == {"COCO JSON", "record", "CSV", "image", "tar"}
    assert all(entry["tried"] == 10 and entry["refused"] > 0 for entry in found.values())
    page = (tmp_path / "README.md").read_text()
    assert "| kills | 3 | 3 | 0 |" in page and "| tar | 10 | 10 | 0 |" in page and "Nothing was lost." in page


def test_what_is_lost_is_found(tmp_path, monkeypatch):
    """The script's own eyes: a crash, another error, a message of two lines,
    a hang, a record that differs.
    """

    def fails(rng, folder):
        index = int(folder.name)
        if index == 1:
            raise KeyError("x")
        if index == 2:
            os._exit(9)
        if index == 3:
            time.sleep(60)
        end = "\n" if index == 4 else ""
        return inputs._refused(ValueError(f"{folder}: why{end}"), folder)

    monkeypatch.setitem(inputs.KINDS, "made", fails)
    monkeypatch.setattr(inputs, "LONGEST", 1)
    found = inputs.read_all("made", 6, 0, tmp_path / "made", time.monotonic() + 60)
    assert (found["tried"], found["read"], found["refused"]) == (6, 0, 2)
    assert [line.split(" at ")[0] for line in found["lost"]] == [
        *("input 1: KeyError", "input 2: the process died (9)", "input 3: Hangs", "input 4: AssertionError")
    ]
    a, b = record(), record(RunConfig(seed=1))
    assert kills.same([a, b], [b, a]) == [] and kills.same([a], [a, b]) == [b.run_id]
    assert kills.same([record(ap=31.0)], [a]) == [a.run_id]
    assert kills._unreadable(tmp_path) == []
    (tmp_path / f"{a.run_id}.json").write_text("{")
    assert "not readable as JSON" in kills._unreadable(tmp_path)[0]
    assert stress._tally([{"lost": []}, {"lost": ["why"]}]) == {"tried": 2, "lost": ["2: why"]}
