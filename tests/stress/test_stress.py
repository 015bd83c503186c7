"""The script of `make stress`, with few of each: kills at random moments, and inputs spoiled at random."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("stress.py")


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
